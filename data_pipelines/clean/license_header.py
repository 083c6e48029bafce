"""A source file without the comment about licence and copyright at its start, in the comment signs of its language."""

import re
from typing import NamedTuple

HEADER = 60_000  # characters a licence header may have: longer than the GPL in full
BLOCKS = 8  # comments looked at before the code starts

SLASHES = (("//",), (("/*", "*/"),))
HASHES = (("#",), ())
COMMENTS: dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {  # (line marks, block marks); // and /* */ else
    "Assembly": ((";", "#", "//", "@", "*"), (("/*", "*/"),)), "Batchfile": (("rem ", "::", "@rem "), ()),
    "CMake": (("#",), (("#[[", "]]"),)), "Dockerfile": HASHES, "Makefile": HASHES, "Shell": HASHES, "Smali": HASHES,
    "Fortran": (("!", "c ", "*"), ()), "Haskell": (("--",), (("{-", "-}"),)), "HTML": ((), (("<!--", "-->"),)),
    "Julia": (("#",), (("#=", "=#"),)), "Lua": (("--",), (("--[[", "]]"),)), "Markdown": ((), (("<!--", "-->"),)),
    "Perl": HASHES, "PHP": (("//", "#"), (("/*", "*/"),)), "PowerShell": (("#",), (("<#", "#>"),)),
    "Python": (("#",), (('"""', '"""'), ("'''", "'''"))), "Ruby": (("#",), (("=begin", "=end"),)),
    "SQL": (("--", "#"), (("/*", "*/"),)), "TeX": (("%",), ()), "Visual Basic": (("'", "rem "), ()),
    "XML": ((), (("<!--", "-->"),)), "reStructuredText": ((".. ",), ()),
    "Objective-C or MATLAB": (("//", "%"), (("/*", "*/"),)),
}  # fmt: skip
STAYS = re.compile(  # lines above a header that the file needs
    r"#!|#(?:pragma|ifndef|if|define)\b|#.{0,20}coding[:=]|<\?|<!doctype|@echo|# -\*-|// -\*-|# syntax="
    r"|(?:use strict|\"use strict\"|'use strict');?\s*$",
    re.I | re.M,
)
LICENSE_WORDS = re.compile(
    r"copyright|©|\(c\) ?\d{4}|spdx-|licen[cs]ed |all rights reserved|permission is hereby granted|"
    r"(?:under|see|read) the [^\0]{0,60}?licen[cs]e|public domain|@license|general\W+public|mozilla public|free software|"
    r"\b[al]?gplv?\d?\b|licen[cs]e:|released under|proprietary and confidential|confidential and proprietary",
    re.I,
)
NAMES_A_LICENSE = re.compile(  # in a docstring that is about something else: words that mean nothing but a licence
    r"general\W+public|mozilla\W+public|\b[al]?gplv?\d?\b|licen[cs]ed under|released under|licen[cs]e:", re.I
)


class Header(NamedTuple):
    """A file without its licence header, that header, and what else at the start names a licence, which stays."""

    text: str
    header: str
    named: str = ""


def strip_header(text: str, language: str) -> Header:
    """Take off the comments about licence and copyright that stand before the code; other comments there stay.

    A #! line, an encoding, `<?php` and their like stay. Python's docstring goes only where it starts with the licence."""
    marks, blocks = COMMENTS.get(language, SLASHES)
    head, place = text[:HEADER], 0
    kept: list[str] = []
    removed: list[str] = []
    named = ""
    for _ in range(BLOCKS):
        comment_end = _comment(head, place, marks, blocks)
        if comment_end is None:
            line_end = head.find("\n", place) + 1
            if not STAYS.match(head, place) or not line_end:
                break
            kept.append(head[place:line_end])
            place = line_end
            continue
        comment = head[place:comment_end]
        about = LICENSE_WORDS.search(comment)
        if about and comment.lstrip().startswith(('"""', "'''")):
            about = LICENSE_WORDS.search(comment.lstrip("\"' \t\r\n").split("\n")[0])
            named += comment if not about and NAMES_A_LICENSE.search(comment) else ""
        (removed if about else kept).append(comment)
        place = comment_end
    if not removed:
        return Header(text, "", named)
    # what stays in front keeps its blank lines below it; where all went, the code starts at once
    front = "".join(kept)
    rest = text[place:]
    return Header(front + rest if front.strip() else rest.lstrip("\n"), "".join(removed), named)


def _comment(text: str, start: int, marks: tuple[str, ...], blocks: tuple[tuple[str, str], ...]) -> int | None:
    """Where the comment ends that starts at `start`, its blank lines included; None where there is none."""
    place = start
    while text[place : place + 1].isspace():
        place += 1
    for opening, closing in blocks:
        if text.startswith(opening, place):
            end = text.find(closing, place + len(opening))
            if end < 0:
                return None
            line = text.find("\n", end)
            line = len(text) if line < 0 else line
            if text[end + len(closing) : line].strip():  # code behind the comment
                return None
            return _past_blank_lines(text, line)
    if STAYS.match(text, place):
        return None
    end = place
    while end < len(text):
        line = text.find("\n", end)
        line = len(text) if line < 0 else line
        content = text[end:line].lstrip().lower()
        in_comment = content.startswith(marks) or content in [mark.strip() for mark in marks]
        if not marks or not content or not in_comment:
            break
        end = min(line + 1, len(text))
    return _past_blank_lines(text, end) if end > place else None


def _past_blank_lines(text: str, place: int) -> int:
    """From a line's end to the start of the next line that is not blank."""
    while place < len(text) and text[place] == "\n":
        place += 1
    return place
