"""Documents on disk: Parquet with the columns text, id, source and metadata (JSON), for `datasets.load_dataset`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from datatrove.data import Document

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_BYTES = 8_000_000  # of text in a row group: what reading and writing hold in memory


class DocumentWriter:
    """Writes one Parquet file; `with DocumentWriter(path) as writer: writer.add(document)`. Counts what it wrote."""

    def __init__(self, path: Path) -> None:
        self.path, self.documents, self.bytes = path, 0, 0

    def __enter__(self) -> "DocumentWriter":
        import pyarrow.parquet as pq

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.writer = pq.ParquetWriter(self.path, _schema())
        self._clear()
        return self

    def add(self, document: Document) -> int:
        """Append a document; returns its UTF-8 bytes."""
        size = len(document.text.encode())
        self.rows.append(
            {
                "text": document.text,
                "id": _printable(document.id),
                "source": document.metadata["source"],
                "metadata": _printable(json.dumps(document.metadata, ensure_ascii=False, sort_keys=True)),
            }
        )
        self.documents += 1
        self.bytes += size
        self.pending += size
        if self.pending >= GROUP_BYTES:
            self._write_group()
        return size

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._write_group()
            self.writer.close()

    def _write_group(self) -> None:
        import pyarrow as pa

        if self.rows:
            self.writer.write_table(pa.Table.from_pylist(self.rows, schema=_schema()))
        self._clear()

    def _clear(self) -> None:
        self.rows: list[dict[str, str]] = []
        self.pending = 0


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of a Parquet file in their order, one row group in memory at a time."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    for group in range(file.num_row_groups):
        for row in file.read_row_group(group, columns=["text", "id", "metadata"]).to_pylist():
            yield Document(text=row["text"], id=row["id"], metadata=json.loads(row["metadata"]))


def _printable(name: str) -> str:
    """File names need not be UTF-8; Parquet's text must be."""
    return name.encode("utf-8", "replace").decode()


def _schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([(name, pa.string()) for name in ("text", "id", "source", "metadata")])
