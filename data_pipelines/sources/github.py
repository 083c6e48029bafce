"""Code from git repositories, bundles, archives, source distributions, installed packages and Parquet exports of GitHub."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from datatrove.data import Document

from data_pipelines.account import Account
from data_pipelines.clean.license_expressions import evaluate
from data_pipelines.clean.license_gate import NO_LICENSE, Gate, is_evidence
from data_pipelines.clean.licenses import OTHER, UNKNOWN
from data_pipelines.dumps import git
from data_pipelines.dumps.archives import Entry, safe_name, walk_archive
from data_pipelines.dumps.github_parquet import walk_rows
from data_pipelines.dumps.projects import Found, find_projects, licensed_path, walk_folder, walk_installed
from data_pipelines.dumps.repositories import (
    Repository,
    git_directory,
    open_repository,
    unbundled,
    walk_repository,
)
from data_pipelines.sources.github_files import document_of

DEFAULTS: dict[str, Any] = {"max_file_bytes": 1_048_576}


class Project(NamedTuple):
    """Its name, where its files are found, and how they are walked; a file's place for the licences may be another."""

    name: str
    url: str
    walk: Callable[[], Iterator[Entry]]
    place: Callable[[str], str] = str


def inputs(paths: Sequence[str | Path], settings: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(name, bytes, modification time in ns) of each file `read` would open, in its order; for a repository its commit and
    0 in place of the time, for packages and plain folders each file of them."""
    found = []
    for one in find_projects(paths):
        if one.kind == "repository":
            found.append(_repository_input(one))
        elif one.kind in ("installed", "folder"):
            root = one.path if one.kind == "folder" else one.path.parent
            entries = walk_folder(one.path) if one.kind == "folder" else _installed_or_none(one.path)
            for entry in entries:
                if not entry.special and os.path.isfile(root / entry.path):
                    found.append((f"{one.name}/{entry.path}", *_size_and_time(root / entry.path)))
        elif one.kind != "loose":
            found.append((one.name, *_size_and_time(one.path)))
    return found


def read(
    paths: Sequence[str | Path], settings: Mapping[str, Any] | None = None, account: Account | None = None
) -> Iterator[Document]:
    """One document per source file of a project under MIT, BSD or Apache, its licence header taken off.

    Every file, link or submodule of a project is a record of the account. Settings: max_file_bytes (default 1 MiB, as BigQuery's
    table of contents): larger files are left out. Metadata beyond that of all sources: repo, path, programming_language,
    commit, sha256 (of the text as it is kept, for exact deduplication). A project is walked twice, its licences first; a
    folder's nearest licence text decides. Raises FileNotFoundError for a path that is not there, and ValueError where no
    path holds a project."""
    settings = DEFAULTS | dict(settings or {})
    account = Account() if account is None else account
    most, nothing = settings["max_file_bytes"], True
    for found in find_projects(paths):
        if found.kind == "loose":
            account.seen += 1
            account.dropped["file of no project"] += 1
            continue
        nothing = False
        if found.kind in ("bundle", "repository"):
            git.program()
        try:
            if found.kind == "parquet":
                yield from _parquet(found, most, account)
            elif found.kind == "bundle":
                with unbundled(found.path) as repository:
                    yield from _project(_cloned(found, repository, most), most, account)
            elif found.kind == "repository":
                folder = git_directory(found.path) or found.path
                yield from _project(_cloned(found, open_repository(folder), most), most, account)
            else:
                yield from _project(_unpacked(found, most), most, account)
        except (ValueError, OSError) as error:
            account.seen += 1
            account.errors[_phrase(error)] += 1
    if nothing:
        raise ValueError(
            f"no project in {', '.join(map(str, paths))}: looked for git repositories and bundles, tar and zip archives, "
            ".parquet files, installed packages and folders with a LICENSE"
        )


def _phrase(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else "unreadable file"


# --- the kinds of project ---


def _cloned(found: Found, repository: Repository, most: int) -> Project:
    name = repository.name or found.name.removesuffix(".bundle").removesuffix(".git")
    url = f"{repository.url or name}/blob/{repository.commit}"
    return Project(name, url, partial(walk_repository, repository, most))


def _unpacked(found: Found, most: int) -> Project:
    if found.kind == "installed":
        return Project(found.name, found.name, partial(walk_installed, found.path), licensed_path)
    if found.kind == "folder":
        return Project(found.name, found.name, partial(walk_folder, found.path))
    top, commit = _top_folder(found.path)
    if not top:
        stem = found.name.removesuffix(found.path.suffix).removesuffix(".tar")
        return Project(stem, found.name, partial(walk_archive, found.path, most))
    name, _, end = top.rpartition("-")  # GitHub's archives: name-commit, or its first figures
    name = name if len(end) >= 7 and commit.startswith(end) else top
    return Project(name, f"{found.name}/{top}", partial(_without, top + "/", found.path, most))


def _top_folder(path: Path) -> tuple[str, str]:
    """(the one folder that holds all of an archive, the commit it is of), "" for what there is not."""
    tops, commit = set(), ""
    try:
        for entry in walk_archive(path, 0):
            tops.add(entry.path.partition("/")[0] if "/" in entry.path else "")
            commit = entry.commit or ""
            if len(tops) > 1:
                break
    except ValueError:
        pass  # said when it is read
    top = tops.pop() if len(tops) == 1 else ""
    return (top, commit) if safe_name(top) else ("", commit)


def _without(top: str, path: Path, most: int) -> Iterator[Entry]:
    for entry in walk_archive(path, most):
        yield entry._replace(path=entry.path.removeprefix(top))


def _parquet(found: Found, most: int, account: Account) -> Iterator[Document]:
    """Rows of many projects: the licence is what the export says, and what licence files among the rows say."""
    gates: dict[str, Gate] = {}
    names: dict[str, set[int]] = {}
    try:
        for row in walk_rows(found.path):
            if not row.entry.special and is_evidence(row.entry.path):
                gate = gates.setdefault(row.repo, Gate())
                gate.add(row.entry.path, row.entry.read())
                if row.license:
                    gate.state(row.license)
    except ValueError:
        pass  # said below
    for row in walk_rows(found.path):
        licensed = gates[row.repo].judge(row.entry.path) if row.repo in gates else _stated(row.license)
        url = f"https://github.com/{row.repo}/blob/{row.entry.commit or 'HEAD'}"
        document = document_of(row.entry, row.repo, url, licensed, names.setdefault(row.repo, set()), most, account)
        if document:
            yield document


@lru_cache(1000)
def _stated(license: str | None) -> tuple[str | None, str]:
    if not license:
        return None, NO_LICENSE
    verdict = evaluate(license).verdict
    return (None, verdict) if verdict in (OTHER, UNKNOWN) else (verdict, "")


# --- a project's files ---


def _project(project: Project, most: int, account: Account) -> Iterator[Document]:
    gate = Gate()
    try:
        for entry in project.walk():
            if not entry.special and is_evidence(project.place(entry.path)):
                try:
                    content = entry.read()
                except ValueError:
                    content = b"\xff" * 200  # a licence nobody can read is one nobody recognises
                gate.add(project.place(entry.path), content)
    except (ValueError, OSError):
        pass  # said below, where the same walk breaks again
    names: set[int] = set()
    for entry in project.walk():
        licensed = gate.judge(project.place(entry.path))
        document = document_of(entry, project.name, project.url, licensed, names, most, account)
        if document:
            yield document


# --- for inputs ---


def _repository_input(found: Found) -> tuple[str, int, int]:
    folder = git_directory(found.path) or found.path
    size = sum(
        file.stat().st_size for file in (folder / "objects").rglob("*") if file.is_file() and not file.is_symlink()
    )
    try:
        return f"{found.name}@{open_repository(folder).commit}", size, 0
    except ValueError:
        return found.name, size, 0


def _installed_or_none(package: Path) -> Iterator[Entry]:
    try:
        yield from walk_installed(package)
    except ValueError:
        return


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
