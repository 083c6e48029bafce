"""Documents on disk: what is written comes back, from our reader and from `datasets`."""

import pytest
from datatrove.data import Document

from data_pipelines import documents as module
from data_pipelines.documents import DocumentWriter, read_documents

DOCUMENTS = [
    Document(text=text, id=f"id{i}", metadata={"source": "files", "n": i})
    for i, text in enumerate(["one", "zwei, naïve\n\x00", "三" * 100, "😀"])
]


def write(path, documents):
    with DocumentWriter(path) as writer:
        assert [writer.add(document) for document in documents] == [len(d.text.encode()) for d in documents]
    assert (writer.documents, writer.bytes) == (len(documents), sum(len(d.text.encode()) for d in documents))
    return path


def test_documents_come_back_in_their_order(tmp_path, monkeypatch):
    assert list(read_documents(write(tmp_path / "a.parquet", DOCUMENTS))) == DOCUMENTS
    monkeypatch.setattr(module, "GROUP_BYTES", 1)
    assert list(read_documents(write(tmp_path / "groups.parquet", DOCUMENTS))) == DOCUMENTS
    assert list(read_documents(write(tmp_path / "none.parquet", []))) == []


def test_datasets_opens_them(tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: it is the reader tried here")
    path = write(tmp_path / "a.parquet", DOCUMENTS)
    rows = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.column_names == ["text", "id", "source", "metadata"]
    assert rows["text"][:] == [document.text for document in DOCUMENTS]


def test_a_file_name_that_is_not_utf_8_can_be_written(tmp_path):
    path = write(tmp_path / "a.parquet", [Document(text="x", id="caf\udce9", metadata={"source": "caf\udce9"[:3]})])
    assert next(read_documents(path)).id == "caf?"
