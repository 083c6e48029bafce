"""The members of a tar archive as they stream by: nothing is written, nothing is kept, no header is believed.

Python's tarfile reads a header's extension of any declared size into memory, and has had endless loops (CVE-2025-8194,
CVE-2019-20907); what is needed here is one pass over plain members."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

BLOCK = 512
MAX_EXTENSION = 1_000_000  # bytes of a long name or of pax records; paths have at most some thousands
MAX_PAX_RECORDS = 1000
SPECIAL = {
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "device file",
    b"4": "device file",
    b"6": "device file",
    b"S": "sparse file",
}


class Stream(Protocol):
    """What the bytes come from: `read(n)` gives n bytes, fewer at the end only."""

    def read(self, size: int, /) -> bytes: ...


class Header(NamedTuple):
    """A member: its size in bytes, time in seconds since 1970, and what it is where it is no plain file ("" where it is)."""

    name: str
    size: int
    seconds: int
    special: str
    comment: str  # of the archive's global pax header: git writes the commit's hash there


class Member(NamedTuple):
    header: Header
    content: bytes  # at most what the caller asked for


def read_tar(stream: Stream, most: int) -> Iterator[Member]:
    """Each member that is no folder, with at most `most` bytes of its content. Raises ValueError with what is wrong with
    the archive ("truncated", "corrupt header", ...) after all members before that."""
    comment, extended = "", _Extended()
    while True:
        block = _header(stream)
        if not block.strip(b"\0"):
            return
        kind, length = block[156:157], _number(block[124:136])
        if kind in (b"x", b"g", b"L", b"K"):
            if length > MAX_EXTENSION:
                raise ValueError("header too large")
            content = _content(stream, length, length)
            if kind == b"g":
                comment = _text(_pax_records(content).get(b"comment", b""))[:200]
            elif kind == b"x":
                extended = extended.with_pax(_pax_records(content))
            elif kind == b"L":
                extended = extended._replace(name=_text(content.split(b"\0")[0]))
            continue
        special = "sparse file" if extended.sparse else _special(block)
        if kind == b"S":
            more = block[482]
            while more:  # maps of where its holes are
                more = _exactly(stream, BLOCK)[504]
        if extended.size is not None:
            length = extended.size
        if kind and kind in b"123456":  # links, devices and folders have no content, whatever their header says
            length = 0
        header = Header(
            _name(block) if extended.name is None else extended.name,
            length,
            _number(block[136:148]) if extended.seconds is None else extended.seconds,
            special,
            comment,
        )
        extended = _Extended()
        content = _content(stream, length, 0 if special else most)
        if special != "folder":
            yield Member(header, content)


class _Extended(NamedTuple):
    """What the headers before a member's own say about it, in place of its own."""

    name: str | None = None
    size: int | None = None
    seconds: int | None = None
    sparse: bool = False

    def with_pax(self, records: dict[bytes, bytes]) -> "_Extended":
        return _Extended(
            _text(records[b"path"]) if b"path" in records else self.name,
            _decimal(records[b"size"]) if b"size" in records else self.size,
            _decimal(records[b"mtime"].partition(b".")[0]) if b"mtime" in records else self.seconds,
            self.sparse or any(key.startswith(b"GNU.sparse") for key in records),
        )


def _header(stream: Stream) -> bytes:
    block = _exactly(stream, BLOCK)
    if block.strip(b"\0"):
        _check(block)
    return block


def _exactly(stream: Stream, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise ValueError("truncated")
    return content


def _check(block: bytes) -> None:
    """A header's sum is that of its bytes, signed or not, with blanks where the sum stands."""
    stated = _number(block[148:156])
    total = sum(block[:148]) + 8 * 32 + sum(block[156:])
    # the signed one only where it is asked for: it takes longer than all else that is done for a small file
    if stated != total and stated != total - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
        raise ValueError("corrupt header")


def _number(field: bytes) -> int:
    """An octal number, or a binary one where the first byte says so."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:])
    text = field.split(b"\0")[0].strip()
    if text.strip(b"01234567"):
        raise ValueError("corrupt header")
    return int(text or b"0", 8)


def _decimal(value: bytes) -> int:
    if not value.isdigit() or len(value) > 20:
        raise ValueError("corrupt header")
    return int(value)


def _special(block: bytes) -> str:
    kind = block[156:157]
    if kind == b"5" or (kind in (b"\0", b"0") and _name(block).endswith("/")):
        return "folder"
    return "" if kind in (b"0", b"\0", b"7") else SPECIAL.get(kind, "special file")


def _name(block: bytes) -> str:
    name = block[:100].split(b"\0")[0]
    if block[257:263] == b"ustar\0" and (prefix := block[345:500].split(b"\0")[0]):
        name = prefix + b"/" + name
    return _text(name)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _pax_records(content: bytes) -> dict[bytes, bytes]:
    """`length key=value` lines, where the length counts the whole line."""
    records: dict[bytes, bytes] = {}
    place = 0
    while place < len(content) and content[place]:
        blank = content.find(b" ", place, place + 20)
        length = _decimal(content[place:blank]) if blank > 0 else 0
        key, equals, value = content[blank + 1 : place + length - 1].partition(b"=")
        if not equals or place + length > len(content) or blank + 1 >= place + length or len(records) > MAX_PAX_RECORDS:
            raise ValueError("corrupt header")
        records[key] = value
        place += length
    return records


def _content(stream: Stream, length: int, most: int) -> bytes:
    """The first `most` bytes of the next `length`; the rest, and the filling up to a whole block, are passed over."""
    content = _exactly(stream, min(length, most))
    rest = -(-length // BLOCK) * BLOCK - len(content)
    while rest > 0:
        rest -= len(_exactly(stream, min(rest, 1 << 16)))
    return content
