"""The rows of a Stack Exchange Posts.xml, and the questions put together with their answers in bounded memory."""

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO, NamedTuple

from data_pipelines.account import Account

BLOCK_BYTES = 2**18
ROW_BYTES = 2**20  # a post has at most 30,000 characters; escaped, and of three bytes each, that is 200 kB
THREAD_BYTES = 2**23  # the longest threads, of a thousand answers, come to some 2 MB
BUCKETS = 512  # files open at once, where most systems allow 1,024

ATTRIBUTE = re.compile(rb"""\s+([A-Za-z]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
# What stands between two "<", a character that XML allows nowhere inside a row.
ROW = re.compile(rb"""row((?:\s+[A-Za-z]+\s*=\s*(?:"[^"]*"|'[^']*'))*)\s*/?>\s*""")
ID = re.compile(rb"[0-9]{1,18}")
TOO_LONG = b"<"  # stands in place of a piece that is: no piece has a "<" in it


class Row(NamedTuple):
    """A question or an answer: its id, that of the question it belongs to, and the row as it stands in the dump."""

    id: int
    question: int
    raw: bytes


def attributes(raw: bytes) -> dict[str, bytes] | None:
    """The attributes of a row, escaped as they are; None where it is none."""
    row = ROW.fullmatch(raw)
    if row is None:
        return None
    return {name.decode(): double or single for name, double, single in ATTRIBUTE.findall(row[1])}


def unescape(value: bytes) -> str:
    """An attribute's value without XML's escapes. Raises UnicodeDecodeError where it is not UTF-8."""
    text = value.decode()
    if "&" in text:
        for escape, character in ("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#xA;", "\n"), ("&apos;", "'"):
            text = text.replace(escape, character)
        if "&#" in text:
            text = re.sub("&#(?:x([0-9a-fA-F]{1,6})|([0-9]{1,7}));", _character, text)
        text = text.replace("&amp;", "&")  # last: what it sets free is text
    return text


def _character(reference: re.Match[str]) -> str:
    number = int(reference[1], 16) if reference[1] else int(reference[2])
    return chr(number) if number <= 0x10FFFF else "\ufffd"


def rows(file: IO[bytes], account: Account) -> Iterator[Row]:
    """The questions and answers of a Posts.xml, in its order; its other rows and its faults go to the account.

    Attribute values may have line breaks in them. The file is never taken as XML in whole: a broken row costs itself."""
    root = ended = False
    for raw in _pieces(file):
        if raw.startswith(b"row") and root:
            row = _row(raw, account)
            if row is not None:
                yield row
        elif raw.startswith(b"posts") and not root:
            root, ended = True, b"/>" in raw
        elif raw.startswith(b"/posts") and root:
            ended = True
        elif raw.startswith(b"!DOCTYPE"):
            account.fail("document type declared")
            return
        elif not root and not raw.startswith((b"?", b"!--")):
            break
        elif not raw.startswith((b"?", b"!--", b"/row")):
            account.fail("row over 1 MB" if raw == TOO_LONG else "malformed row")
    if not ended:
        account.fail("Posts.xml ends before its last row" if root else "not a Posts.xml")


def _row(raw: bytes, account: Account) -> Row | None:
    found = attributes(raw) or {}
    kind, id = found.get("PostTypeId", b""), found.get("Id", b"")
    question = id if kind == b"1" else found.get("ParentId", b"")
    if kind.isdigit() and kind not in (b"1", b"2"):  # tag wikis and their excerpts, elections and the like
        account.drop("neither question nor answer")
        return None
    if not kind or not ID.fullmatch(id) or not ID.fullmatch(question) or (kind == b"2" and int(id) == int(question)):
        account.fail("malformed row")
        return None
    return Row(int(id), int(question), raw)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    """What stands between two "<", and after the last if a ">" ends it; TOO_LONG in place of what is too long."""
    rest = b""
    skip = True  # what stands before the first "<": nothing, or a byte order mark
    while block := file.read(BLOCK_BYTES):
        *pieces, rest = (rest + block).split(b"<")
        if skip and pieces:
            del pieces[0]
            skip = False
        yield from pieces
        if len(rest) > ROW_BYTES:
            if not skip:
                yield TOO_LONG
            rest, skip = b"", True
    if not skip and rest.rstrip().endswith(b">"):
        yield rest


def threads(found: Iterable[Row], size: int, memory: int, account: Account) -> Iterator[tuple[bytes, list[bytes]]]:
    """(question, its answers) of rows that come in any order, as rows; every other row goes to the account.

    size: bytes of all rows; memory: of those to hold at once. Where they do not fit they are first written to
    temporary files, by the question's id, and then joined file by file."""
    count = min(BUCKETS, -(-size // memory))
    if count <= 1:
        yield from _join(found, account)
        return
    with ExitStack() as stack:
        buckets = [
            stack.enter_context(TemporaryFile()) for _ in range(count)
        ]  # without names: nothing can be left over
        for row in found:
            buckets[row.question % count].write(b"<" + row.raw)
        for bucket in buckets:
            bucket.seek(0)
            again = (_row(raw, account) for raw in _pieces(bucket))
            yield from _join((row for row in again if row is not None), account)
            bucket.close()


def _join(found: Iterable[Row], account: Account) -> Iterator[tuple[bytes, list[bytes]]]:
    """The threads among these rows, in the order of the questions' ids."""
    questions: dict[int, bytes] = {}
    answers: dict[int, dict[int, bytes]] = {}
    for row in found:
        place = questions if row.id == row.question else answers.setdefault(row.question, {})
        if row.id in place:
            account.drop("repeated id")
        else:
            place[row.id] = row.raw
    for id in sorted(questions):
        raw, its = questions.pop(id), answers.pop(id, {})
        if len(raw) + sum(map(len, its.values())) > THREAD_BYTES:
            account.fail("thread over 8 MB")
        else:
            account.seen += 1
            yield raw, [its[answer] for answer in sorted(its)]
    for orphans in answers.values():
        for _ in orphans:
            account.drop("answer without its question")
