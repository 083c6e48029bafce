"""The user's own text: .txt, .md, .jsonl, .jsonl.gz and .parquet files, alone or in folders."""

import gzip
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datatrove.data import Document

from data_pipelines.corpus import read_corpus

SUFFIXES = (".txt", ".md", ".jsonl", ".jsonl.gz", ".parquet")
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell half a character, which no text file can hold
SEGMENT_BYTES = 16_000_000  # a longer text file becomes several documents, so that memory stays bounded


def inputs(paths: Sequence[str], settings: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(id, bytes, modification time in ns) of every file `read` would open, in its order."""
    found = [(name, path.stat()) for name, path in _find(paths, Counter())]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def read(
    paths: Sequence[str], settings: Mapping[str, Any] | None = None, dropped: Counter[str] | None = None
) -> Iterator[Document]:
    """One document per text file, JSON line or Parquet row, in the order of the paths given and the sorted names below.

    `settings["text_column"]` (default "text") names the text of .jsonl and .parquet. What is left out (other kinds of
    file, links, lines that are no JSON, ...) is counted in `dropped`. Raises FileNotFoundError for a path that is not
    there and ValueError where no text at all was found.
    """
    column = (settings or {}).get("text_column", "text")
    dropped = Counter() if dropped is None else dropped
    found = False
    for name, path in _find(paths, dropped):
        if path.suffix == ".parquet":
            documents = _parquet_rows(path, column, dropped)
        elif path.suffix in (".txt", ".md"):
            documents = _text_segments(path, dropped)
        else:
            documents = _json_lines(path, column, dropped)
        for place, text in documents:
            if not text.strip():
                dropped["empty"] += 1
                continue
            found = True
            metadata = {"source": "files", "path": name, "bytes": len(text.encode())}
            yield Document(text=text, id=f"{name}{place}", metadata=metadata)
    if not found:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())) or "no files"
        raise ValueError(f"no text in {', '.join(map(str, paths))}: looked for {' '.join(SUFFIXES)}, found {reasons}")


def _find(paths: Sequence[str], dropped: Counter[str]) -> Iterator[tuple[str, Path]]:
    """(id, path) of the files to read; below a folder the id is the path inside it.

    There, links, hidden folders and corpora are left alone: a build must not read what it, or an earlier one, wrote.
    """
    for path in map(Path, paths):
        if path.is_file():
            if not path.name.endswith(SUFFIXES):
                raise ValueError(f"{path} is none of the kinds read here: {' '.join(SUFFIXES)}")
            yield path.name, path
            continue
        if not path.is_dir():
            raise FileNotFoundError(f"{path} does not exist: name a folder or file with text")
        for folder, folders, files in os.walk(path):
            folders[:] = sorted(name for name in folders if _is_source(Path(folder, name)))
            for name in sorted(files):
                file = Path(folder, name)
                if file.is_symlink():
                    dropped["symbolic link"] += 1
                elif not name.endswith(SUFFIXES):
                    dropped["another kind of file"] += 1
                else:
                    yield file.relative_to(path).as_posix(), file


def _is_source(folder: Path) -> bool:
    return not folder.name.startswith(".") and folder.name != "__pycache__" and read_corpus(folder) is None


def _text_segments(path: Path, dropped: Counter[str]) -> Iterator[tuple[str, str]]:
    with path.open("rb") as file:
        for i in range(path.stat().st_size // SEGMENT_BYTES + 1):
            raw = file.read(SEGMENT_BYTES) + file.readline()
            if b"\0" in raw:
                dropped["binary"] += 1
                return
            try:
                text = raw.decode("utf-8-sig" if i == 0 else "utf-8")
            except UnicodeDecodeError:
                dropped["not UTF-8"] += 1
                return
            if text or i == 0:
                yield f"#{i}" if i else "", text.replace("\r\n", "\n")


def _json_lines(path: Path, column: str, dropped: Counter[str]) -> Iterator[tuple[str, str]]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        try:
            for i, line in enumerate(lines):
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):  # bad JSON, bad UTF-8, brackets without end
                    dropped["not a JSON line"] += 1
                    continue
                text = row.get(column) if isinstance(row, dict) else None
                if isinstance(text, str) and not LONE_SURROGATE.search(text):
                    yield f"#{i}", text
                else:
                    dropped[f"JSON line without text in {column!r}"] += 1
        except (EOFError, gzip.BadGzipFile, zlib.error):
            dropped["broken gzip file"] += 1


def _parquet_rows(path: Path, column: str, dropped: Counter[str]) -> Iterator[tuple[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        if column not in file.schema_arrow.names:
            dropped[f"Parquet file without a column {column!r}"] += 1
            return
        i = 0
        for batch in file.iter_batches(batch_size=1000, columns=[column]):
            for text in batch.column(0).to_pylist():
                if isinstance(text, str):
                    yield f"#{i}", text
                else:
                    dropped[f"Parquet row without text in {column!r}"] += 1
                i += 1
    except (pa.ArrowException, OSError):
        dropped["broken Parquet file"] += 1
