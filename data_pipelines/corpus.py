"""The corpus folder: how one of ours is told from anything else, and how a new one takes an old one's place."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTS = {"documents", "tokenizer", "train", "eval", "corpus.json"}


def read_corpus(folder: Path) -> dict[str, Any] | None:
    """corpus.json of a folder that a build made, whole or not; None where `folder` is, or also holds, something else."""
    try:
        corpus = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        ours = isinstance(corpus, dict) and {"format", "inputs_sha256"} <= corpus.keys()
        return corpus if ours and {path.name for path in folder.iterdir()} <= PARTS else None
    except (OSError, ValueError, RecursionError):
        return None


def staging(out: Path) -> Path:
    """Where the new corpus grows: beside `out`, so that a rename is enough to move it."""
    return out.parent / f".{out.name}.building"


def move_into_place(out: Path) -> None:
    """Give the finished staging folder the name `out`; what stood there waits aside until `clean_up` removes it."""
    if out.exists():
        out.rename(aside(out))
    staging(out).rename(out)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Be the only build of `out`; raises ValueError where another one is under way."""
    name = hashlib.sha256(str(out.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    path = Path(tempfile.gettempdir(), f"llama-data-{os.getuid()}-{name}.lock")  # not among the texts beside `out`
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(
                f"another build is writing {out}: wait for it, or name another folder with --out"
            ) from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def clean_up(out: Path) -> None:
    """Remove what a build leaves beside `out`, however it ended; one stopped between the renames is undone."""
    if not out.exists() and read_corpus(aside(out)) is not None:
        aside(out).rename(out)
    for leftover in (staging(out), aside(out)):
        shutil.rmtree(leftover, ignore_errors=True)


def aside(out: Path) -> Path:
    """Where the old one waits until the new one has its place."""
    return out.parent / f".{out.name}.replaced"
