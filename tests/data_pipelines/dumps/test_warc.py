import gzip
import io
import re
import resource
from collections import Counter

import pytest

from data_pipelines.dumps.byte_stream import Broken
from data_pipelines.dumps.warc import MAX_BREAKS, MAX_RECORD, Record, read_records, records
from tests.conftest import ROOT, SHARED
from tests.data_pipelines.fuzz import MEGABYTES, mutants, survive

SAMPLE = ROOT / "data_pipelines" / "samples" / "common_crawl" / "common_crawl.warc.gz"
ARC = ROOT / "data_pipelines" / "samples" / "common_crawl" / "common_crawl.arc.gz"


def record(body: bytes, length: int | None = None, kind: str = "conversion", end: bytes = b"\r\n\r\n") -> bytes:
    size = len(body) if length is None else length
    return b"WARC/1.0\r\nWARC-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind.encode(), size) + body + end


def contents(data: bytes) -> list[bytes | str | None]:
    """Each record's content, each break's reason."""
    return [r.content if isinstance(r, Record) else r.reason for r in read_records(io.BytesIO(data))]


def plain() -> bytes:
    return gzip.decompress(SAMPLE.read_bytes())


def compressed(data: bytes, kind: str) -> bytes:
    if kind == "none":
        return data
    if kind == "gzip":
        return gzip.compress(data, mtime=0)
    if kind == "zstd":
        return pytest.importorskip("zstandard").compress(data)
    return pytest.importorskip("lz4.frame").compress(data, content_checksum=True)


def members(data: bytes, kind: str) -> bytes:
    return b"".join(compressed(part, kind) for part in re.split(rb"(?<=\r\n\r\n)(?=WARC/1.0)", data))


@pytest.mark.parametrize("kind", ["none", "zstd", "lz4", "gzip"])
def test_the_records_are_the_same_whatever_they_are_compressed_with(kind):
    expected = list(records(SAMPLE))
    assert list(read_records(io.BytesIO(members(plain(), kind)))) == expected
    assert list(read_records(io.BytesIO(compressed(plain(), kind)))) == expected  # all in one member
    assert len(expected) == 21 and [r for r in expected if isinstance(r, Broken)] == [("wrong Content-Length",)]


def test_headers_go_by_name_whatever_their_case_and_place():
    data = b"WARC/1.1\nwarc-type: Conversion\nContent-length: 2\nX: a\n b\nwarc-target-uri: <http://x/>\n\nhi\n\n"
    headers = {"warc-type": "Conversion", "content-length": "2", "x": "a b", "warc-target-uri": "<http://x/>"}
    assert list(read_records(io.BytesIO(data))) == [Record("conversion", headers, b"hi", 2)]


@pytest.mark.parametrize("kind", ["none", "gzip"])
@pytest.mark.parametrize("length", [0, 3, 5, 12, 60, 10**6, MAX_RECORD])
def test_a_wrong_length_costs_no_record(length, kind):
    data = record(b"first") + record(b"second", length) + record(b"third")
    found = contents(members(data, kind))
    assert found[0] == b"first" and found[-1] == b"third"
    assert b"second" in found[1] and len(found[1]) <= len(b"second\r\n\r\n")
    assert found.count("wrong Content-Length") + found.count("bytes that are no record") == 1


def test_a_record_that_speaks_of_records_is_whole():
    body = b"A page about the format:\r\n\r\nWARC/1.0\r\nWARC-Type: response\r\n\r\nand so on"
    assert contents(record(body) + record(b"next")) == [body, b"next"]


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd", "lz4"])
def test_a_cut_anywhere_leaves_a_prefix_and_says_so(kind):
    texts = [b"first text", b"second text", b"third text"]
    parts = [compressed(record(text), kind) for text in texts]
    ends = [0, len(parts[0]), len(parts[0] + parts[1])]
    data = b"".join(parts)
    before_text = 19 if kind == "lz4" else 0  # FastWARC passes over a frame header that nothing follows
    after_text = {"none": 4, "lz4": 8, "zstd": 4, "gzip": 0}[kind]  # line ends, end mark, checksum
    for cut in range(len(data)):
        found = contents(data[:cut])
        texts_found = [item for item in found if isinstance(item, bytes)]
        assert texts_found == texts[: len(texts_found)]
        whole = any(end - after_text <= cut <= end + before_text for end in [*ends, len(data)])
        assert len(found) - len(texts_found) == (0 if whole and len(found) == len(texts_found) else 1), cut
        if kind == "gzip":
            assert (found == texts_found) == (cut in ends[1:]), cut  # nothing at all is a failed download


def test_a_clipped_member_is_an_error_where_fastwarc_sees_none():
    from fastwarc.warc import ArchiveIterator

    data = gzip.compress(record(b"first")) + gzip.compress(record(bytes(range(256)) * 99))[:-30]
    assert len(list(ArchiveIterator(io.BytesIO(data), parse_http=False))) == 2  # and not a word
    assert contents(data) == [b"first", "clipped gzip member"]


def test_garbage_between_records_is_one_error_and_stops_nothing():
    first, second = record(b"first"), record(b"second")
    garbage = b"<Error>SlowDown</Error>\n" * 9
    assert contents(first + garbage + second) == [b"first", "bytes that are no record", b"second"]
    assert contents(first + second + garbage) == [b"first", b"second", "bytes that are no record"]
    packed = [gzip.compress(first), gzip.compress(second)]
    assert contents(packed[0] + garbage + packed[1]) == [b"first", "bytes that are no gzip member", b"second"]
    assert contents(packed[0] + packed[1] + garbage) == [b"first", b"second", "bytes that are no gzip member"]
    assert contents(packed[0] + bytes(100) + packed[1]) == [b"first", b"second"]  # gzip allows zeros as padding
    assert contents(packed[0] + packed[1] + bytes(100_000)) == [b"first", b"second"]
    assert contents(b"<Error>SlowDown</Error>") == ["bytes that are no record"]


def test_a_corrupt_member_costs_itself():
    packed = [gzip.compress(record(text * 50)) for text in (b"first", b"second", b"third")]
    packed[1] = packed[1][:30] + b"\xff\xff\xff" + packed[1][33:]
    found = contents(b"".join(packed))
    assert found[0] == b"first" * 50 and found[-1] == b"third" * 50 and b"second" * 50 not in found
    assert 1 <= sum(isinstance(item, str) for item in found) <= 2


@pytest.mark.parametrize(
    "header",
    [b"WARC/1.0\r\n\r\n", b"WARC/1.0\r\nContent-Length: many\r\n\r\n", b"WARC/1.0\r\nContent-Length: -1\r\n\r\n"]
    + [b"WARC/1.0\r\nContent-Length: " + b"9" * 99 + b"\r\n\r\n", b"WARC/1.0\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"],
)
def test_a_bad_header_costs_its_record(header):
    assert contents(record(b"first") + header + b"text\r\n\r\n" + record(b"next")) == [
        b"first",
        "bad record header",
        b"next",
    ]


def test_a_record_that_is_too_large_is_passed_over():
    large = record(bytes(MAX_RECORD + 1))
    found = list(read_records(io.BytesIO(gzip.compress(large, 1) + gzip.compress(record(b"next")))))
    assert [(r.content, r.size) for r in found] == [(None, MAX_RECORD + 1), (b"next", 4)]


@pytest.mark.parametrize("kind", ["gzip", "zstd", "lz4"])
def test_a_bomb_ends_early(kind):
    """3 GB of zeros, in members of 100 MB."""
    bomb = record(b"first") + record(b"", 3 * 10**9, end=b"")
    data = compressed(bomb, kind) + compressed(bytes(10**8), kind) * 30
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = contents(data)
    assert found[0] == b"first"
    if kind != "lz4":  # whose ratio is 255 at most: reading on costs as much as any file of that size
        assert found[1:] == ["grows beyond measure when decompressed"]
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES


def test_line_breaks_without_end_are_passed_over_at_once():
    between = b"\r\n" * 10_000_000  # one by one they take 10 s
    survive(lambda data: contents(data), iter([record(b"a") + between + record(b"b")]))
    assert contents(record(b"a") + between + record(b"b")) == [b"a", b"b"]


def test_a_file_of_nothing_but_broken_records_is_given_up():
    found = contents(record(b"a") + b"WARC/1.0\r\n\r\n" * (MAX_BREAKS + 10))
    assert found == [b"a", *["bad record header"] * MAX_BREAKS, "nothing but broken records"]
    some = record(b"a") + b"WARC/1.0\r\n\r\n" * (MAX_BREAKS - 10)
    assert contents(some * 2 + record(b"b"))[-1] == b"b"  # a good one in between starts the count anew


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_an_empty_file_is_an_error(kind):
    assert contents(compressed(b"", kind)) == ["empty file"]


def test_headers_without_end_take_time_that_grows_with_their_number_only():
    lines = b"WARC/1.0\r\n" * 40_000
    lengths = record(b"x", 5 * 2**20, end=b"") * 10_000
    survive(lambda data: contents(data), iter([lines, lengths]))


ARC_HEAD = b"filedesc://x.arc 0.0.0.0 20100401120000 text/plain 62\n1 0 x\n"
ARC_HEAD += b"URL IP-address Archive-date Content-type Archive-length\n\n"


def test_arc_is_read_through_warcio():
    line = b"http://old.example/ 192.0.2.7 20100401120001 text/html %s\n"
    data = ARC_HEAD + line % b"2" + b"hi\n" + line % b"abc" + line % b"9" + b"cut"
    found = list(read_records(io.BytesIO(data)))
    assert found[0].type == "warcinfo" and found[1].type == "response" and found[1].content == b"hi"
    assert found[1].headers["warc-target-uri"] == "http://old.example/"
    assert found[1].headers["warc-date"] == "2010-04-01T12:00:01Z" and "warc-record-id" not in found[1].headers
    assert found[2:] == [("bad record header",), ("clipped record",)]


def seeds() -> list[bytes]:
    small = record(b"first " * 9) + record(b"HTTP/1.1 200 OK\r\n\r\n<p>a", kind="response") + record(b"last")
    return [
        small,
        *(members(small, kind) for kind in ("gzip", "zstd", "lz4")),
        gzip.decompress(ARC.read_bytes()),
        ARC.read_bytes(),
    ]


def test_it_survives_whatever_file():
    words = [
        b"WARC/1.0\r\n",
        b"Content-Length: ",
        b"\r\n\r\n",
        b"\x1f\x8b\x08\x00",
        b"99999",
        b"\x28\xb5\x2f\xfd",
        b"filedesc:",
    ]
    survive(lambda data: contents(data), mutants(seeds(), words=words))


# --- real files: how many records of each type, how many breaks ---

REAL = {
    "allenai__dolma__sample-0000.warc.gz": "warcinfo 1 request 22 response 22 metadata 1 resource 2",
    "allenai__dolma__sample-0001.warc.gz": "warcinfo 1 request 15 response 15 metadata 1 resource 2",
    "archivesunleashed__aut__example.warc.gz": "warcinfo 1 request 261 response 299 metadata 261",
    "chatnoir-eu__chatnoir-resiliparse__clipped.warc.gz": "clipped_gzip_member 1",
    "chatnoir-eu__chatnoir-resiliparse__clueweb-quirk.warc.gz": "warcinfo 1 response 29",
    "chatnoir-eu__chatnoir-resiliparse__warcfile.warc.gz": "warcinfo 1 request 17 response 16 metadata 16",
    "chatnoir-eu__chatnoir-resiliparse__warcfile.warc.lz4": "warcinfo 1 request 17 response 16 metadata 16",
    "commoncrawl__ia-web-commons__html-lang-attribute.warc": "response 5",
    "commoncrawl__ia-web-commons__text-extraction-test.warc": "warcinfo 1 response 2 metadata 1",
    "commoncrawl__ia-web-commons__title-extraction-embedded-SVG.warc": "response 1",
    "commoncrawl__whirlwind-python__whirlwind.warc.gz": "warcinfo 1 request 1 response 1 metadata 1",
    "commoncrawl__whirlwind-python__whirlwind.warc.wat.gz": "warcinfo 1 metadata 1",
    "commoncrawl__whirlwind-python__whirlwind.warc.wet": "warcinfo 1 conversion 1",
    "commoncrawl__whirlwind-python__whirlwind.warc.wet.gz": "warcinfo 1 conversion 1",
    "facebookresearch__cc_net__sample.warc.txt": "warcinfo 1 conversion 3 wrong_Content-Length 4",
    "webrecorder__warcio__bad.arc": "response 1 bad_record_header 3",
    "webrecorder__warcio__example-bad-non-chunked.warc.gz": "warcinfo 2 response 1 request 2 revisit 1",
    "webrecorder__warcio__example-iana.org-chunked.warc": "warcinfo 1 response 1 request 1",
    "webrecorder__warcio__example-trunc.warc": "warcinfo 2 response 1 request 1 wrong_Content-Length 1",
    "webrecorder__warcio__example-wget-bad-target-uri.warc.gz": "warcinfo 1 request 1 response 1 metadata 1 resource 2",
    "webrecorder__warcio__example-wrong-chunks.warc.gz": "response 1 request 1",
    "webrecorder__warcio__example.arc.gz": "warcinfo 1 response 1",
    "webrecorder__warcio__example.warc.gz": "warcinfo 2 response 1 request 2 revisit 1",
}


@pytest.mark.parametrize("name", REAL)
def test_a_real_file_holds_these(name):
    file = SHARED / "realdata" / "commoncrawl" / name
    if not file.is_file():
        pytest.skip(f"needs {file}")
    words = REAL[name].split()
    expected = {kind.replace("_", " "): int(count) for kind, count in zip(words[::2], words[1::2], strict=True)}
    assert Counter(r.type if isinstance(r, Record) else r.reason for r in records(file)) == expected


def test_a_real_crawl_reads_as_warcio_reads_it():
    file = SHARED / "realdata" / "commoncrawl" / "archivesunleashed__aut__example.warc.gz"
    if not file.is_file():
        pytest.skip(f"needs {file}")
    from warcio.archiveiterator import ArchiveIterator

    with open(file, "rb") as stream:
        theirs = [
            (r.rec_type, r.rec_headers.get_header("WARC-Record-ID"), r.raw_stream.read())
            for r in ArchiveIterator(stream, no_record_parse=True)
        ]
    assert [(r.type, r.headers["warc-record-id"], r.content) for r in records(file)] == theirs
