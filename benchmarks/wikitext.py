"""Wikitext to text: ours beside mwparserfromhell and wikitextparser, on the articles of a dump.

    python -m benchmarks.wikitext DUMP.xml.bz2 --out wikitext.json

What comes out differs: the peers keep tables or captions that ours drops; ours keeps the words of {{convert}} and
{{lang}}, which theirs drop."""

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.beside import beside
from data_pipelines.dumps.wikipedia_dump import PAGE, chunks, cut, open_dump

MOST = 2e6  # bytes of wikitext: a peer takes a second for each MB, or two


def articles(path: Path) -> Iterator[str]:
    """The wikitext of a dump's pages that are no redirects, up to MOST."""
    from lxml import etree

    left = MOST
    with open_dump(path) as file:
        for block in cut(chunks(file, path.stat().st_size)):
            for page in PAGE.split(block)[1:]:
                parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, recover=True)
                text = etree.fromstring(page, parser).findtext("revision/text") or ""
                if not text.startswith("#"):
                    yield text
                    left -= len(text.encode())
                if left <= 0:
                    return


def ours() -> Callable[[str], str]:
    from data_pipelines.text.wikitext import plain_text

    return plain_text


def mwparserfromhell() -> Callable[[str], str]:
    from mwparserfromhell import parse

    return lambda text: parse(text).strip_code()


def wikitextparser() -> Callable[[str], str]:
    from wikitextparser import parse

    return lambda text: parse(text).plain_text()


SIDES = {"ours": ours, "mwparserfromhell": mwparserfromhell, "wikitextparser": wikitextparser}

if __name__ == "__main__":
    beside("wikitext", __doc__ or "", articles, lambda text: len(text.encode()) / 1e6, SIDES)
