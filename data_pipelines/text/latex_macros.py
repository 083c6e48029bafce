r"""Definitions of LaTeX macros, read where they stand: \newcommand and its kin, \def, \let, \newenvironment."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from data_pipelines.text.latex_text import CONTROL_WORD_END, closing

# Never replaced, whatever a paper or its style says: what the text's structure is told by, and what any reader knows.
PROTECTED = frozenset(
    "begin end part chapter section subsection subsubsection paragraph subparagraph appendix documentclass documentstyle "
    "usepackage input include import bibliography maketitle title author date abstract keywords affiliation address email "
    "thanks caption footnote cite citep citet ref eqref pageref label item emph textbf textit text par url href verb "
    "includegraphics left right frac sqrt newcommand renewcommand providecommand def let fi else iffalse iftrue "
    "\\ { } % $ & # _ [ ] ( )".split()
)
PROTECTED_ENVIRONMENTS = frozenset(
    "document abstract thebibliography comment figure table tabular equation align itemize enumerate verbatim".split()
)
# A macro that does these programs TeX and abbreviates nothing: its body would say less than its name. @ is for internals.
_PROGRAMS = re.compile(
    r"##|\\(?:[a-zA-Z]+@|@[a-zA-Z@]|(?:[gex]?def|let|global|expandafter|csname|futurelet|catcode|advance|loop|read|write|"
    r"openin|renewcommand|new[a-z]+|if(?!mmode|f(?![a-z])|thenelse|true|false)[a-z]*)(?![a-zA-Z@]))"
)
_NAME = r"(?:\{\s?\\([a-zA-Z@]+|[^a-zA-Z\s])\s?\}|\\([a-zA-Z@]+|[^a-zA-Z\s]))"
_COUNT = r"\s?(?:\[\s?(\d)\s?\])?\s?"
_COMMAND = re.compile(r"\*?\s?" + _NAME + _COUNT)
_ENVIRONMENT = re.compile(r"\*?\s?\{\s?([^{}\\\s]{1,80})\s?\}" + _COUNT)
_DEF = re.compile(r"\s?\\([a-zA-Z@]+|[^a-zA-Z\s])\s?([^{}]{0,200})(?=\{)")
_LET = re.compile(r"\s?\\([a-zA-Z@]+|[^a-zA-Z\s])\s?=?\s?(\\(?:[a-zA-Z@]+|[^a-zA-Z\s])|[^\s\\{}])[ \t]*")
_TOKEN = re.compile(r"\\(?:[a-zA-Z@]+|.)|[^\s{}\\]", re.S)
_PARAMETERS = re.compile(r"#(\d)")


class Macro(NamedTuple):
    """parts: the body split at its parameters (text, number, text, ...). delimiters: what ends each argument, where "" is
    TeX's one token or group. prefix: what must stand before the first. default: of an optional first argument."""

    parts: tuple[str, ...]
    delimiters: tuple[str, ...] = ()
    prefix: str = ""
    default: str | None = None

    def fill(self, arguments: Sequence[str]) -> str:
        text = self.parts[0]
        for number, following in zip(self.parts[1::2], self.parts[2::2], strict=True):
            text = join(join(text, arguments[int(number) - 1]), following)
        return text


class Definition(NamedTuple):
    r"""One definition: of \name, or of the environment with this name and its \end's text; macro: None where it is none
    that can be expanded. end: where the definition's text ends."""

    name: str
    macro: Macro | None
    end: int
    closing: str | None = None


def join(first: str, second: str) -> str:
    r"""The two as TeX reads one after the other: \alpha and b are \alpha b."""
    if second[:1].isalpha() and CONTROL_WORD_END.search(first, max(0, len(first) - 64)):
        return f"{first} {second}"
    return first + second


def read_definition(command: str, text: str, start: int) -> Definition | None:
    r"""The definition whose command (such as "newcommand") ends at `start`; None where none follows."""
    if command in ("def", "gdef", "edef", "xdef"):
        return _read_def(text, start)
    if command == "let":
        found = _LET.match(text, start)
        return Definition(found[1], _macro(found[2].removeprefix(r"\relax"), 0), found.end()) if found else None
    environment = command.endswith("environment")
    found = (_ENVIRONMENT if environment else _COMMAND).match(text, start)
    if found is None:
        return None
    name, count, place = found[1] or found[2], int(found[found.re.groups] or 0), found.end()
    default = None
    if text[place : place + 1] == "[":
        end = closing(text, place, optional=True)
        if end < 0:
            return None
        default, place = text[place + 1 : end], end + 1
    body, place = _body(text, place)
    if place < 0:
        return None
    if command == "DeclareMathOperator":
        body = f"\\operatorname{'*' * (text[start : start + 1] == '*')}{{{body}}}"
    end_body = None
    if environment:
        end_body, place = _body(text, place)
        if place < 0:
            return None
        if _PROGRAMS.search(end_body) or "#" in end_body:
            return Definition(name, None, place, end_body)
    return Definition(name, _macro(body, count, default=default), place, end_body)


def _read_def(text: str, start: int) -> Definition | None:
    found = _DEF.match(text, start)
    end = closing(text, found.end()) if found else -1
    if found is None or end < 0:
        return None
    name, parameters, body = found[1], found[2].rstrip("\n"), text[found.end() + 1 : end]
    prefix, *rest = _PARAMETERS.split(parameters)
    numbers, delimiters = rest[::2], tuple(rest[1::2])
    plain = "#" not in "".join((prefix, *delimiters)) and not any(d.isspace() for d in delimiters)
    if not plain or numbers != [str(i + 1) for i in range(len(numbers))]:
        return Definition(name, None, end + 1)
    return Definition(name, _macro(body, len(numbers), delimiters, prefix), end + 1)


def _body(text: str, start: int) -> tuple[str, int]:
    """What is in the group at `start` after blanks (or the one token there) and where it ends; -1 where nothing is."""
    while text[start : start + 1].isspace():
        start += 1
    if text[start : start + 1] == "{":
        end = closing(text, start)
        return (text[start + 1 : end], end + 1) if end >= 0 else ("", -1)
    token = _TOKEN.match(text, start)
    return (token.group(), token.end()) if token else ("", -1)


def _macro(
    body: str, count: int, delimiters: tuple[str, ...] = (), prefix: str = "", default: str | None = None
) -> Macro | None:
    parts = tuple(_PARAMETERS.split(body))
    if _PROGRAMS.search(body) or any(not 1 <= int(number) <= count for number in parts[1::2]):
        return None
    return Macro(parts, delimiters or ("",) * count, prefix, default)


@lru_cache(1000)
def _until(delimiter: str) -> re.Pattern[str]:
    end = re.escape(delimiter) + (r"(?![a-zA-Z])[ \t]*" if CONTROL_WORD_END.search(delimiter) else "")
    return re.compile(rf"({end})|\\(?:[a-zA-Z@]+|.)|[{{}}]|\n[ \t]*\n", re.S)


def read_until(delimiter: str, text: str, start: int) -> tuple[str, int] | None:
    r"""The argument of a \def up to its delimiter, and where that ends; None where this paragraph has none."""
    depth = 0
    for token in _until(delimiter).finditer(text, start):
        if token[1] and depth == 0:
            argument = text[start : token.start()]
            if argument[:1] == "{" and closing(argument, 0) == len(argument) - 1:
                argument = argument[1:-1]  # TeX takes one pair of braces off
            return argument, token.end()
        mark = token.group()
        if mark == "{":
            depth += 1
        elif mark == "}" or mark[0] == "\n":
            depth -= 1
            if depth < 0 or mark[0] == "\n":
                return None
    return None
