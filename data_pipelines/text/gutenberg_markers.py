"""Project Gutenberg's own words around a book: headers, licences and trademarks of every generation, found and taken off."""

import re
from collections.abc import Sequence
from typing import NamedTuple

HEAD_LINES = 1000  # the longest headers, small print included, have about 450 lines
MARKER_LINES = 6  # a title may go on over the marker's next lines

PROJECT = r"pro[jyg][a-z]{2,6}\s+gutenberg"  # project, projekt, projet, proyecto, progetto
MENTION = re.compile(
    PROJECT + r"|gutenberg[\s-]+pro[jyg]ekt|gutenberg\.(?:org|net|aol)\b|pglaf\.org|pgdp\.net|distributed\s+proofread",
    re.IGNORECASE,
)
START = re.compile(r"\W{0,9}\*\s{0,3}START\s+OF\s+(?:THE|THIS)\s+PROJECT\s+GUTENBERG", re.IGNORECASE)
END = re.compile(
    r"\W{0,20}(?:this\s+is\s+)?(?:the\s+)?(?:end|ende|fin|fine|einde|slut|loppu)\b.{0,40}?\b" + PROJECT
    + r"|\W{0,9}\*{3}\s?START:?\s+FULL\s+LICENSE|\*{3,}\s?This\s+file\s+should\s+be\s+named",
    re.IGNORECASE,
)  # fmt: skip
SMALL_PRINT = re.compile(r"\W{0,9}\*\s?START\s?\*{0,3}\s?THE\s+SMALL\s+PRINT", re.IGNORECASE)
SMALL_PRINT_END = re.compile(r"\W{0,9}\*\s?END\s?\*{0,3}\s?THE\s+SMALL\s+PRINT", re.IGNORECASE)
LICENCE = re.compile(
    r"small\s+print!|gutenberg-tm|gutenberg\s+literary\s+archive|replacement\s+or\s+refund|indemnify\s+and\s+hold"
    r"|disclaimer\s+of\s+damages|public\s+domain\s+e-?(?:texts|books)|trademark\s+license",
    re.IGNORECASE,
)
LICENCE_WORDS = ("print!", "gutenberg", "refund", "indemnify", "disclaimer", "domain", "trademark")  # one is in each
COPYRIGHTED = re.compile(
    r"this\s+is\s+a\s+\**copyrighted\**\s+project\s+gutenberg|small\s+print!\**\s*for\s+copyright\s+protected"
    r"|copyrighted\s+project\s+gutenberg\s+e-?(?:text|book)",
    re.IGNORECASE,
)


def mentions_project(text: str) -> bool:
    """Whether Project Gutenberg, or those who work for it, are named."""
    lower = text.lower()  # three words are found faster than a pattern
    return ("gutenberg" in lower or "pg" in lower or "distributed" in lower) and MENTION.search(text) is not None


class Parts(NamedTuple):
    """A file taken apart. `clipped`: it says where its text starts, and never where that ends."""

    header: list[str]
    body: list[str]
    clipped: bool


def take_apart(lines: Sequence[str]) -> Parts | None:
    """Header and body of a book; None where there is a header and no telling where it ends.

    A body starts after `*** START OF ...` or, before 2002, after the small print, whichever comes last in the head, and
    ends with the first closing words; a file made of several starts again with the next start. A file that has no
    header, because somebody took it off, is all body."""
    body: list[str] = []
    header_end, end, inside, opened, closed = 0, len(lines), False, False, False
    telling = ["*" in line or "gutenberg" in line.lower() for line in lines] + [False]
    i = 0
    while i < len(lines):
        line = lines[i]
        ahead = " ".join(lines[i : i + 2]) if telling[i] or telling[i + 1] else ""  # a marker may go over two lines
        in_head = not closed and i < HEAD_LINES
        if START.match(ahead):
            i = _marker_end(lines, i)
            if in_head:  # a header around an older one
                body, header_end = [], i
            inside, opened, closed = True, True, False
        elif in_head and SMALL_PRINT_END.match(ahead):
            if not line.endswith("END*") and lines[i + 1 : i + 2] and lines[i + 1].endswith("*END*"):
                i += 1
            body, header_end, inside = [], i + 1, True
        elif END.match(ahead) or (inside and not in_head and SMALL_PRINT.match(ahead)):
            end = min(end, i)
            inside, closed = False, closed or inside
        elif inside:
            body.append(line)
        i += 1
    if header_end == 0 and not opened:
        body = list(lines[:end])
        if any(mentions_project(line) or _tells_terms(line) for line in body[:HEAD_LINES]):
            return None
    return Parts(list(lines[:header_end]), body, opened and not closed)


def _marker_end(lines: Sequence[str], first: int) -> int:
    """The last line of the marker that begins at `first`: with `***` at its end, or before a blank line."""
    for i in range(first, min(first + MARKER_LINES, len(lines))):
        if lines[i].rstrip().endswith("**") and (i > first or lines[i].count("*") > 3):
            return i
        if not lines[i].strip():
            break
    return first


def has_licence(blocks: Sequence[Sequence[str]]) -> bool:
    """Whether terms of use are left in a body: then its markers were not what they seemed."""
    return sum(1 for lines in blocks if _tells_terms(" ".join(lines))) >= 2


def _tells_terms(text: str) -> bool:
    lower = text.lower()
    return any(word in lower for word in LICENCE_WORDS) and LICENCE.search(text) is not None


def field(header: Sequence[str], *names: str) -> str:
    """A field such as `Title:` of a header, with its continuation lines; "" where it has none of the names."""
    for i, line in enumerate(header[:HEAD_LINES]):
        for name in names:
            if line[: len(name) + 1].lower() == name + ":":
                words = [line[len(name) + 1 :]]
                for more in header[i + 1 : i + MARKER_LINES]:
                    if not more.startswith("   "):
                        break
                    words.append(more)
                return " ".join(" ".join(words).split())[:1000]
    return ""
