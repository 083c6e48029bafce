"""The corpus folder: how one of ours is told from anything else, and how a new one takes an old one's place."""

import json
import shutil
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
        out.rename(_aside(out))
    staging(out).rename(out)


def clean_up(out: Path) -> None:
    """Remove what a build leaves beside `out`, however it ended; one stopped between the renames is undone."""
    if not out.exists() and read_corpus(_aside(out)) is not None:
        _aside(out).rename(out)
    for leftover in (staging(out), _aside(out)):
        shutil.rmtree(leftover, ignore_errors=True)


def _aside(out: Path) -> Path:
    return out.parent / f".{out.name}.replaced"
