"""One page of a Wikipedia dump: which wiki it is from, whether it is an article, and what its document is made of."""

import re
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

from data_pipelines.dumps.wikipedia_dump import MAX_PAGE, PAGE_END
from data_pipelines.text.wikitext import cited_urls, plain_text
from data_pipelines.text.wikitext_names import DISAMBIGUATION, REDIRECT, VANISHING

WIKI = re.compile(r"(?<![a-z])((?:[a-z]{2,3}|simple)(?:_[a-z]+)*)wiki(?![a-z])")
DAY = re.compile(r"(?<!\d)(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?!\d)")
RELICENSED = "2023-06-07"  # Wikimedia's terms of use: CC BY-SA 4.0 from that day, 3.0 before


class Wiki(NamedTuple):
    """What all pages of one file share."""

    code: str  # as in the host name: "en", "simple", "zh-min-nan"; "und" where unknown
    base: str  # of its pages' addresses
    date: str | None  # of the dump, ISO
    namespaces: frozenset[str]  # the prefixes, in lower case, of pages that are no articles
    prefixes: frozenset[str]  # of links not shown, which <siteinfo> names


def wiki_of(name: str, language: str, siteinfo: bytes) -> Wiki:
    """From a file's name, the user's word and <siteinfo>, in this order: minimised dumps bear another wiki's siteinfo."""
    start, end = siteinfo.find(b"<siteinfo>"), siteinfo.find(b"</siteinfo>")
    site = _parse(siteinfo[start : end + len(b"</siteinfo>")]) if 0 <= start < end else None
    names, base, database = {}, "", ""
    if site is not None:
        names = {space.get("key"): (space.text or "").lower() for space in site.iterfind("namespaces/namespace")}
        base, database = site.findtext("base") or "", site.findtext("dbname") or ""
    known = WIKI.search(name) or language or WIKI.search(database)
    code = (known if isinstance(known, str) else known[1] if known else "und").replace("_", "-")
    day = DAY.search(name)
    elsewhere = base.rpartition("/")[0] if code == "und" and base.startswith(("http://", "https://")) else ""
    return Wiki(
        code=code,
        base=elsewhere or f"https://{code}.wikipedia.org/wiki",
        date="-".join(day.groups()) if day else None,
        namespaces=frozenset(names.values()) - {""},
        prefixes=frozenset(names[key] for key in ("-2", "6", "14") if names.get(key)),
    )


def read_page(page: bytes, wiki: Wiki) -> tuple[str, Any]:
    """One <page> element, as in `read_block`."""
    end = page.find(PAGE_END)
    if len(page) > MAX_PAGE if end < 0 else end > MAX_PAGE:
        return "dropped", f"larger than {MAX_PAGE >> 20} MB"
    if end < 0:
        return "error", "a page without its end"
    page = page[: end + len(PAGE_END)]
    element = _parse(page)
    if element is None:
        return "error", "not well-formed XML"
    revision = (element.findall("revision") or [element])[-1]
    title, text = element.findtext("title") or "", revision.findtext("text") or ""
    space = element.findtext("ns") or _space(title, wiki)
    if reason := _unwanted(element, space, revision.findtext("model") or "wikitext", text):
        return "dropped", reason
    number, date = element.findtext("id") or "", revision.findtext("timestamp") or ""
    number = number if number.isdecimal() else quote(title)
    metadata = {
        "source": "wikipedia",
        "language": {"simple": "en", "und": ""}.get(wiki.code, wiki.code),
        "url": f"{wiki.base}/{quote(title.replace(' ', '_'), safe='/:@!$()*,;')}",
        "license": "CC-BY-SA-4.0" if (wiki.date or date) >= RELICENSED else "CC-BY-SA-3.0",
        "date": wiki.date,
        "bytes": len(page),
        "title": title,
        "page": number,
        "revision": revision.findtext("id") if revision is not element else None,
        "cited_urls": cited_urls(text),
    }
    shown = plain_text(text, title, wiki.code, _vanishing(wiki.prefixes))
    return "kept", {"text": shown, "id": f"wikipedia/{wiki.code}/{number}", "metadata": metadata}


def _space(title: str, wiki: Wiki) -> str:
    """The namespace of a page in an old dump, which has no <ns>: known from its prefix."""
    prefix, colon, _ = title.lower().partition(":")
    return "another" if colon and prefix in wiki.namespaces else "0"


def _unwanted(element: Any, space: str, model: str, text: str) -> str:
    if space != "0":
        return "another namespace"
    if element.find("redirect") is not None or REDIRECT.match(text):
        return "redirect"
    if model != "wikitext":
        return "not wikitext"
    if not text.strip():
        return "empty"
    return "disambiguation" if DISAMBIGUATION.search(text) else ""


@lru_cache(maxsize=8)
def _vanishing(prefixes: frozenset[str]) -> frozenset[str]:
    return VANISHING | prefixes


def _parse(xml: bytes) -> Any:
    """The element, or None for what is not well-formed. No entities but XML's own five, no DTD, nothing fetched."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, encoding="utf-8")
    try:
        return etree.fromstring(xml, parser)
    except etree.XMLSyntaxError:
        return None
