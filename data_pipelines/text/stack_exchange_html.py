"""The HTML of a Stack Exchange post as plain text: code as it stands, lists, quotes, tables, what pictures say."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

# How lines part where these begin and end: 1, a new line; 2, a blank line between.
GAPS = dict.fromkeys("p pre blockquote ul ol table h1 h2 h3 h4 h5 h6 hr div dl".split(), 2) | dict.fromkeys(
    "li tr dt dd".split(), 1
)
NO_ALT = ("", "enter image description here", "alt text")  # what the site's editor puts where nobody wrote any
DISPLAY_MATH = re.compile(r"(\$\$.*?\$\$)", re.DOTALL)
BLANKS = re.compile(r"[ \t\n\r\f]+")
UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
QUOTE, BREAK = "> ", "\0"
DEPTH = 20  # of lists and quotes; marks of deeper ones are left out, so that text stays about as long as its HTML


def html_to_text(html: str) -> str:
    """Plain text of a post's body.

    Blocks are parted by a blank line. Code blocks and $$...$$ keep their line breaks and spaces. List items begin with
    "- " or their number, lines of quotes with "> "; table cells are parted by " | ". Of a link its text stays, of a
    picture its alternative text, of x<sup>2</sup> x^2."""
    parser, writer = _parser()
    writer.reset()
    parser.feed("<body>" + printable(html))
    text: str = parser.close()
    return text


@cache
def _parser() -> tuple[Any, "_Writer"]:
    # kept: to make one takes lxml as long as to parse a short post
    from lxml import etree

    writer = _Writer()
    return etree.HTMLParser(target=writer, no_network=True), writer


def printable(text: str) -> str:
    """Without control characters and halves of characters, and with "\\n" at the end of every line."""
    return UNPRINTABLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


class _Writer:
    """What lxml's parser reports to; a block of text is written where it ends."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.lines: list[str] = []
        self.inline: list[str] = []  # text of the block so far
        self.script: int | None = None  # where in it the last <sup> or <sub> began, while that is open
        self.gap = 0
        self.prefix: list[str] = []  # of each open quote and list item, what its lines begin with
        self.mark: tuple[int, str] | None = None  # of the item whose first line is to come, and its place in prefix
        self.quotes = ""  # of the last line
        self.lists: list[int | None] = []  # the next number of each open list; None: it has none
        self.pre = self.first_cell = False

    def data(self, data: str) -> None:
        self.inline.append(printable(data))  # again: "&#13;" was none of these before

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag in GAPS:
            self._block(1 if tag in ("ul", "ol") and self.lists else GAPS[tag])
        if tag == "br":
            self.inline.append(BREAK)
        elif tag == "img":
            alt = printable(attributes.get("alt", "")).strip()
            self.inline.append("" if alt.lower() in NO_ALT else alt)
        elif tag in ("sup", "sub"):
            self.script = len(self.inline)
        elif tag == "pre":
            self.pre = True
        elif tag == "blockquote":
            self._push(QUOTE)
        elif tag in ("ul", "ol"):
            first = attributes.get("start", "1")
            self.lists.append(None if tag == "ul" else int(first) if re.fullmatch("[0-9]{1,9}", first) else 1)
        elif tag == "li":
            number = self.lists[-1] if self.lists else None
            if number is not None:
                self.lists[-1] = number + 1
            mark = "- " if number is None else f"{number}. "
            self.mark = len(self.prefix), mark
            self._push(" " * len(mark))
        elif tag == "tr":
            self.first_cell = True
        elif tag in ("td", "th"):
            self.inline.append("" if self.first_cell else " | ")
            self.first_cell = False

    def end(self, tag: str) -> None:
        if tag in ("sup", "sub") and self.script is not None:
            script = "".join(self.inline[self.script :])
            if script and not BLANKS.search(script):
                self.inline.insert(self.script, "^" if tag == "sup" else "_")
            self.script = None
        if tag in GAPS:
            self._block(1 if tag in ("ul", "ol") and len(self.lists) > 1 else GAPS[tag])
        if tag == "pre":
            self.pre = False
        elif tag in ("ul", "ol") and self.lists:
            self.lists.pop()
        elif tag in ("li", "blockquote") and self.prefix:
            self.prefix.pop()
            self.mark = None

    def close(self) -> str:
        self._block(0)
        return "\n".join(self.lines).strip("\n")

    def _push(self, prefix: str) -> None:
        self.prefix.append(prefix if len(self.prefix) < DEPTH else "")

    def _block(self, gap: int) -> None:
        """Write the text so far; what follows is `gap` lines further down."""
        text = "".join(self.inline)
        if text:
            self.inline.clear()
            self.script = None
        if text and not text.isspace():
            quotes = "".join(part for part in self.prefix if part == QUOTE)
            if self.lines and self.gap == 2:
                self.lines.append(min(quotes, self.quotes, key=len).rstrip())
            lines = _code(text) if self.pre else _prose(text)
            begin = quotes if self.pre else "".join(self.prefix)
            if self.mark:
                place, mark = self.mark
                first = "".join(self.prefix[:place]) + mark
                self.lines.append(
                    (first if self.pre else first + "".join(self.prefix[place + 1 :]) + lines.pop(0)).rstrip()
                )
                self.mark = None
            self.lines += [(begin + line).rstrip() for line in lines]
            self.quotes, self.gap = quotes, 0
        self.gap = max(self.gap, gap)


def _prose(text: str) -> list[str]:
    parts = DISPLAY_MATH.split(text)
    parts[::2] = [BLANKS.sub(" ", part) for part in parts[::2]]
    return re.sub(f" ?{BREAK} ?", "\n", "".join(parts)).strip().split("\n")


def _code(text: str) -> list[str]:
    """Its lines as they are, but for blank ones before and after."""
    return re.sub(r"\A(?:[ \t]*\n)+", "", text.replace(BREAK, "\n")).rstrip().split("\n")
