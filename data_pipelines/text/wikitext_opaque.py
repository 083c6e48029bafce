"""What is no wikitext inside: comments, references, galleries go; code, <nowiki> and formulas are kept as they are."""

import html
import re

NONE, UNCLOSED = -1, -2  # instead of a place: nowhere in the rest of the text, or not for this mark

KEPT_RAW = ("nowiki", "pre", "code", "syntaxhighlight", "source", "math", "chem", "ce")
LEFT_OUT = (
    *("ref", "references", "gallery", "timeline", "imagemap", "score", "hiero", "graph", "mapframe", "maplink"),
    *("templatestyles", "templatedata", "categorytree", "inputbox", "indicator", "section", "style", "script"),
)
OPAQUE = re.compile(rf"<!--|<(/?)({'|'.join(KEPT_RAW + LEFT_OUT)})(?=[\s/>])([^<>]*+)>", re.IGNORECASE)
REFERENCE = re.compile(r"</ref\b|<ref(?=[\s/>])([^<>]*+)>", re.IGNORECASE)
CLOSING_TAG = re.compile("</[A-Z][A-Za-z]*+")
KEPT = re.compile("\x00(\\d{1,9})\x00")


def take_out(text: str, kept: list[str]) -> str:
    """The text without what is no wikitext inside; `kept` gets what is to be put back, and the text a mark at its place."""
    parts: list[str] = []
    place = 0
    text = CLOSING_TAG.sub(lambda match: match[0].lower(), text)
    unclosed: set[str] = set()  # a search for a mark's end that failed once would fail again: each runs at most once
    while match := OPAQUE.search(text, place):
        start, end = match.span()
        parts.append(text[place:start])
        place = end
        if not match[2]:
            closed = NONE if "-->" in unclosed else text.find("-->", end)
            if closed == NONE:
                unclosed.add("-->")
            else:
                place = closed + len("-->")
            continue
        tag = match[2].lower()
        if match[1] or match[3].endswith("/") or tag in unclosed:
            continue
        closed = _end_of_reference(text, end) if tag == "ref" else text.find(f"</{tag}>", end)
        if closed == NONE:
            unclosed.add(tag)
        if closed < 0:
            continue
        inner = text[end:closed]
        place = text.find(">", closed) + 1 or len(text)
        if tag in KEPT_RAW:
            parts.append(f"\x00{len(kept)}\x00")
            kept.append(_raw(tag, match[3], inner))
    parts.append(text[place:])
    return "".join(parts)


def _end_of_reference(text: str, place: int) -> int:
    """Where </ref> is, or NONE, or UNCLOSED where the next reference begins before it."""
    while match := REFERENCE.search(text, place):
        if match[1] is None:
            return match.start()
        if not match[1].endswith("/"):
            return UNCLOSED
        place = match.end()  # <ref name=x/> only mentions one
    return NONE


def _raw(tag: str, attributes: str, inner: str) -> str:
    if tag in ("math", "chem", "ce"):
        formula = " ".join(html.unescape(inner).split())
        dollars = "$$" if "block" in attributes else "$"
        return f"{dollars}{formula}{dollars}" if formula else ""
    if tag in ("pre", "syntaxhighlight", "source") and "\n" in inner:
        return "\n\n" + html.unescape(inner).strip("\n") + "\n\n"
    return html.unescape(inner)


def put_back(text: str, kept: list[str]) -> str:
    """What `take_out` kept, at its places."""
    return KEPT.sub(lambda match: kept[int(match[1])] if int(match[1]) < len(kept) else "", text)
