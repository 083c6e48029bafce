"""An arXiv package, a gz that holds one TeX file or a tar of a paper's files, unpacked in memory within limits."""

import posixpath
import zlib
from collections.abc import Iterator

from data_pipelines.dumps.tar import Stream, read_tar

CHUNK = 1 << 18
MAX_UNPACKED = 512_000_000  # arXiv takes packages of 50 MB, and figures as EPS shrink to a tenth
MAX_RATIO = 400  # gzip's most is 1,030, of zeros; text and drawings come to 3 to 20
MAX_MEMBERS = 10_000
MAX_FILE = 4_000_000  # bytes of one TeX file: more is data
MAX_KEPT = 6_000_000  # of all TeX files of a paper; some eighty papers are in memory at once
TOO_MUCH_TEX = "more TeX than any paper has"
# What holds no text of a paper; everything else without a NUL may be one of its \input files.
NOT_TEXT = tuple(
    ".eps .ps .epsi .epsf .pdf .png .jpg .jpeg .gif .tif .tiff .svg .bmp .mp4 .avi .mov .mp3 .wav .bib .bbl .bst .blg .aux "
    ".log .out .toc .csv .dat .fits .h5 .zip .gz .bz2 .xz .7z .tar .ttf .otf .pfb .tfm .py .m .nb .ipynb .html .md".split()
)


class Dropped(Exception):
    """Says why a package holds no paper to read."""


class Broken(Exception):
    """Says why a package could not be read."""


def unpack(packed: Stream) -> dict[str, bytes]:
    """The text files of one paper's .gz by their paths; a lone file's path is "".

    Raises Dropped where it is no TeX, Broken where it is damaged or beyond the limits."""
    stream = _Joined(_gunzipped(packed))
    if not _is_tar(stream.start):
        return {"": _lone_file(stream)}
    files: dict[str, bytes] = {}
    kept = 0
    try:
        for count, member in enumerate(read_tar(stream, MAX_FILE)):
            name = posixpath.normpath(member.header.name).lstrip("/")
            is_text = not member.header.special and not name.lower().endswith(NOT_TEXT) and b"\0" not in member.content
            if is_text and member.header.size <= MAX_FILE:
                files[name] = member.content
                kept += len(member.content)
            if kept > MAX_KEPT:
                raise Dropped(TOO_MUCH_TEX)
            if count >= MAX_MEMBERS:
                raise Broken(f"more than {MAX_MEMBERS:,} files")
    except ValueError as error:
        raise Broken(f"tar: {error}") from None
    stream.drain()
    return files


def _lone_file(stream: "_Joined") -> bytes:
    data = stream.read(MAX_FILE + 1)
    if data.startswith(b"%PDF"):
        raise Dropped("PDF, no TeX")
    if data.startswith((b"%!", b"\x04%!")):
        raise Dropped("PostScript, no TeX")
    if b"\0" in data or b"\\" not in data and b"%auto-ignore" not in data:
        raise Dropped("no TeX")
    if len(data) > MAX_FILE:
        raise Dropped(TOO_MUCH_TEX)
    stream.drain()
    return data


def _is_tar(block: bytes) -> bool:
    """A tar's first block holds the sum of its own bytes, with blanks where that stands."""
    stated = block[148:156].strip(b" \0")
    return bool(stated) and not stated.strip(b"01234567") and int(stated, 8) == sum(block[:148] + block[156:]) + 8 * 32


def _gunzipped(packed: Stream) -> Iterator[bytes]:
    """What a .gz unpacks to; Broken where it is damaged, clipped or too much. Bytes behind its end count for nothing."""
    chunk = packed.read(CHUNK)
    if chunk[:2] != b"\x1f\x8b":
        raise Broken("not gzip")
    read, written = len(chunk), 0
    while chunk[:2] == b"\x1f\x8b":
        inflate = zlib.decompressobj(wbits=31)
        while not inflate.eof:
            try:
                data = inflate.decompress(chunk, CHUNK)
            except zlib.error:
                raise Broken("broken gzip") from None
            written += len(data)
            if written > MAX_UNPACKED or written > max(MAX_RATIO * read, 20 * CHUNK):
                raise Broken("unpacks to too much")
            yield data
            chunk = inflate.unconsumed_tail
            if not chunk and not inflate.eof:
                chunk = packed.read(CHUNK)
                read += len(chunk)
                if not chunk and len(data) < CHUNK:
                    raise Broken("clipped gzip")
        chunk = inflate.unused_data
        chunk += packed.read(CHUNK) if len(chunk) < 2 else b""


class _Joined:
    """Chunks as a stream, of which `start` tells the first 512 bytes beforehand."""

    def __init__(self, chunks: Iterator[bytes]):
        self.chunks, self.ready, self.place = chunks, b"", 0
        self.start = self.read(512)
        self.ready, self.place = self.start + self.ready[self.place :], 0

    def read(self, size: int, /) -> bytes:
        parts = []
        while size > 0:
            if self.place == len(self.ready):
                self.ready, self.place = next((chunk for chunk in self.chunks if chunk), b""), 0
                if not self.ready:
                    break
            parts.append(self.ready[self.place : self.place + size])
            self.place += len(parts[-1])
            size -= len(parts[-1])
        return b"".join(parts)

    def drain(self) -> None:
        """Read to the end, where damage would show."""
        while self.read(CHUNK):
            pass
