"""The folder a tokenizer is written to: all of it or nothing, and in nobody else's place."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_pipelines.corpus import alone, aside, move_into_place, staging
from llama_train.tokenizers.folder import MADE_BY

FILES = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "tokenizer.model", "tokenizer.tiktoken"}


@contextmanager
def whole_folder(out: str, source: str | None = None) -> Iterator[Path]:
    """An empty folder to write in, beside `out`, whose name it gets at the end; removed where there is an error instead.

    A tokenizer that one of these commands wrote is replaced, but never `source`, which is read. Raises ValueError where
    `out` holds anything else and where another run is writing it, OSError where no folder can be made there.
    """
    place = Path(out).resolve()  # "." has no name, and so nothing could be called after it
    if source and place in (Path(source).resolve(), *Path(source).resolve().parents):
        raise ValueError(f"--out {out} is where {source} is read from: name another folder")
    new = staging(place)
    with alone(place):
        _clean_up(place)
        if place.exists() and not _is_ours(place):
            raise ValueError(
                f"{out} holds something else than a tokenizer written by llama-data: name another folder with --out, or remove it"
            )
        new.mkdir(parents=True)
        try:
            yield new
            move_into_place(place)
        finally:
            _clean_up(place)


def _is_ours(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
    try:
        config = json.loads((folder / "tokenizer_config.json").read_bytes()) if names else {"made_by": MADE_BY}
    except (OSError, ValueError, RecursionError):
        return False
    return names <= FILES and isinstance(config, dict) and config.get("made_by") == MADE_BY


def _clean_up(place: Path) -> None:
    if aside(place).exists() and not place.exists():  # it was stopped between the two renames
        aside(place).rename(place)
    for leftover in (staging(place), aside(place)):
        shutil.rmtree(leftover, ignore_errors=True)
