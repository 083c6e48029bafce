"""Marks within a line: external links, tags, bold and italics, magic words, entities, and the holes that templates left."""

import html
import re

from data_pipelines.text.wikitext_opaque import KEPT_RAW, LEFT_OUT

TAGS = (
    "abbr b bdi bdo big blockquote br caption center cite data dd del dfn div dl dt em font h1 h2 h3 h4 h5 h6 hr i "
    "includeonly ins kbd langconvert li mark noinclude ol onlyinclude p poem q rb rbc rp rt rtc ruby s samp small span "
    "strike strong sub sup table tbody td tfoot th thead time tr tt u ul var wbr"
).split()

EXTERNAL_LINK = re.compile(
    r"\[(?:(?:https?|ftps?|irc|news):)?//[^\s\[\]<>\"]++[ \t\xa0]*+([^\[\]\n]{0,500}+)\]", re.IGNORECASE
)
UNCLOSED_EXTERNAL = re.compile(r"\[(?:https?:)?//[^\s\[\]<>\"]++", re.IGNORECASE)
TAG = re.compile(rf"</?(?:{'|'.join(TAGS)}|{'|'.join(KEPT_RAW + LEFT_OUT)})\b[^<>]*+>", re.IGNORECASE)
BREAK = re.compile(r"<br\b[^<>]*+>|</(?:p|div|li|blockquote|dd|dt)\s*+>", re.IGNORECASE)
LEFTOVER = re.compile(r"</?ref\b[^<>\n]*+>?|\[\[|\]\]|\{\{|\}\}|\{\||\|\}", re.IGNORECASE)
QUOTES = re.compile("('{2,})")
VARIANT = re.compile(r"-\{([^{}]{0,500}+)\}-")  # of a script: Serbian, Chinese
VARIANT_CODE = re.compile("[a-z]{2,3}(?:-[a-z]+)?")
MAGIC_WORD = re.compile(r"__[^\W\d_]++(?:_[^\W\d_]++)*+__")
EMPTY_BRACKETS = re.compile(r" \([ ,;:/–—-]*+\)")  # and not those of malloc()
EMPTY_WIDE_BRACKETS = re.compile(r"（[\s，、；,;]*+）")
OPENED_BADLY = re.compile(r"\([ ,;:]++")
BEFORE_POINT = re.compile(r" \.(?=\s|$)")


def inline(text: str) -> str:
    """The text without them."""
    text = EXTERNAL_LINK.sub(r"\1", text)
    if "[http" in text or "[//" in text:
        text = UNCLOSED_EXTERNAL.sub("", text)
    if "-{" in text:
        text = VARIANT.sub(_variant, text)
    if "<" in text:
        text = TAG.sub("", BREAK.sub("\n", text))
    if "'''" in text:
        text = "\n".join(_apostrophes(line) if "'''" in line else line for line in text.split("\n"))
    text = text.replace("''", "")
    if "__" in text:
        text = MAGIC_WORD.sub(lambda match: "" if match[0].isupper() else match[0], text)
    if "~~~" in text:
        text = re.sub("~{3,5}", "", text)
    text = LEFTOVER.sub("", text)
    if "&" in text:
        text = html.unescape(text).replace("\xad", "").replace("\u200b", "").replace("\r", "")
    return _holes(text)


def _apostrophes(line: str) -> str:
    """The line without marks of bold and italics, but with the apostrophe that stands before one: l'''Orient''.

    MediaWiki's rule: where both are odd, one of three is an apostrophe, best after a letter alone, else after a word; of
    four, or of more than five, the first are. Here it must touch a word: ''{{vanished}}'' has four too."""
    parts = QUOTES.split(line)
    marks = range(1, len(parts), 2)
    odd_bold = sum(len(parts[i]) > 2 for i in marks) % 2
    odd_italics = sum(len(parts[i]) == 2 or len(parts[i]) > 4 for i in marks) % 2
    after_word = [i for i in marks if len(parts[i]) == 3 and parts[i - 1][-1:].isalpha()]
    if odd_bold and odd_italics and after_word:
        parts[min(after_word, key=lambda i: parts[i - 1][-2:-1] not in (" ", ""))] = "'"
    for i in marks:
        if len(parts[i]) > 1:
            literal = len(parts[i]) - (5 if len(parts[i]) > 5 else 3)
            touches = parts[i - 1][-1:].isalnum() or parts[i + 1][:1].isalnum()
            parts[i] = "'" * literal if len(parts[i]) not in (3, 5) and touches else ""
    return "".join(parts)


def _holes(text: str) -> str:
    """Close what vanished templates and references left open: "Berlin ( , ; ) is" and "At , Alabama"."""
    for space in ("\t", "\xa0", "\u2009", "\u202f"):
        text = text.replace(space, " ")
    text = OPENED_BADLY.sub("(", EMPTY_WIDE_BRACKETS.sub("", EMPTY_BRACKETS.sub("", text)))
    for hole, closed in ((" )", ")"), (",)", ")"), (";)", ")"), (" )", ")"), (" ()", ""), ("; ;", ";"), (", ,", ",")):
        text = text.replace(hole, closed)
    while "  " in text:
        text = text.replace("  ", " ")
    return BEFORE_POINT.sub(".", text.replace(" ,", ","))


def _variant(match: re.Match[str]) -> str:
    flag, bar, rest = match[1].partition("|")
    if bar and flag.strip() in ("T", "H", "A", "-"):
        return ""  # titles and rules of conversion
    first = (rest if bar else match[1]).partition(";")[0]
    code, colon, words = first.partition(":")
    return words.strip() if colon and VARIANT_CODE.fullmatch(code.strip()) else first
