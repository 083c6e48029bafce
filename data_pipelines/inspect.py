"""What is in a corpus: random documents, what was kept and dropped and why, lengths, languages, sources; as text and PNG."""

import json
import os
import random
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

BATCH_ROWS = 64  # held in memory at once; a document can have megabytes
SHOWN = 400  # characters of a document
ROWS = 20  # of a table; what is rarer is summed up
BAR = 40  # characters of the longest bar


class Sample(NamedTuple):
    """A document as it is shown."""

    id: str
    language: str
    size: int
    url: str
    beginning: str


@dataclass
class Contents:
    """What was found in the Parquet files of a folder. Lengths are counted by their number of binary digits."""

    documents: int = 0
    bytes: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    files: int = 0
    unreadable: list[str] = field(default_factory=list)


def inspect(folder: Path, *, count: int = 5, seed: int = 0, picture: Path | None = None) -> str:
    """A report, to be printed, on a folder that `llama-data build` made, or on any Parquet files with a text column.

    count: documents to show, each equally likely to be among them; the same ones for the same seed. picture: where to
    write kept and dropped records, lengths and languages as a PNG. Raises FileNotFoundError where `folder` is not
    there and ValueError where nothing below it can be shown."""
    files = list(_parquet_files(folder))
    if not files:
        raise ValueError(f"no Parquet files in {folder}: name a folder that llama-data build made, or a .parquet file")
    contents = _read(files, count, random.Random(seed))
    if not contents.documents:
        problems = "; ".join(contents.unreadable[:3]) or "they are empty"
        raise ValueError(f"no documents in {folder}, which has {len(files)} Parquet files: {problems}")
    records = _records(folder)
    found = f"{contents.documents:,} documents, {contents.bytes:,} bytes of text, Parquet files: {contents.files:,}"
    parts = [
        f"{folder}: {found}" + (f" (and {len(contents.unreadable):,} unreadable)" if contents.unreadable else ""),
        *(f"  not read: {problem}" for problem in contents.unreadable),
        "",
        *_shown(contents.samples, seed),
        *_table("Records", records if records is not None else {}),
        *(["Records: there is no corpus.json that says what was dropped", ""] if records is None else []),
        *_table("Length in bytes", _length_labels(contents.lengths), rows=64),
        *_table("Language", contents.languages),
        *_table("Bytes by source", contents.sources),
    ]
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        _draw(picture, records or {"kept": contents.documents}, contents)
        parts.append(f"picture: {picture}")
    return "\n".join(parts).rstrip()


def _parquet_files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
    elif not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist: name a folder that llama-data build made")
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in sorted(names) if name.endswith(".parquet"))


def _read(files: Iterable[Path], count: int, chance: random.Random) -> Contents:
    """Count everything once, and keep `count` documents by reservoir sampling (Vitter 1985, algorithm R)."""
    import pyarrow as pa

    contents = Contents()
    for path in files:
        try:
            for size, text, row in _rows(path):
                metadata = _metadata(row)
                language = _clean(str(metadata.get("language") or "unknown"))[:20]
                source = _clean(str(row.get("source") or metadata.get("source") or "unknown"))[:40]
                contents.documents += 1
                contents.bytes += size
                contents.lengths[size.bit_length()] += 1
                contents.languages[language] += 1
                contents.sources[source] += size
                if contents.documents <= count:
                    place = len(contents.samples)
                elif (place := chance.randrange(contents.documents)) >= count:
                    continue
                name = _clean(str(row.get("id") or f"{path.name}#{contents.documents - 1}"))[:200]
                url = _clean(str(metadata.get("url") or ""))[:300]
                contents.samples[place : place + 1] = [Sample(name, language, size, url, (text.as_py() or "")[:SHOWN])]
            contents.files += 1
        except (pa.ArrowException, OSError, ValueError) as error:  # not Parquet, clipped, text that is no UTF-8, ...
            contents.unreadable.append(f"{path}: {_clean(str(error))[:200]}")
    return contents


def _rows(path: Path) -> Iterator[tuple[int, Any, Mapping[str, Any]]]:
    """(bytes of text, text as Arrow's scalar, the other columns) of each row; few rows are in memory at once."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        kinds = {column.name: column.type for column in file.schema_arrow}
        if "text" not in kinds or not (pa.types.is_string(kinds["text"]) or pa.types.is_large_string(kinds["text"])):
            raise ValueError("it has no column text of strings")
        columns = [name for name in ("text", "id", "source", "metadata") if name in kinds]
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
            texts = batch.column("text")
            rows = batch.drop_columns(["text"]).to_pylist() if len(columns) > 1 else [{}] * len(texts)
            sizes = pc.fill_null(pc.binary_length(texts), 0).to_pylist()
            yield from zip(sizes, texts, rows, strict=True)


def _metadata(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row's metadata, JSON or a struct; empty where it is neither."""
    metadata = row.get("metadata")
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except (ValueError, RecursionError):
            metadata = None
    return metadata if isinstance(metadata, dict) else {}


def _records(folder: Path) -> dict[str, int] | None:
    """Kept, dropped and failed records by reason, from the nearest corpus.json; None where none tells."""
    for place in (folder, folder.parent, folder.parent.parent):
        try:
            account = json.loads((place / "corpus.json").read_text(encoding="utf-8"))["account"]
            records = {"kept": int(account["kept"])}
            for kind, name in (("dropped", "dropped"), ("errors", "error")):
                reasons = sorted(account[kind].items(), key=lambda reason: -int(reason[1]))
                records |= {f"{name}: {_clean(reason)[:80]}": int(number) for reason, number in reasons}
            return records
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            continue
    return None


def _clean(text: str) -> str:
    """The text with everything a terminal might obey, or that hides, spelled out."""
    return "".join(
        sign.encode("unicode_escape").decode()
        if unicodedata.category(sign)[0] == "C" or sign in "\u2028\u2029"
        else sign
        for sign in text
    )


def _shown(samples: Iterable[Sample], seed: int) -> Iterator[str]:
    yield f"Random documents (seed {seed})"
    for sample in samples:
        yield f"  {sample.id}  {sample.language}  {sample.size:,} bytes  {sample.url}".rstrip()
        more = "..." if sample.size > len(sample.beginning.encode("utf-8", "replace")) else ""
        yield from (f"    | {_clean(line)}" for line in (sample.beginning + more).split("\n"))
        yield ""


def _length_labels(lengths: Mapping[int, int]) -> dict[str, int]:
    """Buckets of powers of two, shortest first, without gaps."""
    digits = range(min(lengths), max(lengths) + 1)
    return {f"{2**n // 2:,} to {2**n - 1:,}": lengths.get(n, 0) for n in digits}


def _table(title: str, rows_by_name: Mapping[str, int], rows: int = ROWS) -> Iterator[str]:
    """Numbers with their share of all and a bar; a Counter's by frequency, all else in the order given."""
    if not rows_by_name:
        return
    named = _top(rows_by_name, rows)
    total, most = sum(named.values()) or 1, max(named.values()) or 1
    width = max(map(len, named))
    yield title
    for name, number in named.items():
        yield f"  {name:<{width}}  {number:>14,}  {100 * number / total:5.1f} %  {'#' * round(BAR * number / most)}".rstrip()
    yield ""


def _top(rows_by_name: Mapping[str, int], rows: int) -> dict[str, int]:
    counted = isinstance(rows_by_name, Counter)
    named = list(rows_by_name.most_common() if counted else rows_by_name.items())  # type: ignore[attr-defined]
    rest = named[rows:]
    return dict(named[:rows]) | ({f"{len(rest)} others": sum(number for _, number in rest)} if rest else {})


def _draw(file: Path, records: Mapping[str, int], contents: Contents) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 5), layout="constrained")
    kept, lengths, languages = figure.subplots(1, 3)
    for axes, title, rows in (
        (kept, "records", _top(records, ROWS)),
        (languages, "documents by language", _top(contents.languages, ROWS)),
    ):
        names = [name.replace("$", r"\$") for name in rows]  # else matplotlib reads mathematics
        colours = [
            "C0" if not name.startswith(("dropped", "error")) else "C1" if name[0] == "d" else "C3" for name in rows
        ]
        axes.barh(names, list(rows.values()), color=colours)
        axes.invert_yaxis()
        axes.set(title=title, xlabel="number")
    digits = range(min(contents.lengths), max(contents.lengths) + 1)
    lengths.bar([2 ** (n - 1) for n in digits], [contents.lengths[n] for n in digits],
                width=[2 ** (n - 1) for n in digits], align="edge", edgecolor="white")  # fmt: skip
    lengths.set(title="documents by length", xlabel="bytes", xscale="log")
    figure.savefig(file, dpi=150, format="png")
