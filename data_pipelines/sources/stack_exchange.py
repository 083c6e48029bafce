"""Stack Exchange: the dumps of its sites, SITE.7z or a bare Posts.xml, one document for each question and its answers."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from datatrove.data import Document

from data_pipelines.account import Account
from data_pipelines.dumps.find import find_files
from data_pipelines.dumps.stack_exchange_archive import open_posts
from data_pipelines.dumps.stack_exchange_posts import attributes, rows, threads, unescape
from data_pipelines.pool import Failure, run_guarded
from data_pipelines.text.stack_exchange_html import html_to_text, printable

log = logging.getLogger(__name__)

DEFAULTS: dict[str, Any] = {"site": "", "largest": 0, "unanswered": False, "memory_mb": 64, "workers": 1}
NAME = re.compile(r"(?:(?P<site>.+?)[-_]+)?Posts\.xml|(?P<archive>.+?)(?:-Posts)?\.7z", re.IGNORECASE)
# stackoverflow.com comes as one archive for each of its tables; only that of the posts is read
OTHER_TABLE = re.compile(r"-(?:Badges|Comments|PostHistory|PostLinks|Tags|Users|Votes)\.7z$", re.IGNORECASE)
HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
ENGLISH = re.compile(
    r"(.+\.)?(stackexchange|stackoverflow|superuser|serverfault|askubuntu|stackapps|mathoverflow)\.(com|net)"
)
OTHER_LANGUAGES = {f"{code}.stackoverflow.com": code for code in ("es", "ja", "pt", "ru")} | {
    "rus.stackexchange.com": "ru"
}
# From when which licence holds: stackoverflow.com/help/licensing. Dumps say it for each post since 2018.
LICENSES = [("2018-05-02", "CC BY-SA 4.0"), ("2011-04-08", "CC BY-SA 3.0"), ("2008", "CC BY-SA 2.5")]


class Dump(NamedTuple):
    """A site's posts: where they lie, and whose they are."""

    site: str
    path: Path


def read(
    paths: Sequence[str | Path], settings: Mapping[str, Any] | None = None, account: Account | None = None
) -> Iterator[Document]:
    """Questions with their answers, the highest score first; equal ones: the accepted answer, then the lower id.

    The text is "Q: " and the title, the question, and each answer after "A: ", parted by blank lines. The site is the
    name of the archive, or what stands before "Posts.xml" in a file's name, or else its folder's name.

    settings: `site` instead of that name, for one dump; `largest` N: only the N dumps with the most posts among those
    given, which costs another pass over all of them; `unanswered`: questions without answers too; `memory_mb`: rows to
    hold at once, in MB: sites of more are sorted in temporary files, as large as their Posts.xml; `workers`: processes.
    In the account each question is a record; so is every row that belongs to none, and every fault.
    Raises FileNotFoundError for a path that is not there, ValueError where no path holds any dump."""
    settings = DEFAULTS | dict(settings or {})
    account = Account() if account is None else account
    dumps = _find(paths, settings)
    if settings["largest"]:
        dumps = _largest(dumps, settings["largest"], account)
    work = (item for dump in dumps for item in _threads(dump, settings, account))
    for (site, raw, answers), result in run_guarded(thread, work, seconds=30, workers=settings["workers"]):
        if isinstance(result, Failure):
            account.errors[result.reason] += 1
            continue
        if result is None:
            account.dropped["no text"] += 1
            continue
        id, text, metadata = result
        account.kept += 1
        metadata |= {"bytes": len(raw) + sum(map(len, answers))}
        yield Document(text=text, id=f"stack_exchange/{site}/{id}", metadata=metadata)


def inputs(paths: Sequence[str | Path], settings: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(site, bytes, modification time in ns) of every dump that `read` would open, in its order."""
    found = [(dump.site, dump.path.stat()) for dump in _find(paths, DEFAULTS | dict(settings))]
    return [(site, stat.st_size, stat.st_mtime_ns) for site, stat in found]


def thread(item: tuple[str, bytes, list[bytes]]) -> tuple[int, str, dict[str, Any]] | Failure | None:
    """(id, text, metadata) of a question and its answers, given as (site, row, rows); None if there is no text."""
    site, raw, raw_answers = item
    try:
        question, *answers = [_post(raw) for raw in (raw, *raw_answers)]
    except ValueError:  # not UTF-8, or a number that is none
        return Failure("malformed row")
    accepted = question["accepted"]
    answers = [answer for answer in answers if answer["text"]]
    answers.sort(key=lambda answer: (-answer["score"], answer["id"] != accepted, answer["id"]))
    parts = [f"Q: {question['title']}".rstrip(), question["text"], *(f"A: {answer['text']}" for answer in answers)]
    if not question["title"] and len(parts) == 2 and not question["text"]:
        return None
    host = HOST.fullmatch(site)
    metadata = {
        "source": "stack_exchange",
        "language": OTHER_LANGUAGES.get(site.replace(".meta.", "."), "en" if ENGLISH.fullmatch(site) else ""),
        "url": f"https://{site}/questions/{question['id']}" if host else f"{site}/{question['id']}",
        "license": " AND ".join(sorted({post["license"] for post in (question, *answers)} - {""})) or None,
        "date": question["date"],
        "site": site,
        "title": question["title"],
        "tags": question["tags"],
        "score": question["score"],
        "answers": [answer["id"] for answer in answers],
        "answer_scores": [answer["score"] for answer in answers],
        "accepted": accepted if any(answer["id"] == accepted for answer in answers) else None,
    }
    return question["id"], "\n\n".join(part for part in parts if part), metadata


def _post(raw: bytes) -> dict[str, Any]:
    row = {name: printable(unescape(value)) for name, value in (attributes(raw) or {}).items()}
    date = row.get("CreationDate", "")[:10]
    since = next((name for start, name in LICENSES if date >= start), "")
    return {
        "id": int(row["Id"]),
        "score": int(row.get("Score", 0)),
        "accepted": int(row.get("AcceptedAnswerId", -1)),
        "title": " ".join(row.get("Title", "").split()),  # no HTML: "List<T>" is one
        "text": html_to_text(row.get("Body", "")),
        "tags": re.findall(r"[^<>|]+", row.get("Tags", "")),
        "date": date or None,
        "license": row.get("ContentLicense", since).replace(" ", "-"),  # which makes it SPDX's name
    }


def _threads(dump: Dump, settings: Mapping[str, Any], account: Account) -> Iterator[tuple[str, bytes, list[bytes]]]:
    with _open(dump.path, account) as opened:
        if opened is None:
            return
        file, size = opened
        memory = int(settings["memory_mb"] * 10**6)
        for question, answers in threads(rows(file, account), size, memory, account):
            if answers or settings["unanswered"]:
                yield dump.site, question, answers
            else:
                account.dropped["question without answers"] += 1


@contextmanager
def _open(path: Path, account: Account) -> Iterator[tuple[IO[bytes], int] | None]:
    if path.suffix.lower() == ".7z":
        with open_posts(path, account) as opened:
            yield opened
    else:
        with path.open("rb") as file:
            yield file, path.stat().st_size


def _largest(dumps: Sequence[Dump], count: int, account: Account) -> list[Dump]:
    """The dumps with the most questions and answers, the largest first; the others are dropped."""
    posts = {}
    for dump in dumps:
        with _open(dump.path, Account()) as opened:  # their faults are counted when they are read, or never
            posts[dump] = sum(1 for _ in rows(opened[0], Account())) if opened else 0
    ranked = sorted(dumps, key=lambda dump: (-posts[dump], dump.site))
    for rank, dump in enumerate(ranked, 1):
        log.info("%d. %s: %d posts%s", rank, dump.site, posts[dump], "" if rank <= count else ", left out")
    for _ in ranked[count:]:
        account.drop("site not among the largest")
    return ranked[:count]


def _find(paths: Sequence[str | Path], settings: Mapping[str, Any]) -> list[Dump]:
    found = find_files(
        paths, lambda name: NAME.fullmatch(name) and not OTHER_TABLE.search(name), "SITE.7z or Posts.xml"
    )
    dumps = [Dump(settings["site"] or _site(path), path) for _, path in found]
    sites = [dump.site for dump in dumps]
    twice = sorted({site for site in sites if sites.count(site) > 1})
    if twice:
        raise ValueError(f"{twice[0]} is there twice: give each site's posts once, each under the name of its site")
    return dumps


def _site(path: Path) -> str:
    name = NAME.fullmatch(path.name)
    assert name is not None
    return (name["site"] or name["archive"] or path.resolve().parent.name).lower()
