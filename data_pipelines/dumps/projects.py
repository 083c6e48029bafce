"""Where projects lie: repositories, bundles, archives, Parquet exports, installed packages and plain folders below a path."""

import csv
import os
import stat
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from data_pipelines.clean.license_gate import is_evidence
from data_pipelines.dumps import archives
from data_pipelines.dumps.archives import Entry, safe_name
from data_pipelines.dumps.repositories import git_directory

MAX_RECORD_BYTES = 50_000_000  # of an installed package's list of files
SPECIAL = {stat.S_IFLNK: "symbolic link"}


class Found(NamedTuple):
    """Something to read: its kind (repository, bundle, archive, parquet, installed, folder, loose) and a name that does not
    depend on where the given folder lies."""

    kind: str
    name: str
    path: Path


def find_projects(paths: Sequence[str | Path] | str | Path) -> Iterator[Found]:
    """What lies at the paths, folders searched in the order of names, links not followed. A folder that holds a licence or
    package metadata is one project, any other a collection. Raises FileNotFoundError for a path that is not there."""
    if isinstance(paths, str | Path):
        paths = [paths]
    for path in map(Path, paths):
        if path.is_dir():
            yield from _below(path.resolve(), path.resolve().name)
        elif path.is_file():
            if (kind := _kind(path)) is None:
                raise ValueError(f"{path} is no git bundle, archive ({' '.join(archives.SUFFIXES)}) or .parquet file")
            yield Found(kind, path.name, path)
        else:
            raise FileNotFoundError(
                f"{path} does not exist: name a repository, bundle, archive, .parquet file or folder"
            )


def _kind(path: Path) -> str | None:
    if path.name.endswith(archives.SUFFIXES):
        return "archive"
    return {".bundle": "bundle", ".parquet": "parquet"}.get(path.suffix)


def _below(root: Path, name: str) -> Iterator[Found]:
    waiting = [(root, name)]
    while waiting:
        folder, name = waiting.pop()
        if git_directory(folder) or name.endswith(".dist-info"):
            yield Found("repository" if git_directory(folder) else "installed", name.removesuffix(".dist-info"), folder)
            continue
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
        packages = [
            entry for entry in entries if entry.name.endswith(".dist-info") and entry.is_dir(follow_symlinks=False)
        ]
        if packages:
            yield from (Found("installed", entry.name.removesuffix(".dist-info"), Path(entry)) for entry in packages)
            continue
        files = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
        if any(is_evidence(entry.name) and not entry.name.lower().startswith("readme") for entry in files):
            yield Found("folder", name, folder)
            continue
        for entry in files:
            yield Found(
                _kind(Path(entry)) or "loose", f"{name}/{entry.name}" if folder != root else entry.name, Path(entry)
            )
        folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")]
        # from the path given on, so that a dump's name is its own
        waiting += [
            (Path(entry), entry.name if folder == root else f"{name}/{entry.name}") for entry in reversed(folders)
        ]


def walk_folder(root: Path) -> Iterator[Entry]:
    """The files below a folder in the order of their paths; links are named, not followed."""
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(root / folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
        for entry in entries:
            path = folder + entry.name
            if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
                yield Entry(
                    _printable(path), 0, "symbolic link" if entry.is_symlink() else "special file", None, None, bytes
                )
            elif entry.is_file():
                yield Entry(_printable(path), entry.stat().st_size, "", None, None, partial(_read, root, path))
        below = [entry for entry in entries if entry.is_dir(follow_symlinks=False) and entry.name != "__pycache__"]
        folders += [f"{folder}{entry.name}/" for entry in reversed(below)]


def walk_installed(package: Path) -> Iterator[Entry]:
    """The files that an installed package's RECORD lists. Raises ValueError where there is no such list."""
    record = package / "RECORD"
    if not record.is_file() or record.stat().st_size > MAX_RECORD_BYTES:
        raise ValueError("installed package without a list of files")
    root = package.parent.resolve()
    with record.open(encoding="utf-8", errors="backslashreplace", newline="") as lines:
        try:
            for row in csv.reader(lines):
                if not row:
                    continue
                path = row[0]
                inside = safe_name(path)
                size = (root / path).stat().st_size if inside and (root / path).is_file() else 0
                special = "" if inside else "file outside the package"
                yield Entry(path, size, special, None, None, partial(_read, root, path))
        except (csv.Error, OSError) as error:
            raise ValueError("corrupt list of files") from error


def licensed_path(path: str) -> str:
    """A file's place in the project an installed package was built from: *.dist-info/licenses/a/LICENSE was a/LICENSE."""
    first, _, rest = path.partition("/")
    if not first.endswith(".dist-info"):
        return path
    return rest.removeprefix("licenses/").removeprefix("src/")


def _read(root: Path, path: str) -> bytes:
    file = root / path
    if os.path.realpath(file) != os.path.join(root, path):
        raise ValueError("symbolic link")
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError("unreadable file") from error


def _printable(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
