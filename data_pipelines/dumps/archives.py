"""A safe walk over the members of a tar or zip archive: read one after the other, bounded, nothing written anywhere."""

import bz2
import gzip
import io
import lzma
import stat
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from data_pipelines.dumps.tar import Stream, read_tar

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".zip")
MAX_MEMBERS = 1_000_000  # the largest repositories on GitHub have some hundred thousand files
MAX_ZIP_DIRECTORY = 24_000_000  # bytes, which zipfile holds in memory some sixteen times over
MAX_NAME = 4096  # bytes, a path's length on Linux
FREE_BYTES = 64_000_000  # unpacked before the ratio is looked at
MAX_RATIO = 100  # unpacked to packed: source code comes to 3 to 20, gzip to 1,000 at most, bzip2 to 40,000
WINDOW_BYTES = 128_000_000  # a decompressor's memory (xz -9 and zstd --ultra need 64 MB)


class Entry(NamedTuple):
    """A file of a project, wherever it lies: in an archive, a repository or a folder."""

    path: str  # parted by "/", unchecked
    size: int  # bytes
    special: str  # why it is no plain file ("symbolic link", ...), "" where it is one
    date: str | None  # ISO, None where unknown
    commit: str | None
    read: Callable[[], bytes]  # raises ValueError or OSError


def walk_archive(path: Path, most: int) -> Iterator[Entry]:
    """The members of an archive, folders left out, with at most `most` + 1 bytes of each. Where the archive breaks,
    ValueError says in a fixed phrase how, after all members before that."""
    with path.open("rb") as file:
        entries = _zip_entries(file, most) if path.suffix == ".zip" else _tar_entries(file, path.name, most)
        for count, entry in enumerate(entries):
            if count >= MAX_MEMBERS:
                raise ValueError("too many members")
            yield entry


def safe_name(name: str) -> bool:
    """Whether a member's name is an ordinary relative path, fit for an id."""
    parts = name.split("/")
    ordinary = not any(part in ("", ".", "..") for part in parts) and "\\" not in name and ":" not in parts[0]
    return ordinary and name.isprintable() and len(name) <= MAX_NAME


def _day(seconds: int) -> str | None:
    """A date from a member's time; None for those that tools write in place of one."""
    if not 300_000_000 <= seconds < 1 << 33 or seconds == 315_532_800:  # before 1980, zip's first day
        return None
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


# --- tar ---


def _tar_entries(file: IO[bytes], name: str, most: int) -> Iterator[Entry]:
    stream = _Bounded(file, name)
    for header, content in read_tar(stream, most + 1):
        commit = header.comment if len(header.comment) in (40, 64) else None
        path = header.name.removeprefix("./")
        yield Entry(path, header.size, header.special, _day(header.seconds), commit, partial(_same, content))
    while stream.read(1 << 16):  # the checksum comes last
        pass


def _same(content: bytes) -> bytes:
    return content


class _Bounded:
    """The unpacked bytes of a compressed file, up to a ratio no source code reaches."""

    def __init__(self, file: IO[bytes], name: str):
        self.file, self.unpacked, self.name = file, 0, name
        self.stream = _unpack(file, name)

    def read(self, size: int, /) -> bytes:
        parts = []
        while size:
            try:
                part = self.stream.read(min(size, 1 << 16))
            except Exception as error:  # each decompressor has its own kinds
                raise ValueError(_phrase(error)) from error
            if not part:
                break
            parts.append(part)
            size -= len(part)
            self.unpacked += len(part)
            if self.unpacked > FREE_BYTES + MAX_RATIO * self.file.tell():
                raise ValueError("compression bomb")
        return b"".join(parts)


def _unpack(file: IO[bytes], name: str) -> Stream:
    if name.endswith((".gz", ".tgz")):
        return gzip.GzipFile(fileobj=file)
    if name.endswith("bz2"):
        return bz2.BZ2File(file)
    if name.endswith("xz"):
        return _Xz(file)
    if name.endswith(".zst"):
        import zstandard

        return zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).stream_reader(file, read_across_frames=True)
    return file


class _Xz:
    """LZMAFile with a limit on the memory that a file may ask for."""

    def __init__(self, file: IO[bytes]):
        self.file = file
        self.decompressor = lzma.LZMADecompressor(memlimit=WINDOW_BYTES)

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end."""
        while not self.decompressor.eof:
            packed = self.file.read(1 << 16) if self.decompressor.needs_input else b""
            if self.decompressor.needs_input and not packed:
                raise EOFError("truncated")
            if unpacked := self.decompressor.decompress(packed, size):
                return unpacked
        return b""


def _phrase(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "truncated"
    if "memory" in str(error).lower() or "too much" in str(error):
        return "decompressor needs too much memory"
    return "corrupt compression"


# --- zip ---


def _zip_entries(file: IO[bytes], most: int) -> Iterator[Entry]:
    """Members in the order in which they lie in the file, of which no two may share bytes (as zip bombs do)."""
    check_directory(file)
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # the standard library's own reader raises whatever its parsing comes to
        raise ValueError("corrupt zip directory") from error
    comment = archive.comment.decode("ascii", "replace")
    commit = comment if len(comment) in (40, 64) and comment.isalnum() else None
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.filename.endswith("/"):
            continue
        mode = info.external_attr >> 16 if info.create_system == 3 else 0
        special = "symbolic link" if stat.S_ISLNK(mode) else ""
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFLNK):
            special = "device file"
        if info.header_offset < end:
            raise ValueError("overlapping members")
        end = info.header_offset + 30 + info.compress_size
        if info.flag_bits & 1:
            special = special or "encrypted"
        path = info.filename.removeprefix("./")
        yield Entry(path, info.file_size, special, _zip_day(info), commit, _reader(archive, info, most))


def _reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> Callable[[], bytes]:
    def read() -> bytes:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("unknown compression")  # LZMA and bzip2 members could ask for much memory; nobody has them
        try:
            with archive.open(info) as member:
                content = member.read(most + 1)
        except Exception as error:  # as above
            raise ValueError("corrupt member") from error
        if len(content) != min(info.file_size, most + 1):
            raise ValueError("corrupt member")
        return content

    return read


def check_directory(file: IO[bytes]) -> None:
    """A zip's directory must be of a size that may be held in memory: zipfile reads all of it at once."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 65_557))  # the end record and the longest comment
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) < place + 22:
        raise ValueError("truncated")
    length = int.from_bytes(tail[place + 12 : place + 16], "little")
    if (wide := tail.rfind(b"PK\6\6")) >= 0:  # zip64's record goes before, whatever the other one says
        length = int.from_bytes(tail[wide + 40 : wide + 48], "little")
    if length > min(size, MAX_ZIP_DIRECTORY):
        raise ValueError("zip directory too large" if length <= size else "corrupt zip directory")
    file.seek(0)


def _zip_day(info: zipfile.ZipInfo) -> str | None:
    try:
        return _day(int(datetime(*info.date_time, tzinfo=UTC).timestamp()))
    except (ValueError, OverflowError):
        return None
