"""The text tokenizers learn from and are judged on: documents with their language and source, from the user's own files.

.txt and .md are documents of no known language, their source is the file's name without its ending. A .jsonl line or Parquet
row has both in columns `language` and `source`, or as keys of its `metadata`: an object, or one written as JSON text, as in
the documents that `llama-data build` writes.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_pipelines.account import Account
from data_pipelines.sources.files import LONE_SURROGATE, SUFFIXES, find_files, text_segments

LABEL_CHARS = 60  # of a language or source; both are words of whoever made the file
BATCH_ROWS = 64  # of Parquet, held in memory at once; a document can have megabytes
SURE = 0.5  # the score below which CCNet, and with it LLaMA-1's data, does not believe fastText (Wenzek et al. 2019)

Row = tuple[str, Mapping[str, Any], int]  # text, its other columns, bytes of the file read so far


class Text(NamedTuple):
    """A document."""

    text: str
    language: str  # "" where nobody knows
    source: str


def read_texts(
    paths: Sequence[str],
    text_column: str = "text",
    *,
    tell_language: bool = False,
    account: Account | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Text]:
    """The documents of `paths`, files or folders of .txt .md .jsonl .jsonl.gz .parquet, in the order given, sorted in folders.

    A line, 64 rows or 16 MB of a text file are in memory at a time. tell_language: where a document does not say its
    language, fastText does if it is installed and its score is at least 0.5. Empty documents and rows without text are
    counted in `account`; `progress` is called with the bytes of the files that have been read since its last call. Raises
    FileNotFoundError for a path that is not there, ValueError for broken files and where there is no text at all.
    """
    account = account or Account()
    identify = _identifier() if tell_language else None
    for _, path in find_files(paths, account):
        source, done = path.name.removesuffix(".gz").rpartition(".")[0], 0
        for text, columns, position in _rows(path, text_column, account):
            if progress:
                progress(position - done)
                done = position
            if not text.strip():
                account.drop("empty")
                continue
            account.seen += 1
            account.kept += 1
            language = _label(columns, "language") or (identify(text) if identify else "")
            yield Text(text, language, _label(columns, "source") or printable(source))
        if progress:
            progress(path.stat().st_size - done)
    if not account.kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(account.dropped.items())) or "no files"
        raise ValueError(f"no text in {', '.join(map(str, paths))}: looked for {' '.join(SUFFIXES)}, found {reasons}")


def file_bytes(paths: Sequence[str]) -> int:
    """Bytes of the files that `read_texts` would read; raises FileNotFoundError and ValueError as it does."""
    return sum(path.stat().st_size for _, path in find_files(paths, Account()))


def left_out(account: Account) -> str:
    """What `read_texts` left out, in words, the commonest first; "" for nothing."""
    counts = ", ".join(f"{count:,} {reason}" for reason, count in account.dropped.most_common())
    return f"left out: {counts}" if counts else ""


def printable(label: str) -> str:
    """A label as it may stand in a table: on one line, nothing invisible, not too long."""
    kept = "".join(letter if letter.isprintable() else "�" for letter in label.strip())
    return kept if len(kept) <= LABEL_CHARS else kept[: LABEL_CHARS - 1] + "…"


def _rows(path: Path, column: str, account: Account) -> Iterator[Row]:
    if path.suffix == ".parquet":
        return _parquet_rows(path, column, account)
    if path.suffix in (".txt", ".md"):
        return ((text, {}, 0) for _, text in text_segments(path, account))
    return _json_rows(path, column, account)


def _json_rows(path: Path, column: str, account: Account) -> Iterator[Row]:
    with path.open("rb") as file:
        lines = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
        number = 0
        try:
            for line in lines:
                number += 1
                if not line.strip():
                    continue
                row = json.loads(line)
                text = row.get(column) if isinstance(row, dict) else None
                if isinstance(text, str) and not LONE_SURROGATE.search(text):
                    yield text, row, file.tell()
                else:
                    account.drop(f"JSON lines without text in {column!r} (--text_column)")
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise ValueError(
                f"{path} is a broken gzip file after line {number:,}: get it again, or leave it out"
            ) from None
        except (ValueError, RecursionError):
            raise ValueError(f"{path}, line {number:,} is not JSON: each line must be a JSON object") from None


def _parquet_rows(path: Path, column: str, account: Account) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if column not in names:
                raise ValueError(f"{path} has no column {column!r} but {', '.join(names)}: name one with --text_column")
            columns = [column, *(name for name in ("language", "source", "metadata") if name in names)]
            size, done = path.stat().st_size, 0
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
                for row in batch.to_pylist():
                    done += 1
                    if isinstance(row[column], str):
                        yield row[column], row, size * done // file.metadata.num_rows
                    else:
                        account.drop(f"Parquet rows without text in {column!r} (--text_column)")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is a broken Parquet file ({error}): get it again, or leave it out") from None


def _label(columns: Mapping[str, Any], name: str) -> str:
    """A document's own word for its language or source, or ""."""
    if isinstance(label := columns.get(name), str) and label.strip():
        return printable(label)
    metadata = columns.get("metadata")
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except (ValueError, RecursionError):
            return ""
    label = metadata.get(name) if isinstance(metadata, dict) else None
    return printable(label) if isinstance(label, str) else ""


def _identifier() -> Callable[[str], str] | None:
    """What tells the language of a text, if it is installed."""
    from data_pipelines.text.language import identify

    try:
        identify("a")
    except (ImportError, FileNotFoundError):
        return None

    def tell(text: str) -> str:
        language, score = identify(text)
        return language if score >= SURE else ""

    return tell
