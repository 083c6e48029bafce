"""The files of a git repository or bundle, read from its objects: no checkout, no hook, nothing fetched, nothing configured
by the repository itself."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from data_pipelines.dumps.archives import Entry
from data_pipelines.dumps.git import SECONDS, Objects, Reader, ask, running

INDEX_SECONDS = 3600  # for indexing a bundle
MAX_FILES = 1_000_000  # a few trees that hold each other can spell out more files than atoms
MAX_BUNDLE_BYTES = 20_000_000_000
MODES = {b"120000": "symbolic link", b"160000": "submodule"}


class Repository(NamedTuple):
    """A repository's object store and the commit to read."""

    folder: Path  # what git calls the git directory
    commit: str
    date: str | None  # of the commit, ISO
    name: str | None  # "owner/name" where it was cloned from GitHub, "host/path" from elsewhere
    url: str | None  # https, without a password


def git_directory(path: Path) -> Path | None:
    """The git directory of a working tree or of a bare repository, None where the folder is neither."""
    inner = path / ".git"
    if inner.is_dir() and not inner.is_symlink() and (inner / "HEAD").is_file():
        return inner
    bare = (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()
    return path if bare else None


def open_repository(folder: Path, commit: str = "HEAD") -> Repository:
    """Look up the commit to read in a git directory. Raises ValueError with a fixed phrase where git finds none."""
    for link in (folder / "objects", folder / "commondir", folder / "objects" / "info" / "alternates"):
        if link.is_symlink() or (link != folder / "objects" and link.exists()):
            raise ValueError("repository points outside itself")
    with Objects(folder) as objects:
        oid, content = objects.read(f"{commit}^{{commit}}".encode(), 1_000_000)
    seconds = re.search(rb"^committer .*> (\d{1,12}) [+-]\d{4}$", content.split(b"\n\n")[0], re.M)
    date = None
    if seconds and int(seconds[1]) < 1 << 33:
        date = datetime.fromtimestamp(int(seconds[1]), UTC).date().isoformat()
    config = ["config", "--local", "--no-includes", "--get", "remote.origin.url"]
    remote = ask(folder, config).decode("utf-8", "replace").strip()
    return Repository(folder, oid.decode(), date, *_origin(remote))


def _origin(remote: str) -> tuple[str | None, str | None]:
    match = re.fullmatch(
        r"(?:(?:https?|ssh|git)://)?(?:[^@/\s]*@)?([\w.-]+\.[a-z]+)(?::\d+)?[:/]([\w./~-]+?)(?:\.git)?/?", remote
    )
    if not match or ".." in match[2]:
        return None, None
    host, path = match[1].lower(), match[2].strip("/")
    return (path if host == "github.com" else f"{host}/{path}"), f"https://{host}/{path}"


def walk_repository(repository: Repository, most: int) -> Iterator[Entry]:
    """The files of the commit, in git's order. Raises ValueError with a fixed phrase where the repository breaks."""
    command = ["ls-tree", "-rz", "-l", "--full-tree", repository.commit]
    with Objects(repository.folder) as objects, running(repository.folder, command) as listing:
        reader = Reader(listing)
        for count in range(MAX_FILES + 1):
            line = reader.until(b"\0")
            if not line:
                break
            if count == MAX_FILES:
                raise ValueError("too many files")
            facts, _, name = line.partition(b"\t")
            mode, kind, oid, size = facts.split()
            special = MODES.get(mode, "" if kind == b"blob" else "special file")
            length = int(size) if size.isdigit() else 0
            path = name.decode("utf-8", "backslashreplace")
            read = partial(_read_blob, objects, oid, most)
            yield Entry(path, length, special, repository.date, repository.commit, read)
        if listing.wait(SECONDS):
            raise ValueError("corrupt repository")


def _read_blob(objects: Objects, oid: bytes, most: int) -> bytes:
    return objects.read(oid, most)[1]


@contextmanager
def unbundled(path: Path) -> Iterator[Repository]:
    """A bundle's objects as a bare repository in a temporary folder of ours, which costs about the bundle's own size.

    Raises ValueError with a fixed phrase for a bundle that is corrupt, or needs commits it does not hold."""
    if path.stat().st_size > MAX_BUNDLE_BYTES:
        raise ValueError("bundle too large")
    folder = Path(tempfile.mkdtemp(prefix="llama-data-bundle-"))
    try:
        with path.open("rb") as file:
            heads = _bundle_heads(file)
            sha = "sha256" if len(next(iter(heads.values()))) == 64 else "sha1"
            ask(folder, ["init", "--quiet", "--bare", "--template=", f"--object-format={sha}", str(folder)])
            command = ["index-pack", "--stdin", f"--max-input-size={MAX_BUNDLE_BYTES}"]
            ask(folder, command, INDEX_SECONDS, file)
        names = ("HEAD", "refs/heads/main", "refs/heads/master", *sorted(heads))
        yield open_repository(folder, next(heads[name] for name in names if name in heads))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bundle_heads(file: IO[bytes]) -> dict[str, str]:
    """What a bundle's header says its references are; the file is left where the pack starts."""
    if file.readline(100) not in (b"# v2 git bundle\n", b"# v3 git bundle\n"):
        raise ValueError("corrupt bundle")
    heads: dict[str, str] = {}
    for _ in range(MAX_FILES):
        line = file.readline(10_000)
        if line == b"\n" and heads:
            os.lseek(file.fileno(), file.tell(), os.SEEK_SET)  # git inherits the descriptor, not our buffer
            return heads
        if line.startswith(b"-"):
            raise ValueError("bundle needs other commits")
        match = re.fullmatch(rb"([0-9a-f]{40}|[0-9a-f]{64}) (\S+)\n", line)
        if match:
            heads[match[2].decode("utf-8", "replace")] = match[1].decode()
        elif not line.startswith(b"@"):
            break
    raise ValueError("corrupt bundle")
