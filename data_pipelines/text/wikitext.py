"""Wikitext to plain text in one pass of linear time: the markup of an article goes, its sentences stay.

What stays: prose, headings and list items as lines of their own, code and <nowiki> as they are, formulas as $LaTeX$, the
text of links, and what the few templates of `wikitext_templates` show. What goes: other templates, tables, references,
comments, galleries, images with their captions, categories, links to other languages, and the sections of `CITED_SECTIONS`.
An opening mark that nothing closes is given up alone: it takes no text with it.
"""

import re
from collections.abc import Callable

from data_pipelines.text.wikitext_inline import inline
from data_pipelines.text.wikitext_names import CITED_SECTIONS, VANISHING
from data_pipelines.text.wikitext_opaque import put_back, take_out
from data_pipelines.text.wikitext_templates import expand

MAX_DEPTH = 40  # MediaWiki's own $wgMaxTemplateDepth: so often may a text be copied, once for each level around it
MAX_CITED = 1000  # URLs kept of one article; few have more

INVISIBLE = "\x00\xad\u200b\u2060\ufeff\r"  # \x00 marks the place of what comes back at the end
SIMPLE_LINK = re.compile(r"\[\[(?:[^\[\]{}|\n:]*+\|)?+([^\[\]{}|\n:]++)\]\]")
TOKEN = re.compile(
    r"(\{\{+|\}\}+|\[\[|\]\]|\n[ \t:]*+\{\|[^\n{}\[\]]*+|\n[ \t]*+\|\}(?!\})|</?table\b[^<>]*+>)", re.IGNORECASE
)
URL = re.compile(r"https?://[^\s|\[\]{}<>\"]{4,2000}")


def plain_text(wikitext: str, title: str = "", language: str = "en", vanishing: frozenset[str] = VANISHING) -> str:
    """The article as text: paragraphs parted by one blank line, no markup.

    title: what {{PAGENAME}} shows. language: code of the wiki, for the titles of sections that only cite. vanishing: the
    prefixes, in lower case, of links that are not shown: files, categories, other languages."""
    kept: list[str] = []
    text = "\n" + wikitext
    for character in INVISIBLE:
        text = text.replace(character, "")
    text = take_out(text, kept)
    text = SIMPLE_LINK.sub(r"\1", text)
    text = _nested(text, title, vanishing)
    text = inline(text)
    text = _lines(text, CITED_SECTIONS.get(language, frozenset()) | CITED_SECTIONS["en"])
    text = put_back(text, kept).replace("\x00", "").replace("\r", "")
    text = "\n".join(map(str.rstrip, text.split("\n")))
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    return text.encode("utf-8", "ignore").decode()  # half a surrogate pair is no character


def cited_urls(wikitext: str) -> list[str]:
    """The URLs of an article's references and external links, each once, in their order; at most 1,000."""
    found = dict.fromkeys(url.rstrip(".,;:!?'()") for url in URL.findall(wikitext))
    return list(found)[:MAX_CITED]


def _nested(text: str, title: str, vanishing: frozenset[str]) -> str:
    """Resolve templates, links and tables, the innermost first, with one stack."""
    tokens = TOKEN.split(text)
    shown: list[str] = [tokens[0]]  # the parts of what is innermost now
    stack: list[tuple[str, list[str]]] = []  # what is open around it: its mark, and the parts before that
    depth = {"{": 0, "[": 0, "|": 0}
    left = MAX_DEPTH * len(text)

    def close(mark: str, resolve: Callable[[list[str]], str]) -> None:
        """Close the innermost `mark`; what was opened inside it and never closed is given up."""
        nonlocal shown, left
        if not depth[mark]:
            return
        given_up = [shown]
        opened, shown = stack.pop()
        while opened != mark:
            depth[opened] -= 1
            given_up.append(shown)
            opened, shown = stack.pop()
        depth[mark] -= 1
        inner = given_up[0] if len(given_up) == 1 else [part for parts in reversed(given_up) for part in parts]
        result = resolve(inner)
        left -= len(result)
        if result and left > 0:
            shown.append(result)

    def open_(mark: str) -> None:
        nonlocal shown
        stack.append((mark, shown))
        depth[mark] += 1
        shown = []

    for i in range(1, len(tokens), 2):
        token, after = tokens[i], tokens[i + 1]
        if token == "[[":
            open_("[")
        elif token == "]]":
            close("[", lambda parts: _link("".join(parts), vanishing))
        elif token[0] == "{":
            for _ in range(len(token) // 2):
                open_("{")
        elif token[0] == "}":
            for _ in range(len(token) // 2):
                close("{", lambda parts: expand(parts, title))
        elif "{|" in token or token[1] in "tT":
            open_("|")
        else:
            close("|", lambda parts: "\n")
        if after:
            shown.append(after)
    open_to_the_end = [parts for _, parts in stack] + [shown]
    return "".join(part for parts in open_to_the_end for part in parts)


def _link(inner: str, vanishing: frozenset[str]) -> str:
    target, bar, label = inner.partition("|")
    target = target.strip()
    if target[:1] == ":":
        target = target[1:]
    elif ":" in target and target.partition(":")[0].strip().lower().replace("_", " ") in vanishing:
        return ""
    return (label.strip() if bar else "") or target


def _lines(text: str, cited_sections: frozenset[str]) -> str:
    """Headings, list items and paragraphs; no heading without text below it, no section that only cites."""
    out: list[str] = []
    headings: list[tuple[int, str]] = []  # those that have no text yet
    skipping = False
    for line in text.split("\n"):
        line = line.strip()
        if line[:1] == "=" and line[-1] == "=" and (level := _level(line)):
            heading = line[level:-level].strip(" :=")
            if level <= 2:
                skipping = heading.lower() in cited_sections
            while headings and headings[-1][0] >= level:
                headings.pop()
            if not skipping and heading:
                headings.append((level, heading))
            continue
        if skipping or line[:1] == "|" or line[:4] == "----" or (line[:1] == "!" and ("!!" in line or "|" in line)):
            continue
        if line[:1] in ("*", "#", ":", ";"):
            body = line.lstrip("*#:; ")
            marks = line[: len(line) - len(body)]
            if body[:2] in (". ", ", "):  # what stood before it was a template that vanished
                body = body[2:]
            if not body:
                continue
            line = "- " + body if ("*" in marks or "#" in marks) and body[0] not in "-–•" else body
        if not line:
            out.append("")
        elif any(map(str.isalnum, line)):
            for _, heading in headings:
                out += ["", heading, ""]
            headings.clear()
            out.append(line)
    return "\n".join(out)


def _level(line: str) -> int:
    """Of a heading: equals signs on both sides; 0 where there is nothing between them."""
    left, right = len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("="))
    return min(left, right, 6) if left < len(line) else 0
