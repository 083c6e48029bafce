"""C4 made anew from crawled pages: which pages and lines stay, and that every record is accounted for."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from datatrove.data import Document

from data_pipelines.account import Account
from data_pipelines.sources.c4 import DEFAULTS, inputs, normal_url, read, rules
from tests.conftest import SHARED
from tests.data_pipelines.fuzz import mutants, survive

SAMPLES = Path(__file__).resolve().parents[3] / "data_pipelines" / "samples" / "c4"
WET = SAMPLES / "CC-MAIN-20190426000000-20190426020000-00000.warc.wet.gz"
SHARD = SAMPLES / "c4-train.00000-of-01024.json.gz"
ROCK_POOLS = """\
Rock pools are left behind when the tide goes out. They hold sea water that the sun warms within an hour. \
Animals that live there must bear heat, salt and sudden rain.
A limpet clamps itself to the rock and waits for the water to return. It moves at night to graze on weed, and comes home \
to the same scar in the stone.
Take nothing but photographs and memories!
“What should I bring along?” is what people ask us "most of all."
Bring boots that grip, a warm coat and somebody who knows the tides."""
HARBOUR = """\
Our neighbours at Shore Walks put it better than we could ourselves.
We went to look on Saturday, with Mr. Pell and two of his children. The wind was so strong that nobody stayed for long. \
The limpets, of course, did not seem to mind at all.
Could there be a better way to spend a morning than this one?"""
KEYS = """\
The line that comes next is a key and not a sentence, so it goes.
Keys like these are safe to share with anybody who asks for them.
The private half must never leave the machine it was made on.
If it does, make a new pair and tell everyone about it soon."""


@pytest.fixture
def badwords(tmp_path) -> str:
    """A list with a word of the sample's."""
    (tmp_path / "badwords").write_text("grumblefrock\n\nsilly goose\n", encoding="utf-8")
    return str(tmp_path / "badwords")


def read_all(paths, **settings):
    account = Account()
    documents = list(read(paths, settings, account))
    account.check()
    assert account.kept == len(documents)
    return documents, account


def test_the_sample_crawl_becomes_three_clean_pages(badwords):
    documents, account = read_all([WET], badwords=badwords)
    assert [document.text for document in documents] == [ROCK_POOLS, HARBOUR, KEYS]
    assert account.dropped == account.dropped | {
        "URL seen before": 1,
        "too few sentences not seen before": 1,
        "curly bracket": 1,
        "lorem ipsum": 1,
        "too few sentences": 1,
        "another language": 1,
        "bad word": 1,
    }
    assert account.seen == 11 and not account.errors  # ten pages and the file's own record
    first = documents[0]
    assert first.id.startswith("c4/")
    assert first.metadata["source"] == "c4" and first.metadata["language"] == "en"
    assert first.metadata["url"] == "https://www.shorewalks.example/rock-pools/"
    assert first.metadata["date"].startswith("2019-04-18") and first.metadata["bytes"] > 700
    assert 0.65 <= first.metadata["language_score"] <= 1
    json.dumps(first.metadata)


def test_without_a_list_bad_words_stay_and_it_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        documents, account = read_all([WET])
    assert len(documents) == 4 and "grumblefrock" in documents[2].text
    assert ["no list of bad words" in record.message for record in caplog.records] == [True]


def test_repeated_lines_instead_of_spans(badwords):
    documents, _ = read_all([WET], badwords=badwords, repeated="lines")
    assert "ROCK POOLS are left behind" not in documents[1].text  # the whole line is a copy but for its capitals
    documents, account = read_all([WET], badwords=badwords, repeated="")
    assert "ROCK POOLS are left behind" in documents[1].text
    assert len(documents) == 4 and account.dropped["too few sentences not seen before"] == 0


def test_other_languages_can_be_asked_for(badwords):
    documents, _ = read_all([WET], badwords=badwords, languages="de")
    assert [document.text.split(",")[0] for document in documents] == ["Im Winter ist das Moor so still"]
    assert len(read_all([WET], badwords=badwords, languages="en,de")[0]) == 4
    assert len(read_all([WET], badwords=badwords, languages="")[0]) == 4
    assert read_all([WET], badwords=badwords, language_score=0.9999)[1].dropped["language uncertain"] >= 3


def test_released_shards_are_read_as_they_are_and_cleaned_when_asked(badwords):
    documents, account = read_all([SHARD])
    assert len(documents) == 4 and account.errors.total() == 4
    documents, account = read_all([SHARD], clean_shards=True, badwords=badwords)
    assert [document.id for document in documents] == ["c4/c4-train.00000-of-01024/2"]
    assert account.dropped == {"empty": 1, "curly bracket": 1, "too few sentences": 2}


def test_a_folder_is_read_in_the_order_of_its_names_and_the_rest_of_it_left_alone(tmp_path, badwords):
    for file in SAMPLES.iterdir():
        shutil.copy(file, tmp_path / file.name)
    (tmp_path / "notes.txt").write_text("nothing of this kind")
    (tmp_path / "link.jsonl").symlink_to(SHARD)
    names = [name for name, _, _ in inputs([tmp_path])]
    assert names == [WET.name, "c4-de.tfrecord-00000-of-01024.json.zst", SHARD.name]
    assert inputs([SHARD])[0][1:] == (SHARD.stat().st_size, SHARD.stat().st_mtime_ns)
    documents, _ = read_all([tmp_path], badwords=badwords)
    apart = [document for name in names for document in read_all([SAMPLES / name], badwords=badwords)[0]]
    assert [(document.id, document.text) for document in documents] == [
        (document.id, document.text) for document in apart
    ]


def test_ids_do_not_depend_on_order_folder_or_workers(tmp_path, badwords):
    shutil.copy(WET, tmp_path / WET.name)
    here = [document.id for document in read_all([WET, SHARD], badwords=badwords)[0]]
    there = [document.id for document in read_all([SHARD, tmp_path], badwords=badwords, workers=2)[0]]
    assert len(set(here)) == 7 and sorted(here) == sorted(there)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://www.example.org/a/", "example.org/a"),
        ("http://example.org/a?utm_source=x&y=z", "example.org/a"),
        ("http://example.org/a?ref=b", "example.org/a"),
        ("http://example.org/?feed=rss2", "example.org"),
        ("http://example.org/a?id=3", "example.org/a?id=3"),
        ("http://web.example/http://www.other.example/", "web.example/http://www.other.example"),
    ],
)
def test_urls_are_compared_without_what_makes_no_difference(url, normal):
    assert normal_url(url) == normal


def test_a_clipped_crawl_is_read_up_to_the_break_and_told(tmp_path, badwords):
    whole = WET.read_bytes()
    ids = [document.id for document in read_all([WET], badwords=badwords)[0]]
    for cut in range(400, len(whole) - 1, len(whole) // 6):
        (tmp_path / WET.name).write_bytes(whole[:cut])
        documents, account = read_all([tmp_path / WET.name], badwords=badwords)
        assert [document.id for document in documents] == ids[: len(documents)]
        assert account.errors.total() >= 1, f"cut at {cut}"


@pytest.mark.parametrize(
    ("paths", "settings", "error", "words"),
    [
        (["no-such-file.warc.wet.gz"], {}, FileNotFoundError, "no-such-file.warc.wet.gz does not exist"),
        (["EMPTY"], {}, ValueError, "nothing to read in"),
        ([], {}, ValueError, "nothing to read in no paths"),
        ([WET], {"repeated": "words"}, ValueError, "repeated is 'words'"),
        ([WET], {"badwords": "no-such-list"}, FileNotFoundError, "no-such-list, named as badwords"),
        ([WET], {"language_model": "no-such-model"}, FileNotFoundError, "no-such-model"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(paths, settings, error, words, tmp_path):
    paths = [tmp_path if path == "EMPTY" else path for path in paths]
    with pytest.raises(error, match=words) as caught:
        list(read(paths, settings))
    assert "\n" not in str(caught.value)


def test_importing_it_brings_no_parser():
    heavy = "{'lxml', 'fastwarc', 'resiliparse', 'trafilatura', 'pyarrow', 'fasttext', 'torch'} & set(sys.modules)"
    code = f"import sys, data_pipelines.sources.c4; print(sorted({heavy}))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert said.stdout == "[]\n", said.stderr


def test_no_spoilt_page_does_harm(badwords):
    judge = rules(DEFAULTS | {"badwords": badwords, "memory_mb": 1})

    def parse(data: bytes) -> None:
        text = data.decode(errors="replace")
        document = Document(text=text, id="c4/0", metadata={"url": text[:20]})
        assert judge(document) or document.text

    pages = [page.encode() for page in (ROCK_POOLS, HARBOUR, KEYS)]
    survive(
        parse, mutants(pages, words=[b".", b"...", b"[", b"[1]", b"{", b"\n", b"\0", b"\xe2\x80\xa8", b"Mr. ", b"?ref"])
    )


@pytest.fixture
def crawls() -> Path:
    """Real crawled files beside the project, where they exist."""
    folder = SHARED / "realdata" / "commoncrawl"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: real crawls exist only on some machines")
    return folder


def test_real_pages_stay_and_their_copies_go(crawls):
    documents, account = read_all([crawls / "allenai__dolma__sample-0001.warc.gz"])
    texts = {document.metadata["url"]: document.text for document in documents}
    assert account.dropped["URL seen before"] == 2  # https://allenai.org/ was fetched three times
    assert len(texts) == len(documents) == 13 and account.seen == 34
    faq = (
        "Common Crawl is a 501(c)(3) non-profit organization dedicated to providing a copy of the Internet to Internet"
    )
    assert texts["https://commoncrawl.org/faq"].startswith(faq)
    assert "https://creativecommons.org/mission/" in texts


def test_every_line_of_all_real_crawls_keeps_the_rules(crawls):
    documents, account = read_all([crawls], workers=2)
    assert len(documents) > 70 and account.errors.total() >= 6
    urls = [normal_url(document.metadata["url"]) for document in documents]
    assert len(set(urls)) == len(urls)
    for document in documents:
        assert document.metadata["language"] == "en"
        for line in document.text.split("\n"):
            assert line.endswith((".", "?", "!", '"')) and not line.endswith("..."), line
            assert "javascript" not in line.lower() and "{" not in line and "privacy policy" not in line.lower()


def test_the_docstring_tells_of_every_setting():
    assert [name for name in DEFAULTS if f" {name}:" not in (read.__doc__ or "")] == []
