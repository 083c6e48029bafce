"""C4: made anew from Common Crawl's WET or WARC files by its published rules, or the released JSON shards as they are."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from datatrove.data import Document

from data_pipelines.account import Account
from data_pipelines.clean.c4 import bad_word_rule, clean_page, drop_seen_lines, drop_seen_spans, has_sentences
from data_pipelines.clean.seen import Seen
from data_pipelines.dumps.c4_shards import SUFFIXES, read_shard
from data_pipelines.dumps.find import find_files, sizes_and_times
from data_pipelines.sources import common_crawl
from data_pipelines.text.language import identify

DEFAULTS: dict[str, Any] = {
    "languages": "en",
    "language_score": 0.65,
    "language_model": "",
    "min_words": 5,
    "min_sentences": 3,
    "badwords": "",
    "repeated": "spans",
    "memory_mb": 1024,
    "clean_shards": False,
    "extractor": "resiliparse",
    "seconds": 10,
    "workers": 1,
}
REPEATED = {"spans": drop_seen_spans, "lines": drop_seen_lines, "": lambda text, seen: text}
LANGUAGE_CHARACTERS = 2000  # half the time of 5,000; of 2,389 pages of books in five languages 2 were judged otherwise
TRACKING = re.compile(r"\?(utm_|ref|feed).*", re.DOTALL)


def read(
    paths: Sequence[str | Path], settings: Mapping[str, Any] | None = None, account: Account | None = None
) -> Iterator[Document]:
    """One document per page that C4's rules keep, or per line of a released shard (.json.gz, .jsonl, .json.zst, ...).

    The rules, in order: not too long; URL not seen; lines and page as in clean/c4.py; language; bad words; no text seen
    before. Memory and knowledge of what was seen are those of one call: give all files to one, or deduplicate later.

    languages: kept, such as "en" or "en,de"; "" for all. language_score: the least. C4 asked langdetect for 0.99; of 96
    real English pages our fastText is that sure of one, hence 0.65, as in FineWeb. language_model: see language.py.
    min_words: of a line; min_sentences: of a page. badwords: a file with a word or phrase a line; C4 took the LDNOOBW
    list's `en` (CC-BY, not in this package); "" leaves the rule out. repeated: "spans" of three sentences (the paper),
    "lines" (the authors' code), "" to leave it out; the first copy stays. memory_mb: for hashes of what was seen, half
    as much again while they grow. clean_shards: apply the rules to released shards too. extractor: of text from
    HTML, seconds: a page of it may take, workers: processes that do it, all as in common_crawl.py.

    Of pages with the same URL the first stays (C4 kept the newest: name newer crawls first). Language and bad words come
    before repeated text (C4: after), so that no text goes because a page that went as well had it first.

    Raises FileNotFoundError for a path (or badwords file, or language model) that is not there and ValueError where no
    path holds anything of the kind or a setting makes no sense."""
    account = Account() if account is None else account
    settings = DEFAULTS | dict(settings or {})
    files = _find(paths)
    rules_apply = settings["clean_shards"] or not all(_is_shard(path) for _, path in files)
    judge = rules(settings) if rules_apply else None
    documents: Iterable[Document]
    for is_shard, group in groupby((path for _, path in files), key=_is_shard):
        if is_shard:
            documents = chain.from_iterable(read_shard(path, account) for path in group)
        else:
            everything = {name: settings[name] for name in common_crawl.DEFAULTS if name in settings}
            # the language is judged here, when only the lines worth keeping are left
            everything |= {"languages": "", "language_score": 0.0, "language_model": None}
            documents = map(_as_c4, common_crawl.read(list(group), everything, account))
        for document in documents:
            if judge and (settings["clean_shards"] or not is_shard) and (reason := judge(document)):
                account.take_back(reason)
            else:
                yield document


def inputs(paths: Sequence[str | Path], settings: Mapping[str, Any] | None = None) -> list[tuple[str, int, int]]:
    """(name, bytes, modification time in ns) of each file `read` would open, in its order."""
    return sizes_and_times(_find(paths))


def _find(paths: Sequence[str | Path]) -> list[tuple[str, Path]]:
    kinds = f"released shards (*{' *'.join(SUFFIXES)}), WARC or WET files (.gz, .zst, .lz4 or plain)"
    return find_files(paths, lambda name: name.endswith(SUFFIXES) or common_crawl.NAMES.search(name), kinds)


def _is_shard(path: Path) -> bool:
    return path.name.endswith(SUFFIXES)


def _as_c4(document: Document) -> Document:
    document.id = "c4/" + document.id.removeprefix("common_crawl/")
    document.metadata["source"] = "c4"
    return document


def rules(settings: Mapping[str, Any]) -> Callable[[Document], str]:
    """A judge of documents: cleans the one it is given, or says why it goes."""
    if settings["repeated"] not in REPEATED:
        raise ValueError(f'repeated is {settings["repeated"]!r}: take "spans", "lines" or "" (leave them all)')
    drop_seen, seen = REPEATED[settings["repeated"]], Seen(settings["memory_mb"])
    languages = {language.strip() for language in settings["languages"].split(",")} - {""}
    has_bad_word = bad_word_rule(_bad_words(settings["badwords"]))
    identify("a", settings["language_model"])  # a model that is not there is told now, not after the first pages

    def judge(document: Document) -> str:
        metadata = document.metadata
        if metadata["url"] and not seen.add("\0" + normal_url(metadata["url"])):  # no text begins with \0
            return "URL seen before"
        text, reason = clean_page(document.text, settings["min_words"], settings["min_sentences"])
        if reason:
            return reason
        metadata["language"], metadata["language_score"] = identify(
            text[:LANGUAGE_CHARACTERS], settings["language_model"]
        )
        if languages and metadata["language"] not in languages:
            return "another language"
        if languages and metadata["language_score"] < settings["language_score"]:
            return "language uncertain"
        if has_bad_word(text):
            return "bad word"
        document.text = drop_seen(text, seen)
        if not document.text or not has_sentences(document.text.split("\n"), settings["min_sentences"]):
            return "too few sentences not seen before"
        return ""

    return judge


def _bad_words(file: str) -> list[str]:
    if not file:
        logging.getLogger(__name__).warning("no list of bad words was named (badwords): that rule of C4's is left out")
        return []
    if not Path(file).is_file():
        raise FileNotFoundError(f"{file}, named as badwords, does not exist: a text file with a word or phrase a line")
    return Path(file).read_text(encoding="utf-8").splitlines()


def normal_url(url: str) -> str:
    """A URL as C4 compares it: without scheme, www., what only tracks visitors, and the last slashes."""
    for start in ("http://", "https://"):
        url = url.removeprefix(start)
    return TRACKING.sub("", url.removeprefix("www.")).rstrip("/")
