"""Broken, hostile and spoilt Wikipedia dumps: each ends in a clear account, with every whole page before the break."""

import bz2
import gzip
import lzma
import re
from pathlib import Path

import pytest

from data_pipelines.dumps import wikipedia_dump
from data_pipelines.sources import wikipedia
from tests.data_pipelines.fuzz import mutants, survive
from tests.data_pipelines.sources.test_wikipedia import BULGARIAN, ENGLISH, page, read


@pytest.fixture
def in_process(monkeypatch):
    """Without the pool, which is tested by itself: starting a process for each of hundreds of files takes too long."""

    def here(function, items, **settings):
        return ((item, function(item)) for item in items)

    monkeypatch.setattr(wikipedia, "run_guarded", here)


def failed(data: bytes, name: str, folder: Path, **settings):
    (folder / name).write_bytes(data)
    documents, account = read(folder / name, **settings)
    return [document.id for document in documents], dict(account.errors)


def test_a_clipped_dump_gives_what_came_before_and_one_error(tmp_path, in_process):
    whole = [document.id for document in read(ENGLISH)[0]]
    xml = bz2.decompress(ENGLISH.read_bytes())
    for kind, data in (("xml", xml), ("xml.bz2", ENGLISH.read_bytes()), ("xml.gz", gzip.compress(xml))):
        for cut in range(1, len(data) - 1, len(data) // 60):
            ids, errors = failed(data[:cut], f"enwiki.{kind}", tmp_path)
            assert ids == whole[: len(ids)], (kind, cut)
            assert sum(errors.values()) == 1, (kind, cut, errors)
    assert failed(xml[:-14], "enwiki.xml", tmp_path) == (whole, {"the dump ends before </mediawiki>": 1})
    assert failed(xml[:90], "enwiki.xml", tmp_path) == ([], {"no page at the start of the file": 1})


def test_a_corrupt_stream_costs_its_own_pages_only(tmp_path):
    data = bytearray(ENGLISH.read_bytes())
    streams = list(wikipedia_dump.streams(ENGLISH))
    assert len(streams) == 5 and b"".join(streams) == data
    data[len(streams[0]) + 100] ^= 255
    ids, errors = failed(bytes(data), "enwiki.xml.bz2", tmp_path)
    assert ids == [f"wikipedia/en/{number}" for number in (18, 19, 23)]
    assert errors == {"the compressed file is corrupt": 1}


def test_pages_that_are_no_xml_are_counted_and_the_next_is_read(tmp_path):
    bad = b"<page><title>a &b;</title></page><page><title>x" + page("5", "Text.")
    dump = b"<mediawiki>" + page("1", "Text.") + bad + page("2", "Text \x01") + page("3", "Text.") + b"</mediawiki>"
    ids, errors = failed(dump, "enwiki.xml", tmp_path, min_characters=1)
    assert ids == ["wikipedia/en/1", "wikipedia/en/5", "wikipedia/en/3"]
    assert errors == {"not well-formed XML": 2, "a page without its end": 1}


@pytest.mark.parametrize(
    "start",
    [
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><mediawiki>',
        b'<!DOCTYPE x SYSTEM "http://127.0.0.1/x.dtd"><mediawiki>',
        b'<mediawiki><!ENTITY x SYSTEM "file:///etc/passwd">',
    ],
)
def test_a_dtd_is_refused(start, tmp_path):
    dump = start + page("1", "&a;&b;&x; Text.") + b"</mediawiki>"
    assert failed(dump, "enwiki.xml", tmp_path) == ([], {"XML with a DTD is refused": 1})
    hidden = b"<mediawiki>" + page("1", "T") + start + page("2", "&x; T") + page("3", "T") + b"</mediawiki>"
    ids, errors = failed(hidden, "enwiki.xml", tmp_path, min_characters=1)
    assert ids == ["wikipedia/en/1", "wikipedia/en/3"] and errors == {"not well-formed XML": 1}


def test_a_page_of_many_megabytes_is_dropped_and_the_next_is_read(tmp_path):
    huge = page("2", "A word. " * (wikipedia_dump.MAX_PAGE // 8))
    dump = b"<mediawiki>" + page("1", "Text.") + huge + page("3", "Text.") + b"</mediawiki>"
    for name, data in (("enwiki.xml", dump), ("enwiki.xml.gz", gzip.compress(dump, 1))):
        (tmp_path / name).write_bytes(data)
        documents, account = read(tmp_path / name, min_characters=1)
        assert [document.id for document in documents] == ["wikipedia/en/1", "wikipedia/en/3"]
        assert account.dropped == {"larger than 8 MB": 1} and not account.errors


def test_bombs_end_with_a_reason(tmp_path):
    nothing = bz2.compress(b"<mediawiki>" + page("1", "T") + b" " * (100 << 20))
    assert failed(nothing, "enwiki.xml.bz2", tmp_path, min_characters=1) == (
        ["wikipedia/en/1"],
        {"the file expands more than 100-fold": 1},
    )
    streams = bz2.compress(b"<mediawiki>") + bz2.compress(page("1", "T") + b" " * (100 << 20))
    streams += bz2.compress(page("2", "T")) + bz2.compress(b"</mediawiki>")
    ids, errors = failed(streams, "enwiki.xml.bz2", tmp_path, min_characters=1)
    assert (ids, errors) == (["wikipedia/en/1", "wikipedia/en/2"], {"the file expands more than 100-fold": 1})
    assert failed(gzip.compress(b"<" * (5 << 20)), "enwiki.xml.gz", tmp_path) == (
        [],
        {"no page at the start of the file": 1},
    )


def test_a_page_the_parser_dies_on_costs_only_itself(tmp_path, monkeypatch):
    pages = b"".join(page(str(number), "Text " + "x" * 200) for number in range(40))
    (tmp_path / "enwiki.xml").write_bytes(b"<mediawiki>" + pages + b"</mediawiki>")
    guard = wikipedia.run_guarded

    def dying(function, items, **settings):
        """Stands in for the pool: a block with page 7 in it fails, by itself too."""
        for item in items:
            bad = re.search(rb"<id>7</id>", item.data)
            yield item, wikipedia.Failure("crashed the parser") if bad else next(guard(function, [item], **settings))[1]

    monkeypatch.setattr(wikipedia, "run_guarded", dying)
    documents, account = read(tmp_path / "enwiki.xml")
    assert len(documents) == 39 and account.errors == {"crashed the parser": 1}


WORDS = [
    b"<page>",
    b"</page>",
    b"</mediawiki>",
    b"<text>",
    b"&lt;",
    b"<![CDATA[",
    b"<!DOCTYPE",
    b"<ns>1</ns>",
    b"BZh91AY&SY",
]


def test_2000_mutants_of_a_page_end_in_a_result():
    wiki = wikipedia.Wiki("en", "https://x", None, frozenset(), frozenset())
    start = bz2.decompress(ENGLISH.read_bytes()).split(b"</siteinfo>")[1]

    def parse(data: bytes) -> None:
        for outcome, value in wikipedia.read_block(wikipedia.Block(wiki, data, last=True)):
            assert outcome in ("kept", "dropped", "error") and value

    survive(parse, mutants([start[:3000], page("1", "'''T''' [[x]] {{y}}")], words=WORDS))


def test_mutants_of_a_file_end_in_an_account(tmp_path, in_process):
    xml = bz2.decompress(ENGLISH.read_bytes())
    seeds = [ENGLISH.read_bytes(), xml[:4000] + b"</mediawiki>", gzip.compress(xml), BULGARIAN.read_bytes()]
    seeds += [bz2.compress(xml), lzma.compress(xml)]
    path = tmp_path / "enwiki.xml"

    def parse(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    survive(parse, mutants(seeds, words=WORDS))
