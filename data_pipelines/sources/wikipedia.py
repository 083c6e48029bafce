"""Wikipedia: pages-articles XML dumps (.xml, .bz2 of one or many streams, .gz, .xz), every article as plain text."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from datatrove.data import Document

from data_pipelines.account import Account
from data_pipelines.dumps.find import find_files, sizes_and_times
from data_pipelines.dumps.wikipedia_dump import (
    DUMP_END,
    PAGE,
    PAGE_END,
    Broken,
    chunks,
    cut,
    header,
    is_multistream,
    open_dump,
    stream_chunks,
    streams,
    with_last,
)
from data_pipelines.pool import Failure, run_guarded
from data_pipelines.text.wikipedia_page import Wiki, read_page, wiki_of

DEFAULTS: dict[str, Any] = {"language": "", "min_characters": 100, "workers": 1}
NAME = re.compile(r"\.xml(?:-p\d+p\d+[\w-]*)?(?:\.(?:bz2|gz|xz))?$", re.IGNORECASE)
SECONDS, MEGABYTES = 30, 1024  # a block may take: 100 pages of 2 MB, at 10 MB/s


class Block(NamedTuple):
    """Some pages of a dump, on their way to a parser."""

    wiki: Wiki
    data: bytes
    compressed: bool = False
    last: bool = False  # the dump's end must be in it
    broken: str = ""  # no pages, but why there are no more


def read(
    paths: Sequence[str | Path], settings: Mapping[str, Any] | None = None, account: Account | None = None
) -> Iterator[Document]:
    """One document per article, in the order of the dump: what `wikitext.plain_text` makes of its newest revision there.

    settings: `language`, a wiki's code, for files whose name does not tell it (enwiki-20240601-pages-articles.xml.bz2 does;
    else <siteinfo> is asked); `min_characters`, below which an article is dropped; `workers`, processes that decompress and
    parse, which change nothing in what comes out. Dropped: other namespaces than 0, redirects, disambiguations, pages that
    are no wikitext. Metadata besides the usual: title, page and revision id, and `cited_urls`, at most 1,000.
    Raises FileNotFoundError for a path that is not there, ValueError where no file is a dump by its name.
    """
    settings = DEFAULTS | dict(settings or {})
    account = Account() if account is None else account
    blocks = chain.from_iterable(_blocks(path, settings["language"]) for _, path in _find(paths))
    guard = {"seconds": SECONDS, "megabytes": MEGABYTES, "workers": settings["workers"]}
    for block, results in run_guarded(read_block, blocks, batch=1, **guard):
        if isinstance(results, Failure):
            results = chain.from_iterable(_one_by_one(block))
        for outcome, value in results:
            account.seen += 1
            if outcome == "error":
                account.errors[value] += 1
            elif outcome == "dropped":
                account.dropped[value] += 1
            elif len(value["text"]) < settings["min_characters"]:
                account.dropped["too short" if value["text"] else "empty"] += 1
            else:
                account.kept += 1
                yield Document(**value)


def inputs(paths: Sequence[str | Path], settings: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(name, bytes, modification time in ns) of every file `read` would open, in its order."""
    return sizes_and_times(_find(paths))


def _find(paths: Sequence[str | Path]) -> list[tuple[str, Path]]:
    return find_files(paths, NAME.search, "pages-articles dumps (.xml, .xml.bz2, .xml.gz, .xml.xz)")


def _blocks(path: Path, language: str) -> Iterator[Block]:
    wiki = Wiki("und", "", None, frozenset(), frozenset())
    try:
        wiki = wiki_of(path.name, language, header(path))
        if is_multistream(path):
            yield from (Block(wiki, data, compressed=True, last=last) for data, last in with_last(streams(path)))
        else:
            with open_dump(path) as file:
                pieces = cut(chunks(file, path.stat().st_size))
                yield from (Block(wiki, data, last=last) for data, last in with_last(pieces))
    except Broken as broken:
        yield Block(wiki, b"", broken=str(broken))


def _one_by_one(block: Block) -> Iterator[list[tuple[str, Any]]]:
    """The results of a block in which a page took too much: each page alone, so that only that one is lost."""
    for _, results in run_guarded(read_block, _alone(block), seconds=SECONDS, megabytes=MEGABYTES):
        yield [("error", results.reason)] if isinstance(results, Failure) else results


def _alone(block: Block) -> Iterator[Block]:
    try:
        yield from (Block(block.wiki, page) for page in _pages(block))
    except Broken as broken:
        yield Block(block.wiki, b"", broken=str(broken))


def read_block(block: Block) -> list[tuple[str, Any]]:
    """For each page ("kept", what a Document is made of), ("dropped", reason) or ("error", reason)."""
    if block.broken:
        return [("error", block.broken)]
    results: list[tuple[str, Any]] = []
    try:
        for page in _pages(block):
            results.append(read_page(page, block.wiki))
    except Broken as broken:
        results.append(("error", str(broken)))
    return results


def _pages(block: Block) -> Iterator[bytes]:
    """Each from its <page>, to the next one's or the block's end. Raises Broken where the dump ends without its end."""
    parts = stream_chunks(block.data) if block.compressed else [block.data]
    for piece, end in with_last(cut(parts)):
        pages = PAGE.split(piece)[1:]
        if end and block.last and DUMP_END not in piece[max(0, piece.rfind(PAGE_END)) :]:
            yield from (page for page in pages if PAGE_END in page)
            raise Broken(f"the dump ends before {DUMP_END.decode()}")
        yield from pages
