"""Rows of a Parquet export of BigQuery's GitHub tables: one file of one repository each, with the licence GitHub saw.

Columns (contents joined with files and licenses, as RedPajama's query does): repo_name, path, content, license, and where
they exist size, binary, mode, ref. The Stack's and CodeParrot's names for the same are understood too."""

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from data_pipelines.dumps.archives import Entry, safe_name
from data_pipelines.pool import Failure, run_guarded

NAMES = {
    "repo": ("repo_name", "max_stars_repo_name", "repository_name"),
    "path": ("path", "max_stars_repo_path"),
    "content": ("content", "code"),
    "license": ("license", "licenses", "max_stars_repo_licenses"),
    "binary": ("binary",),
    "mode": ("mode",),
    "commit": ("max_stars_repo_head_hexsha",),
}
MAX_ROW_GROUP = 2_000_000_000  # bytes of one column, unpacked: it is read as one piece
MAX_ROWS = 20_000_000
MAX_MEGABYTES = 6000  # that reading a file may take: a row group of 2 GB, packed and unpacked, and as Python's objects
SLOWEST = 5 * 10**6  # bytes/s: a file that takes longer is given up
BATCH = 64  # files of up to a megabyte each


class Row(NamedTuple):
    """A file and the repository it belongs to; the licence is None where the export has none for it."""

    repo: str
    license: str | None
    entry: Entry


def walk_rows(path: Path) -> Iterator[Row]:
    """The rows in their order. Raises ValueError with a fixed phrase where the file breaks.

    Some broken files make Arrow end the whole process: one that has not been read through elsewhere is not read here."""
    if reason := _danger(path, path.stat().st_mtime_ns):
        raise ValueError(reason)
    yield from _rows(path)


@lru_cache(1)  # each file is walked twice
def _danger(path: Path, changed: int) -> str:
    seconds = 60 + path.stat().st_size / SLOWEST
    _, outcome = next(run_guarded(read_through, [path], seconds=seconds, megabytes=MAX_MEGABYTES))
    return "corrupt Parquet file" if isinstance(outcome, Failure) else ""


def read_through(path: Path) -> None:
    """Read all there is, or up to where it breaks."""
    with suppress(ValueError):  # it is said, and what comes before it kept, when it breaks again
        for _ in _rows(path):
            pass


def _rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
            columns = _columns(file.schema_arrow.names)
            _check_size(file.metadata)
            for batch in file.iter_batches(batch_size=BATCH, columns=list(columns.values()), use_threads=False):
                values = {meaning: _values(batch.column(name)) for meaning, name in columns.items()}
                for i in range(batch.num_rows):
                    yield _row({meaning: column[i] for meaning, column in values.items()})
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise ValueError("corrupt Parquet file") from error


def _columns(names: list[str]) -> dict[str, str]:
    found = {meaning: name for meaning, options in NAMES.items() for name in reversed(options) if name in names}
    if not {"repo", "path", "content"} <= found.keys():
        raise ValueError("Parquet file without repo_name, path and content")
    return found


def _check_size(metadata: Any) -> None:
    if metadata.num_rows > MAX_ROWS:
        raise ValueError("Parquet file with too many rows")
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        if any(group.column(j).total_uncompressed_size > MAX_ROW_GROUP for j in range(group.num_columns)):
            raise ValueError("Parquet row group too large")


def _values(column: Any) -> list[Any]:
    """As bytes where it is text: a row that is not UTF-8 must not take its batch with it."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    return column.to_pylist()


def _row(values: dict[str, Any]) -> Row:
    content, mode, license = values["content"], values.get("mode"), values.get("license")
    repo, commit, special = _text(values["repo"]), _text(values.get("commit")), ""
    if isinstance(mode, int) and mode & 0o170000 in (0o120000, 0o160000):
        special = "symbolic link" if mode & 0o170000 == 0o120000 else "submodule"
    elif values.get("binary") is True:
        special = "binary"
    elif not isinstance(content, bytes):
        special = "row without content"
    elif not safe_name(repo):
        special = "unsafe name"
    if isinstance(license, list):  # GitHub's guesses, of which all must hold
        license = b" AND ".join(one if isinstance(one, bytes) else str(one).encode() for one in license) or None
    size = len(content) if isinstance(content, bytes) else 0
    entry = Entry(_text(values["path"]), size, special, None, commit or None, partial(_same, content))
    return Row(repo, _text(license) or None, entry)


def _same(content: bytes) -> bytes:
    return content


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else ""
