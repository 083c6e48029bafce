"""The bytes of a file, unpacked from gzip, zstd or lz4, with each break in them told, and looked at before they are taken."""

import re
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

CHUNK = 256 * 2**10  # bytes read, or decompressed, at a time
GZIP_CHUNK = 32 * 2**10  # zlib copies what it leaves over at every member's end: a few members' worth
LOOKAHEAD = 20 * 2**10  # bytes in which the next record must begin to count as that: an ARC's first line holds a URL
FREE_BYTES, MAX_RATIO = 16 * 2**20, 100  # bytes a file may grow to in any case, and times its size; real: 4 to 10 times
LZ4, ZSTD = b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd"
NEWLINES = re.compile(rb"[\r\n]+")
GZIP_MEMBER = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]")


class Broken(NamedTuple):
    """What could not be read at this place of the file."""

    reason: str


class ByteStream:
    """Bytes to look at before they are taken, from parts that are bytes or a `Broken`, beyond which nothing is seen."""

    def __init__(self, parts: Iterator[bytes | Broken]):
        self.parts = parts
        self.buffer = bytearray()
        self.broken: Broken | None = None
        self.ended = False

    def fill(self, size: int) -> None:
        """Have at least `size` bytes in `buffer`, if there are so many before a break or the end."""
        while len(self.buffer) < size and not self.broken and not self.ended:
            part = next(self.parts, None)
            if isinstance(part, bytes):
                self.buffer += part
            elif part is None:
                self.ended = True
            else:
                self.broken = part

    def peek(self, size: int) -> bytes:
        """At most `size` bytes, fewer only before a break or the end."""
        self.fill(size)
        return bytes(self.buffer[:size])

    def skip(self, size: int) -> int:
        """Leave `size` bytes behind, and return how many there were of these."""
        left = size
        while left:
            self.fill(1)
            step = min(left, len(self.buffer))
            if not step:
                break
            del self.buffer[:step]
            left -= step
        return size - left

    def skip_newlines(self) -> None:
        """Leave behind the line breaks that come next."""
        self.fill(1)
        while found := NEWLINES.match(self.buffer):  # all there are: one by one, a file of nothing else takes minutes
            self.skip(found.end())
            self.fill(1)

    def skip_to(self, start: re.Pattern[bytes]) -> None:
        """Leave behind what lies before the next first line of a record, and at least a byte."""
        while True:
            self.fill(CHUNK)
            found = start.search(self.buffer, 1, CHUNK)  # in place: a copy for each of many broken records adds up
            if found or len(self.buffer) < CHUNK:
                self.skip(found.start() if found else len(self.buffer))
                return
            self.skip(CHUNK - LOOKAHEAD)

    def next_part(self) -> Broken | None:
        """Go beyond the break, and return it; None where there is none."""
        broken, self.broken = self.broken, None
        self.buffer.clear()
        return broken

    def read(self, size: int) -> bytes:
        """Take at most `size` bytes."""
        seen = self.peek(size)
        self.skip(len(seen))
        return seen


def decompressed(file: BinaryIO) -> Iterator[bytes | Broken]:
    magic = file.read(4)
    file.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        parts = _gunzipped(file)
    elif magic == LZ4:
        from fastwarc.stream_io import Lz4Reader

        parts = _through(Lz4Reader(file), "corrupt or clipped lz4 data")
    elif magic == ZSTD or (magic[:1] in b"PQRSTUVWXYZ[\\]^_" and magic[1:] == b"\x2a\x4d\x18"):
        from fastwarc.stream_io import ZstdReader

        parts = _through(ZstdReader(file), "corrupt or clipped zstd data")
    else:
        parts = iter(lambda: file.read(CHUNK), b"")
    total = 0
    for part in parts:
        total += len(part) if isinstance(part, bytes) else 0
        if total > FREE_BYTES + MAX_RATIO * file.tell():
            yield Broken("grows beyond measure when decompressed")
            return
        yield part


def _gunzipped(file: BinaryIO) -> Iterator[bytes | Broken]:
    """The members of a gzip file one after the other, with a word where one is corrupt, clipped or something else."""
    member: Any = None
    lost = False  # somewhere between two members, where that has been said
    while data := file.read(GZIP_CHUNK):
        while data:
            if member is None:
                data = (data if len(data) >= 4 else data + file.read(4)).lstrip(b"\0")  # gzip allows zeros as padding
                if data and not GZIP_MEMBER.match(data):
                    if not lost:
                        yield Broken("bytes that are no gzip member")
                    start = GZIP_MEMBER.search(data)
                    lost = start is None
                    data = data[start.start() :] if start else b""
                if not data:
                    continue
                member, lost = zlib.decompressobj(wbits=31), False
            try:
                part = member.decompress(data, CHUNK)
            except zlib.error:
                yield Broken("corrupt gzip data")
                member, lost, data = None, True, data[1:]
                continue
            if part:
                yield part
            data = member.unconsumed_tail
            if member.eof:
                data, member = member.unused_data, None
    if member is not None:
        yield Broken("clipped gzip member")


def _through(reader: Any, reason: str) -> Iterator[bytes | Broken]:
    try:
        while part := reader.read(CHUNK):
            yield part
    except OSError:
        yield Broken(reason)
