"""What all seven sources promise: documents of one form, every record accounted for, the same however they are run."""

import importlib
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from datatrove.data import Document
from datatrove.executor.local import LocalPipelineExecutor

from data_pipelines.account import Account
from data_pipelines.build import build_corpus
from data_pipelines.documents import DocumentWriter, read_documents
from data_pipelines.settings import SOURCES

SEVEN = SOURCES[:7]
SAMPLES = Path(__file__).resolve().parents[2] / "data_pipelines" / "samples"
KEYS = {"source", "language", "url", "license", "date", "bytes"}


def sample(source: str) -> Path:
    """The folder of a source's sample dump."""
    return SAMPLES / source


def read(source: str, *paths: Path, **settings) -> tuple[list[Document], Account]:
    account = Account()
    module = importlib.import_module(f"data_pipelines.sources.{source}")
    documents = list(module.read([str(path) for path in paths], settings, account))
    account.check()
    assert len(documents) == account.kept
    return documents, account


def same(documents: list[Document]) -> list[tuple]:
    return [(document.id, document.text, document.metadata) for document in documents]


@pytest.mark.parametrize("source", SEVEN)
def test_documents_have_one_form(source):
    documents, account = read(source, sample(source))
    assert documents and account.dropped, "a sample shows both what is kept and what is not"
    assert len({document.id for document in documents}) == len(documents)
    for document in documents:
        text, metadata = document.text, document.metadata
        assert metadata.keys() >= KEYS and metadata["source"] == source
        assert isinstance(metadata["language"], str) and len(metadata["language"]) in (0, 2, 3)
        assert metadata["url"] and metadata["bytes"] > 0
        assert json.loads(json.dumps(metadata)) == metadata
        assert text.encode().decode() == text and text.strip("\n") == text
        assert not {"\0", "\r"} & set(text)
        assert not any(line != line.rstrip() for line in text.split("\n"))
        assert str(sample(source)) not in json.dumps([document.id, metadata]), "no path of this machine"


@pytest.mark.parametrize("source", [name for name in SEVEN if name != "github"])  # which has no parser to guard
def test_two_processes_read_the_same(source):
    assert same(read(source, sample(source), workers=2)[0]) == same(read(source, sample(source))[0])


@pytest.mark.parametrize("source", SEVEN)
def test_an_account_is_optional_and_a_reader_may_leave(source):
    module = importlib.import_module(f"data_pipelines.sources.{source}")
    stream = module.read([sample(source)])
    assert isinstance(next(stream), Document)
    stream.close()


@pytest.mark.parametrize("source", SEVEN)
def test_a_path_that_is_not_there_or_holds_nothing_is_said(source, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read(source, tmp_path / "nowhere")
    with pytest.raises(ValueError, match=str(tmp_path)):
        read(source, tmp_path)


def test_every_source_runs_under_datatrove_s_executor(tmp_path):
    """As a plain function, one task a source: the first and the last step of a pipeline on one machine or a cluster."""

    def read_step(_: Iterator[Document] | None, rank: int, world_size: int) -> Iterator[Document]:
        for source in SEVEN[rank::world_size]:
            module = importlib.import_module(f"data_pipelines.sources.{source}")
            yield from partial(module.read, [sample(source)])()

    def write_step(documents: Iterator[Document], rank: int, world_size: int) -> Iterator[Document]:
        with DocumentWriter(tmp_path / f"{rank}.parquet") as writer:
            for document in documents:
                writer.add(document)
                yield document

    LocalPipelineExecutor([read_step, write_step], tasks=7, workers=2, logging_dir=str(tmp_path / "logs")).run()
    for rank, source in enumerate(SEVEN):
        assert same(list(read_documents(tmp_path / f"{rank}.parquet"))) == same(read(source, sample(source))[0])


@pytest.mark.parametrize("source", SEVEN)
def test_build_writes_parquet_that_datasets_opens(source, tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    corpus = build_corpus(source, [str(sample(source))], tmp_path / "out", progress=False)
    documents, account = read(source, sample(source))
    assert corpus["account"]["seen"] == account.seen
    assert corpus["account"]["kept"] == corpus["documents"]["train"] <= account.kept
    for opened in (
        datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")),
        datasets.load_dataset(
            "parquet",
            data_files=str(tmp_path / "out" / "documents" / "*.parquet"),
            split="train",
            cache_dir=str(tmp_path / "cache"),
        ),
    ):
        assert opened.column_names == ["text", "id", "source", "metadata"]
        assert len(opened) == corpus["documents"]["train"]
    assert set(opened["id"]) <= {document.id for document in documents}
    assert opened[0]["text"] == documents[0].text and set(opened["source"]) == {source}


def test_a_dump_that_changed_is_built_again_and_one_that_did_not_is_not(tmp_path, capsys):
    dump = tmp_path / "Posts.xml"
    posts = next(sample("stack_exchange").glob("**/Posts.xml"))
    dump.write_bytes(posts.read_bytes())
    for expected in ("kept", "reusing"):
        build_corpus("stack_exchange", [str(dump)], tmp_path / "out", given={"site": "a.example"}, progress=False)
        assert expected in capsys.readouterr().err
    os.utime(dump, ns=(1, 1))
    build_corpus("stack_exchange", [str(dump)], tmp_path / "out", given={"site": "a.example"}, progress=False)
    assert "rebuilding" in capsys.readouterr().err


def test_the_samples_are_small():
    assert sum(file.stat().st_size for file in SAMPLES.rglob("*") if file.is_file()) < 1_000_000
