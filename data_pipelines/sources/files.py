"""The user's own text: .txt, .md, .jsonl, .jsonl.gz and .parquet files, alone or in folders."""

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datatrove.data import Document

from data_pipelines.account import Account
from data_pipelines.corpus import read_corpus

SUFFIXES = (".txt", ".md", ".jsonl", ".jsonl.gz", ".parquet")
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell half a character, which no text file can hold
DEFAULTS = {"text_column": "text"}
SEGMENT_BYTES = 16_000_000  # a longer text file becomes several documents, so that memory stays bounded


def inputs(paths: Sequence[str], settings: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(id, bytes, modification time in ns) of every file `read` would open, in its order."""
    found = [(name, path.stat()) for name, path in find_files(paths, Account())]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def read(
    paths: Sequence[str], settings: Mapping[str, Any] | None = None, account: Account | None = None
) -> Iterator[Document]:
    """One document per text file, JSON line or Parquet row, in the order of the paths given and the sorted names below.

    `settings["text_column"]` names the text of .jsonl and .parquet. What is left out (other kinds of file, links, lines
    that are no JSON, ...) is counted in `account`. Raises FileNotFoundError for a path that is not there and ValueError
    where no text at all was found.
    """
    column = (DEFAULTS | dict(settings or {}))["text_column"]
    account = account or Account()
    for name, path in find_files(paths, account):
        if path.suffix == ".parquet":
            documents = _parquet_rows(path, column, account)
        elif path.suffix in (".txt", ".md"):
            documents = text_segments(path, account)
        else:
            documents = _json_lines(path, column, account)
        for place, text in documents:
            if not text.strip():
                account.drop("empty")
                continue
            account.seen += 1
            account.kept += 1
            metadata = {"source": "files", "path": name, "bytes": len(text.encode())}
            yield Document(text=text, id=f"{name}{place}", metadata=metadata)
    if not account.kept:
        outcomes = account.dropped + account.errors
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(outcomes.items())) or "no files"
        raise ValueError(f"no text in {', '.join(map(str, paths))}: looked for {' '.join(SUFFIXES)}, found {reasons}")


def find_files(paths: Sequence[str], account: Account) -> Iterator[tuple[str, Path]]:
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
                    account.drop("symbolic link")
                elif not name.endswith(SUFFIXES):
                    account.drop("another kind of file")
                else:
                    yield file.relative_to(path).as_posix(), file


def _is_source(folder: Path) -> bool:
    return not folder.name.startswith(".") and folder.name != "__pycache__" and read_corpus(folder) is None


def text_segments(path: Path, account: Account) -> Iterator[tuple[str, str]]:
    """(place, text) of a text file: whole, or in segments of some 16 MB; what is no UTF-8 text is counted as dropped."""
    with path.open("rb") as file:
        for i in range(path.stat().st_size // SEGMENT_BYTES + 1):
            raw = file.read(SEGMENT_BYTES) + file.readline()
            if b"\0" in raw:
                account.drop("binary")
                return
            try:
                text = raw.decode("utf-8-sig" if i == 0 else "utf-8")
            except UnicodeDecodeError:
                account.drop("not UTF-8")
                return
            if text or i == 0:
                yield f"#{i}" if i else "", text.replace("\r\n", "\n")


def _json_lines(path: Path, column: str, account: Account) -> Iterator[tuple[str, str]]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        try:
            for i, line in enumerate(lines):
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):  # bad JSON, bad UTF-8, brackets without end
                    account.drop("not a JSON line")
                    continue
                text = row.get(column) if isinstance(row, dict) else None
                if isinstance(text, str) and not LONE_SURROGATE.search(text):
                    yield f"#{i}", text
                else:
                    account.drop(f"JSON line without text in {column!r}")
        except (EOFError, gzip.BadGzipFile, zlib.error):
            account.fail("broken gzip file")


def _parquet_rows(path: Path, column: str, account: Account) -> Iterator[tuple[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        if column not in file.schema_arrow.names:
            account.drop(f"Parquet file without a column {column!r}")
            return
        i = 0
        for batch in file.iter_batches(batch_size=1000, columns=[column]):
            for text in batch.column(0).to_pylist():
                if isinstance(text, str):
                    yield f"#{i}", text
                else:
                    account.drop(f"Parquet row without text in {column!r}")
                i += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        account.fail("broken Parquet file")
