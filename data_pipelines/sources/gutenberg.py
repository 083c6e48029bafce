"""Project Gutenberg: plain-text books and the RDF catalogue as its mirrors hold them, one document a book."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datatrove.data import Document

from data_pipelines.account import Account
from data_pipelines.dumps.find import find_files, sizes_and_times
from data_pipelines.dumps.gutenberg_catalogue import ARCHIVES, Entry, parse_rdf, read_entries
from data_pipelines.pool import Failure, run_guarded
from data_pipelines.text.gutenberg_book import Book, book_number, edition_rank, read_book

DEFAULTS: dict[str, Any] = {"workers": 1, "max_book_bytes": 8_000_000}

TEXTS = (".txt", ".txt.utf-8", ".txt.utf8", ".zip")
OTHER_FORMS = ("-h.zip", "-t.zip", ".tex", ".htm", ".html")
CATALOGUES = (".rdf", *ARCHIVES)
KINDS = TEXTS + OTHER_FORMS + CATALOGUES
LANGUAGES = {  # headers spell languages out, in English
    **{"english": "en", "french": "fr", "german": "de", "dutch": "nl", "spanish": "es", "italian": "it", "latin": "la"},
    **{"portuguese": "pt", "finnish": "fi", "swedish": "sv", "danish": "da", "norwegian": "no", "hungarian": "hu"},
    **{
        "greek": "el",
        "chinese": "zh",
        "japanese": "ja",
        "korean": "ko",
        "polish": "pl",
        "czech": "cs",
        "russian": "ru",
    },
    **{"esperanto": "eo", "catalan": "ca", "tagalog": "tl", "welsh": "cy", "icelandic": "is", "romanian": "ro"},
    **{"serbian": "sr", "slovenian": "sl", "croatian": "hr", "bulgarian": "bg", "ukrainian": "uk", "irish": "ga"},
    **{"hebrew": "he", "arabic": "ar", "afrikaans": "af", "galician": "gl", "breton": "br", "sanskrit": "sa"},
}
PUBLIC_DOMAIN = "Public domain in the USA"
Editions = dict[int, list[tuple[str, Path]]]  # the files of each book, by number, the best first


def inputs(paths: Sequence[str | Path], settings: Mapping[str, Any] | None = None) -> list[tuple[str, int, int]]:
    """(name, bytes, modification time in ns) of every file `read` would open, in its order."""
    return sizes_and_times(_find(paths))


def read(
    paths: Sequence[str | Path], settings: Mapping[str, Any] | None = None, account: Account | None = None
) -> Iterator[Document]:
    """One document a book, ordered by number; a record of the account is a file that holds a book in some form.

    paths: files, or folders such as a mirror: .txt, .zip with one text each, and the catalogue (pg1342.rdf or
    rdf-files.tar.bz2), from which come rights, language and subjects. Of the files of one book the best that can be
    read is taken: UTF-8 before ISO-8859-1 before ASCII before older editions. Dropped are books whose catalogue entry
    or header says that they are not in the public domain, files of no book (without a number) and whatever would
    ship a licence text. settings: `workers` (processes that read books), `max_book_bytes` (a larger text is dropped,
    such as tables of digits and dictionaries). Raises FileNotFoundError for a path that is not there, ValueError where
    none holds a book in any form."""
    settings = DEFAULTS | dict(settings or {})
    account = Account() if account is None else account
    files = _find(paths)
    texts = [(name, file) for name, file in files if not name.lower().endswith(OTHER_FORMS + CATALOGUES)]
    catalogues = [file for name, file in files if name.lower().endswith(CATALOGUES)]
    if len(files) == len(catalogues):
        raise ValueError(f"no book in {', '.join(map(str, paths))}: looked for {' '.join(TEXTS + OTHER_FORMS)}")
    account.seen += len(files) - len(catalogues)
    if forms := len(files) - len(catalogues) - len(texts):
        account.dropped["TeX or HTML form of a book"] += forms
    editions = _editions(texts, settings, account)
    entries = _entries(catalogues, editions, settings, account)
    for number, entry in entries.items():
        if reason := _reason_against(entry):
            account.dropped[reason] += len(editions.pop(number))
    while editions:  # the best file of each book; where it gives nothing, the next best
        turn = [(number, str(twins[0][1]), settings["max_book_bytes"]) for number, twins in sorted(editions.items())]
        for (number, path, _), book in run_guarded(read_book, turn, workers=settings["workers"]):
            _, *others = editions.pop(number)
            if isinstance(book, Book):
                account.kept += 1
                if book.clipped:
                    account.fail("book broken off")
                for name, _ in others:
                    old = edition_rank(number, name)[0]
                    account.dropped["older edition" if old else "another encoding of the same book"] += 1
                yield _document(number, Path(path).name, book, entries.get(number))
                continue
            (account.errors if isinstance(book, Failure) else account.dropped)[book.reason] += 1
            if others:
                editions[number] = others


def _find(paths: Sequence[str | Path]) -> list[tuple[str, Path]]:
    return find_files(paths, lambda name: name.lower().endswith(KINDS), f"books and catalogues (*{' *'.join(KINDS)})")


def _editions(texts: Sequence[tuple[str, Path]], settings: Mapping[str, Any], account: Account) -> Editions:
    editions: Editions = defaultdict(list)
    numbers = run_guarded(book_number, (str(file) for _, file in texts), workers=settings["workers"])
    for (name, file), (_, number) in zip(texts, numbers, strict=True):
        if isinstance(number, int):
            editions[number].append((name, file))
        elif isinstance(number, Failure):
            account.errors[number.reason] += 1
        else:
            account.dropped["no book number"] += 1
    return {n: sorted(files, key=lambda file: edition_rank(n, file[0])) for n, files in editions.items()}


def _entries(
    files: Sequence[Path], editions: Editions, settings: Mapping[str, Any], account: Account
) -> dict[int, Entry]:
    """The catalogue's entries of the books that are there; what cannot be read of it is counted."""
    entries: dict[int, Entry] = {}
    found = (entry for file in files for entry in read_entries(file, editions))
    for rdf, entry in run_guarded(parse_rdf, found, workers=settings["workers"]):
        if isinstance(entry, Failure):
            account.fail(rdf.reason if isinstance(rdf, Failure) else entry.reason)
        elif entry[0] in editions:
            entries.setdefault(*entry)
    return entries


def _reason_against(entry: Entry) -> str:
    if entry.rights and not entry.rights.lower().startswith(("public domain", "none")):
        return "not in the public domain"
    return "not a text" if entry.kind and entry.kind != "Text" else ""


def _document(number: int, file: str, book: Book, entry: Entry | None) -> Document:
    stated = [language.split("-")[0] for language in entry.languages] if entry else []
    header = LANGUAGES.get(book.language.lower(), "")
    language = header if header in stated or not stated else stated[0]
    metadata = {
        "source": "gutenberg",
        "language": language if len(language) == 2 else "",
        "url": f"https://www.gutenberg.org/ebooks/{number}",
        "license": PUBLIC_DOMAIN if entry and entry.rights.lower().startswith("public domain") else None,
        "date": (entry and entry.issued) or book.date or None,
        "bytes": book.raw_bytes,
        "title": (entry and entry.title) or book.title,
        "authors": entry.authors if entry else [book.author] if book.author else [],
        "languages": stated or ([header] if header else []),
        "subjects": entry.subjects if entry else [],
        "file": file,
    }
    return Document(text=book.text, id=f"gutenberg/{number}", metadata=metadata)
