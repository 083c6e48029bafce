"""A MediaWiki XML dump as blocks of whole pages: compressed or not, UTF-8 or UTF-16, of one bz2 stream or of many.

Wikimedia's "multistream" dumps are bz2 streams one after the other, 100 whole pages in each: they go to the parsers as
they are, which decompress them side by side. The streams are found by their headers; the index file is not needed. Any
other dump is decompressed here and cut at the ends of pages."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

CHUNK = 1 << 18  # bytes read at once
BLOCK = 1 << 16  # bytes of pages sent to a parser at once; 16 such travel together (pool.BATCH)
MAX_PAGE = 8 << 20  # bytes; MediaWiki's own limit ($wgMaxArticleSize) is 2 MiB of text, which XML may write longer
MAX_STREAM = 16 << 20  # bytes of one compressed stream of a multistream dump; those of Wikimedia have about 1 MB
MAX_HEADER = 1 << 20  # bytes before the first page: a comment and <siteinfo>, 2 to 10 kB in practice
MAX_RATIO, RATIO_FROM = 100, 16 << 20  # no real dump expands 50-fold; asked once this many bytes came out

BZ2_STREAM = re.compile(rb"BZh[1-9]1AY&SY")  # of a stream's header and its first block's
PAGE = re.compile(rb"(?=<page[\s>])")
PAGE_END = b"</page>"
DUMP_END = b"</mediawiki>"


class Broken(Exception):
    """A dump can be read no further; the text says why, in words fit for an account."""


def open_dump(path: Path) -> Any:
    """The decompressed bytes of a file, to be closed, by its first bytes and not by its name."""
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"BZh"):
        return bz2.open(path)
    if start.startswith(b"\x1f\x8b"):
        return gzip.open(path)
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.open(path)
    return path.open("rb")


def chunks(file: Any, compressed: int) -> Iterator[bytes]:
    """What `file` holds, as UTF-8. compressed: its size before decompression, in bytes. Raises Broken where it ends early,
    is corrupt, or is a bomb."""
    decoder = None
    total = 0
    while True:
        try:
            # one read of the layer below: an error must not take along what was decompressed before it
            chunk = file.read1(CHUNK)
        except EOFError:
            raise Broken("the compressed file ends early") from None
        except (OSError, ValueError, zlib.error, lzma.LZMAError):
            raise Broken("the compressed file is corrupt") from None
        if not chunk:
            return
        if not total and (encoding := _utf16(chunk)):
            decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        total += len(chunk)
        if total > RATIO_FROM and total > MAX_RATIO * compressed:
            raise Broken(f"the file expands more than {MAX_RATIO}-fold")
        yield decoder.decode(chunk).encode("utf-8", "replace") if decoder else chunk


def _utf16(start: bytes) -> str:
    """The encoding of a dump in UTF-16, with a byte order mark or without; "" for any other."""
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    return {b"<\0": "utf-16-le", b"\0<": "utf-16-be"}.get(start[:2], "")


def header(path: Path) -> bytes:
    """What comes before the first page: <siteinfo>, in whole if it is there. Raises Broken for a file without either, and for
    one with a DTD, which no dump has."""
    found = b""
    problem = Broken("no page at the start of the file")
    try:
        with open_dump(path) as file:
            for chunk in chunks(file, path.stat().st_size):
                found += chunk
                if PAGE.search(found) or len(found) > MAX_HEADER:
                    break
    except Broken as broken:  # where there is a page before the break, that is told when the pages are read
        problem = broken
    first = PAGE.search(found)
    if not first and b"</siteinfo>" not in found:
        raise problem
    found = found[: first.start()] if first else found
    if b"<!DOCTYPE" in found or b"<!ENTITY" in found:
        raise Broken("XML with a DTD is refused")
    return found


def cut(parts: Iterable[bytes], size: int = BLOCK) -> Iterator[bytes]:
    """The same bytes in blocks of whole pages, of about `size`, and last what follows the last page's end.

    Of a page above MAX_PAGE the start comes, then the next page. Passes Broken on, after the whole pages before it."""
    buffer = bytearray()
    searched, skipping = 0, False
    try:
        for part in parts:
            buffer += part
            if skipping:
                end = buffer.find(PAGE_END)
                if end < 0:
                    del buffer[: -len(PAGE_END)]
                    continue
                del buffer[: end + len(PAGE_END)]
                searched, skipping = 0, False
            if len(buffer) < size:
                continue
            end = buffer.rfind(PAGE_END, searched)
            if end >= 0:
                yield bytes(buffer[: end + len(PAGE_END)])
                del buffer[: end + len(PAGE_END)]
                searched = 0
            elif len(buffer) > MAX_PAGE:
                skipping = buffer.find(b"<page") >= 0  # a pattern takes ten times as long
                if skipping:
                    yield bytes(buffer)
                else:
                    del buffer[: -len(PAGE_END)]
                searched = 0
            else:
                searched = max(0, len(buffer) - len(PAGE_END))
    except Broken:
        end = buffer.rfind(PAGE_END)
        if end >= 0 and not skipping:
            yield bytes(buffer[: end + len(PAGE_END)])
        raise
    yield b"" if skipping else bytes(buffer)


def with_last(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each with whether it is the last; none is where Broken ends them, which is passed on."""
    before = None
    try:
        for piece in pieces:
            if before is not None:
                yield before, False
            before = piece
    except Broken:
        if before is not None:
            yield before, False
        raise
    if before is not None:
        yield before, True


def is_multistream(path: Path) -> bool:
    """Whether each bz2 stream holds whole pages, as far as the first ones show: one that was compressed in parallel has
    streams too, which part pages anywhere."""
    with path.open("rb") as file:
        start = file.read(MAX_STREAM)
    if not start.startswith(b"BZh"):
        return False
    for stream in islice(BZ2_STREAM.finditer(start, 1), 3):
        with suppress(OSError):  # one that is corrupt tells nothing
            if bz2.BZ2Decompressor().decompress(start[stream.start() :], 1000).lstrip().startswith(b"<page"):
                return True
    return False


def streams(path: Path) -> Iterator[bytes]:
    """The bz2 streams of a file, as they are. One above MAX_STREAM comes as its start only."""
    buffer = bytearray()
    searched = 1
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            if len(buffer) <= MAX_STREAM:
                buffer += chunk
            else:  # only its end is still of interest
                buffer[MAX_STREAM + 1 :] = buffer[-10:] + chunk
                searched = MAX_STREAM + 1
            while match := BZ2_STREAM.search(buffer, searched):
                yield bytes(buffer[: match.start()])
                del buffer[: match.start()]
                searched = 1
            searched = max(1, len(buffer) - 10)
    yield bytes(buffer)


def stream_chunks(stream: bytes) -> Iterator[bytes]:
    """What one bz2 stream holds; as `chunks`."""
    if len(stream) > MAX_STREAM:
        raise Broken(f"a bz2 stream of more than {MAX_STREAM >> 20} MB")
    return chunks(bz2.BZ2File(io.BytesIO(stream)), len(stream))
