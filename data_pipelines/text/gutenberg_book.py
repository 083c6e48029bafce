"""One file of Project Gutenberg, text or zip, as a book: its number, its characters, its header's fields, its text."""

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data_pipelines.dumps.archives import check_directory
from data_pipelines.pool import Failure
from data_pipelines.text.gutenberg_markers import COPYRIGHTED, field, has_licence, take_apart
from data_pipelines.text.gutenberg_paragraphs import drop_foreign, paragraphs, split_blocks

HEAD_BYTES = 20_000  # headers that name their number do so before this
NUMBER = re.compile(rb"\[\s?e-?(?:book|text)\s{0,9}#\s?(\d{1,7})\s?\]", re.IGNORECASE)
ENCODING = re.compile(rb"character\s+set\s+encoding:\s*([^\r\n]{1,60})", re.IGNORECASE)
CODECS = {  # what headers say beside UTF-8, ASCII and Latin-1; a header may not choose among all of Python's codecs
    **{f"iso88592{end}": "iso8859-2" for end in ("", "latin2")},
    **{"iso88597": "iso8859-7", "iso885915": "iso8859-15", "windows1250": "cp1250", "windows1251": "cp1251"},
    **{"windows1253": "cp1253", "koi8r": "koi8-r", "macroman": "mac-roman", "big5": "big5", "gb2312": "gb18030"},
    **{"gbk": "gb18030", "shiftjis": "cp932", "eucjp": "euc-jp", "euckr": "euc-kr", "codepage437": "cp437"},
    **{"cp437": "cp437", "codepage850": "cp850", "cp850": "cp850"},
}
FIRST_LINE = re.compile(  # of headers from before there were fields
    r"\W*(?:the\s+)?project\s+gutenberg(?:['’]s)?(?:\s+e-?(?:text|book)\s+of)?,?\s+(.{1,300}?),?\s+by\s+([^#(\[]{1,100}\b\.?)",
    re.IGNORECASE,
)
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
CONTROL = re.compile("[\0-\x08\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff]")


class Book(NamedTuple):
    """A book's text and what its header says; `raw_bytes` of its file, unpacked; `clipped`: its end is missing."""

    text: str
    title: str
    author: str
    language: str
    date: str
    raw_bytes: int
    clipped: bool


class Dropped(NamedTuple):
    """Why a file is left out."""

    reason: str


def book_number(path: str) -> int | Failure | None:
    """The number in the header, else the one in the file's name (`1342-0.txt`, `pg1342.txt`); None where neither is.

    In this order, for old names can be all digits: 2000010.txt holds book 164."""
    head = _load(Path(path), HEAD_BYTES, whole=False)
    if not isinstance(head, bytes):
        return head if isinstance(head, Failure) else None
    named = NUMBER.search(head) or re.match(
        rb"(?:pg)?(\d{1,6})(?:-\w{1,9})?\.", Path(path).name.encode(errors="replace")
    )
    return int(named[1]) if named else None


def read_book(item: tuple[int, str, int]) -> Book | Dropped | Failure:
    """The book in a file: item is (number, path, largest size in bytes)."""
    _, path, max_bytes = item
    raw = _load(Path(path), max_bytes)
    return clean_book(raw) if isinstance(raw, bytes) else raw


def clean_book(raw: bytes) -> Book | Dropped:
    """A book's own text out of the bytes of its file."""
    lines = CONTROL.sub("", decode(raw).replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")).split("\n")
    lines = [line.rstrip().expandtabs() if len(line) < 10_000 else line.rstrip() for line in lines]
    parts = take_apart(lines)
    if parts is None:
        return Dropped("header whose end is not marked")
    if COPYRIGHTED.search(" ".join(parts.header)):
        return Dropped("not in the public domain")
    blocks = drop_foreign(split_blocks(parts.body))
    if has_licence([block.lines for block in blocks]):
        return Dropped("licence text within the book")
    text = "\n\n".join(paragraphs(blocks)).strip()
    if not text:
        return Dropped("empty")
    names = ("title", "author", "language")
    title, author, language = (field(parts.header, name) for name in names)
    if not title and (named := FIRST_LINE.match(" ".join(parts.header[:2]))):
        title, author = named[1], named[2]
    return Book(text, title, author, language, _date(field(parts.header, "release date")), len(raw), parts.clipped)


def decode(raw: bytes) -> str:
    """The characters of a book: its byte order mark, UTF-8 if it can be, what its header says, else cp1252.

    UTF-8 before the header: other encodings are hardly ever valid UTF-8, and headers are often wrong."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace").encode("utf-8", "replace").decode()
    named = ENCODING.search(raw[:HEAD_BYTES])
    name = re.sub(r"[^a-z0-9]", "", named[1].decode("latin-1").lower()) if named else ""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        if raw.startswith(b"\xef\xbb\xbf") or name.startswith("utf8"):
            return raw.decode("utf-8-sig", errors="replace")
    for codec in (CODECS.get(name, "cp1252"), "cp1252"):
        try:
            return raw.decode(codec)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


def _load(path: Path, max_bytes: int, whole: bool = True) -> bytes | Dropped | Failure:
    """The bytes of a text file or of the one text in a zip; of one that is larger, `Dropped` or the beginning."""
    try:
        if path.suffix.lower() == ".zip":
            with path.open("rb") as packed:
                check_directory(packed)
            with zipfile.ZipFile(path) as archive:
                texts = [member for member in archive.infolist() if member.filename.lower().endswith(".txt")]
                if len(texts) != 1:
                    return Dropped("archive without a text" if not texts else "archive of several texts")
                if texts[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    return Failure("broken archive")
                with archive.open(texts[0]) as file:
                    raw = file.read(max_bytes + 1)
        else:
            with path.open("rb") as file:
                raw = file.read(max_bytes + 1)
    except OSError:
        return Failure("file that cannot be read")
    except Exception:  # whatever a damaged archive makes zipfile and zlib raise
        return Failure("broken archive")
    return Dropped("text too large") if whole and len(raw) > max_bytes else raw[:max_bytes]


def _date(text: str) -> str:
    """ "1998-06-01" of "June 1, 1998 [EBook #1342]", "1998-06" where there is no day, "" where there is no year."""
    found = re.match(r"([A-Za-z]{3})[a-z]*\.?,? *(?:(\d{1,2}),)? *(\d{4})\b", text)
    month = MONTHS.index(found[1].lower()) + 1 if found and found[1].lower() in MONTHS else 0
    if not found or not month:
        return ""
    return f"{found[3]}-{month:02}" + (f"-{int(found[2]):02}" if found[2] else "")


def edition_rank(number: int, name: str) -> tuple[bool, int, int, str]:
    """Sorts the files of one book, the best first: the current edition's UTF-8, ISO-8859-1, ASCII, then older editions.

    A current edition's file is named after its number; an older one's after its title and edition (`pandp12.txt`)."""
    stem = name.rsplit("/", 1)[-1].split(".")[0].lower()
    current = re.fullmatch(rf"(pg)?{number}(?:(-[a-z0-9]+)|_.*)?", stem)
    if current and not re.search(r"(?:^|/)old(?:/|__)", name):
        kinds: Sequence[str] = ("-0", "pg", "-8", "")
        kind = "pg" if current[1] else current[2] or ""
        return False, kinds.index(kind) if kind in kinds else len(kinds), 0, name
    edition = re.search(r"(\d\d)[a-z]?$", stem)
    return True, 0, -int(edition[1]) if edition else 0, name
