"""Records out of WARC, WET, WAT and ARC files, whatever they are compressed with, and a word on each break in them.

FastWARC and warcio both end quietly where a gzip member is clipped (warcio#138) and pass over what does not fit a
Content-Length. The bytes are therefore cut into records here, and FastWARC is handed one at a time."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from data_pipelines.dumps.byte_stream import LOOKAHEAD, Broken, ByteStream, decompressed

MAX_RECORD = 6 * 2**20  # Common Crawl cuts pages at 1 MiB, and at 5 MiB since 2025; headers come on top
MAX_BREAKS = (
    100_000  # without a record in between: what comes to that is no archive, and each takes as long as a record
)
MAX_HEADER = 64 * 2**10  # a record's own headers; real ones have 1 KB
# a record's first line; in ARC: URL, address, date, type, length (any word, for it to be called wrong)
WARC_LINE = rb"WARC/[01]\.\d+\r?\n"
ARC_LINE = rb"[a-z][a-z0-9+.-]{0,30}:[^\n]{1,16000} [0-9.:a-f]+ \d{8,20} [^ \n]+ [-\w]+\r?\n"
HEAD_END = re.compile(rb"\r?\n\r?\n|\n(?=WARC/[01]\.\d+\r?\n)")  # a blank line, or another record's first


class Record(NamedTuple):
    """One record: names of headers in lower case; `content` is None where it is larger than 6 MiB."""

    type: str
    headers: dict[str, str]
    content: bytes | None
    size: int


def records(path: str | Path) -> Iterator[Record | Broken]:
    """Every record of a file and a `Broken` for every place where one ends or begins wrongly, in the file's order.

    gzip, zstd, lz4 and no compression are told by the file's first bytes. A record whose Content-Length is wrong comes
    with what lies before the next record, and is followed by a Broken; one that the file's end clips does not come.
    Memory: a record and 1 MB. Raises OSError only where the file cannot be opened or read from the disk."""
    with open(path, "rb") as file:
        yield from read_records(file)


def read_records(file: BinaryIO) -> Iterator[Record | Broken]:
    """`records` of an open file."""
    stream = ByteStream(decompressed(file))
    arc = stream.peek(9) == b"filedesc:"
    line = re.compile(ARC_LINE if arc else WARC_LINE)
    start = re.compile(rb"(?:^|(?<=\n))" + line.pattern)
    if not stream.peek(1) and not stream.broken:
        yield Broken("empty file")
    breaks = 0
    while breaks < MAX_BREAKS:
        stream.skip_newlines()
        if not stream.peek(1):
            broken = stream.next_part()
            if broken is None:
                return
            breaks += 1
            yield broken
            continue
        for found in _record(stream, arc, line, start):
            breaks = breaks + 1 if isinstance(found, Broken) else 0
            yield found
    yield Broken("nothing but broken records")


def _record(
    stream: ByteStream, arc: bool, line: re.Pattern[bytes], start: re.Pattern[bytes]
) -> Iterator[Record | Broken]:
    stream.fill(LOOKAHEAD)
    first = line.match(stream.buffer)
    if not first:
        if len(stream.buffer) < 20 and stream.broken:  # a break in the first line
            yield stream.next_part() or Broken("clipped record")
        else:
            yield Broken("bytes that are no record")
            stream.skip_to(start)
        return
    head = first[0] if arc else _head(stream)
    if head is None:
        yield stream.next_part() or Broken("clipped record")
        return
    headers = _arc_headers(head) if arc else _headers(head)
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit() and len(length) < 19):
        yield Broken("bad record header")
        stream.skip_to(start)
        return
    stream.skip(len(head))
    yield from _content(stream, headers, int(length), line, start)


def _content(
    stream: ByteStream, headers: dict[str, str], length: int, line: re.Pattern[bytes], start: re.Pattern[bytes]
) -> Iterator[Record | Broken]:
    kind = headers.get("warc-type", "").lower()
    if length > MAX_RECORD:
        if stream.skip(length) < length:
            yield stream.next_part() or Broken("clipped record")
        else:
            yield Record(kind, headers, None, length)
        return
    stream.fill(length + LOOKAHEAD)
    buffer, after = stream.buffer, length
    while after < min(len(buffer), length + LOOKAHEAD) and buffer[after] in b"\r\n":
        after += 1
    if len(buffer) >= length and (len(buffer) == after or line.match(buffer, after)):
        yield Record(kind, headers, stream.read(length), length)
        return
    swallowed = start.search(buffer)
    if swallowed and swallowed.start() >= length:
        swallowed = None
    if swallowed is None and len(buffer) < length:
        yield stream.next_part() or Broken("clipped record")
    elif swallowed is None and after > length:  # what is wrong comes after this record
        yield Record(kind, headers, stream.read(length), length)
    else:
        stream.fill(MAX_RECORD)
        end = swallowed or start.search(buffer, length)
        content = stream.read(end.start() if end else MAX_RECORD).rstrip(b"\r\n")
        yield Record(kind, headers, content, len(content))
        yield Broken("wrong Content-Length")


def _head(stream: ByteStream) -> bytes | None:
    """All up to the blank line; b"" where there is none before another record, or in 64 KiB; None where the file ends."""
    for size in (4096, MAX_HEADER):
        stream.fill(size)
        if end := HEAD_END.search(stream.buffer, 0, size):
            return stream.peek(end.end()) if end[0].endswith((b"\n\n", b"\n\r\n")) else b""
    return b"" if len(stream.buffer) >= MAX_HEADER else None


def _headers(head: bytes) -> dict[str, str]:
    from fastwarc.warc import WarcRecord

    try:
        record = WarcRecord.from_reader(io.BytesIO(head), quirks_mode=True)
    except OSError:
        return {}
    return {name.lower(): value for name, value in reversed(record.headers.items())}


def _arc_headers(line: bytes) -> dict[str, str]:
    """The headers that a line of ARC 1.0 (Common Crawl until 2012) amounts to. warcio reads it: FastWARC has no ARC."""
    from warcio.recordloader import ARC2WARCHeadersParser
    from warcio.statusandheaders import StatusAndHeadersParserException

    try:
        found = ARC2WARCHeadersParser().parse(io.BytesIO(), line.decode("utf-8", "replace")).headers
    except (StatusAndHeadersParserException, ValueError):
        return {}
    return {name.lower(): value for name, value in found if name != "WARC-Record-ID"}  # which it draws by chance
