"""Text every Python installation has: code, documentation strings and README/licence texts of what is installed here.

Read are the packages of our own virtual environment (never those of an interpreter that serves other projects too) and
the standard library. A Python file gives either its source or its documentation strings, by a hash of its path, never
both: else a held-out text would stand in the training text a second time.
"""

import ast
import email
import hashlib
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datatrove.data import Document

from data_pipelines.account import Account

DEFAULTS: dict[str, Any] = {}
MAX_FILE_BYTES = 200_000
MAX_LINE = 1000  # longer lines are data or minified code
PROSE = ("README", "LICENSE", "LICENCE", "COPYING", "NOTICE")
PROSE_SUFFIXES = ("", ".md", ".rst", ".txt")
PROSE_WEIGHT = 16  # prose files are one in thirty; they come up this much sooner in the order
GENERATED = re.compile(r"^#.*(generated (by|from)|do not edit|@generated|auto-?generated)", re.I | re.M)
OURSELVES = ("llama_train", "data_pipelines", "__editable__")  # would change with every edit of ours


def inputs(paths: Sequence[str], settings: Mapping[str, Any]) -> list[tuple[str, int]]:
    """(id, bytes) of every file `read` would look at, in its order. Nothing is opened."""
    return [(name, size) for name, size, _, _ in _candidates(_roots(paths))]


def read(
    paths: Sequence[str] = (), settings: Mapping[str, Any] | None = None, account: Account | None = None
) -> Iterator[Document]:
    """Documents in an order that follows from (package, relative path) alone, so the first N are a fair sample.

    `paths` replaces the environment and the standard library with folders laid out like them. Reasons of files left out
    are counted in `account`. Metadata: source, kind (source, documentation, prose), package, bytes of the file.
    """
    account = account or Account()
    for name, size, kind, path in _candidates(_roots(paths)):
        try:
            text = _text(path, kind)
        except ValueError as reason:
            account.drop(str(reason))
            continue
        except OSError:
            account.fail("unreadable")
            continue
        account.seen += 1
        account.kept += 1
        metadata = {"source": "installed", "kind": kind, "package": name.split("/")[1], "bytes": size}
        yield Document(text=text, id=name, metadata=metadata)


def _roots(paths: Sequence[str]) -> dict[str, Path]:
    if paths:
        return {Path(path).name: Path(path) for path in paths}
    roots = {"stdlib": Path(sysconfig.get_path("stdlib"))}
    if sys.prefix != sys.base_prefix:
        roots |= {"site-packages": Path(sysconfig.get_path("purelib"))}
        if (platlib := Path(sysconfig.get_path("platlib"))) != roots["site-packages"]:
            roots["platlib"] = platlib
    return roots


def _candidates(roots: Mapping[str, Path]) -> list[tuple[str, int, str, Path]]:
    """(id, bytes, kind, path) of the files worth opening, ordered by the hash of the id, prose sooner."""
    found = []
    for label, root in roots.items():
        for relative, size in _walk(root):
            name = f"{label}/{relative}"
            digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
            if (kind := _kind(relative, digest[8] & 1)) is not None:
                place = int.from_bytes(digest[:8]) // (PROSE_WEIGHT if kind == "prose" else 1)
                found.append((place, name, size, kind, root / relative))
    return [entry[1:] for entry in sorted(found)]


def _walk(root: Path) -> Iterator[tuple[str, int]]:
    """(path below `root`, bytes) of its regular files, without links, caches and packages that are not its own."""
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.name in ("__pycache__", "site-packages", "dist-packages"):
                    continue
                if not folder and entry.name.startswith(OURSELVES):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{folder}{entry.name}/")
                elif entry.is_file(follow_symlinks=False):
                    yield folder + entry.name, entry.stat(follow_symlinks=False).st_size


def _kind(relative: str, documentation: int) -> str | None:
    folder, _, name = relative.rpartition("/")
    stem, dot, suffix = name.partition(".")
    if name.endswith(".py"):
        return "documentation" if documentation else "source"
    if stem.upper().startswith(PROSE) and (dot + suffix).lower() in PROSE_SUFFIXES:
        return "prose"
    return "prose" if name == "METADATA" and folder.endswith(".dist-info") else None


def _text(path: Path, kind: str) -> str:
    """The file's text of that kind; raises ValueError with the reason why there is none."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES} bytes")
    raw = path.read_bytes()
    if b"\0" in raw:
        raise ValueError("binary")
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if path.suffix == ".py" and GENERATED.search(text[:1000]):
        raise ValueError("generated")
    if max(map(len, text.split("\n"))) > MAX_LINE:
        raise ValueError("minified or data (very long lines)")
    if path.name == "METADATA":
        message = email.message_from_string(text)
        text = str(message.get_payload()) or message.get("Description", "")
    elif kind == "documentation":
        text = _documentation(text)
    if not text.strip():
        raise ValueError("no documentation strings" if kind == "documentation" else "empty")
    return text


def _documentation(source: str) -> str:
    """The documentation strings of a Python file, each under the name of what it documents."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError("not this Python's syntax") from None
    parts = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if documentation := ast.get_docstring(node):
            parts.append(documentation if isinstance(node, ast.Module) else f"{node.name}\n\n{documentation}")
    return "\n\n\n".join(parts)
