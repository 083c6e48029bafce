r"""TeX's conditions whose outcome is known: which of \if... \else ... \fi is shown."""

import re

_MARK = re.compile(r"\\(if[a-zA-Z@]*|else|fi)(?![a-zA-Z@])")
_NO_CONDITIONS = ("iff", "ifthenelse")  # a symbol, and a macro that takes its branches as arguments


def shown_branch(text: str, start: int, value: bool) -> tuple[str, int] | None:
    r"""The branch shown of the condition whose \if... ends at `start`, and where its \fi ends; None where it has none."""
    depth, otherwise = 0, None
    for mark in _MARK.finditer(text, start):
        if mark[1] == "else":
            otherwise = otherwise if depth or otherwise else mark
        elif mark[1] != "fi":
            depth += mark[1] not in _NO_CONDITIONS
        elif depth:
            depth -= 1
        elif value:
            return text[start : otherwise.start() if otherwise else mark.start()], mark.end()
        else:
            return text[otherwise.end() : mark.start()] if otherwise else "", mark.end()
    return None
