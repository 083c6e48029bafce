"""Text for tokenizers: every kind of file, languages and sources wherever they stand, and clear words for what is broken."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document

from data_pipelines import tokenizer_text
from data_pipelines.account import Account
from data_pipelines.documents import DocumentWriter
from data_pipelines.tokenizer_text import Text, file_bytes, printable, read_texts


def write_lines(path, rows):
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def test_every_kind_of_file_gives_its_text_language_and_source(tmp_path):
    (tmp_path / "a.txt").write_text("plain")
    (tmp_path / "b.md").write_text("# marked")
    rows = [
        {"text": "own columns", "language": "en", "source": "web"},
        {"text": "an object", "metadata": {"language": "de", "source": "books"}},
        {"text": "JSON text", "metadata": '{"language": "fr"}'},
        {"text": "no more", "language": None, "source": 7, "metadata": "no JSON"},
    ]
    write_lines(tmp_path / "c.jsonl", rows[:2])
    write_lines(tmp_path / "d.jsonl.gz", rows[2:])
    pq.write_table(pa.table({"text": ["row"], "language": ["nl"], "other": [1]}), tmp_path / "e.parquet")
    with DocumentWriter(tmp_path / "f.parquet") as writer:
        writer.add(Document(text="ours", id="1", metadata={"source": "wikipedia", "language": "sv"}))
    assert list(read_texts([str(tmp_path)])) == [
        Text("plain", "", "a"),
        Text("# marked", "", "b"),
        Text("own columns", "en", "web"),
        Text("an object", "de", "books"),
        Text("JSON text", "fr", "d"),
        Text("no more", "", "d"),
        Text("row", "nl", "e"),
        Text("ours", "sv", "wikipedia"),
    ]


def test_progress_adds_up_to_the_bytes_of_the_files(tmp_path):
    (tmp_path / "a.txt").write_text("plain " * 1000)
    write_lines(tmp_path / "b.jsonl", [{"text": "line " * i} for i in range(100)])
    write_lines(tmp_path / "c.jsonl.gz", [{"text": f"line {i * i}"} for i in range(1000)])
    pq.write_table(pa.table({"text": ["row"] * 3000}), tmp_path / "d.parquet")
    steps = []
    assert len(list(read_texts([str(tmp_path)], progress=steps.append))) == 1 + 99 + 1000 + 3000
    assert sum(steps) == file_bytes([str(tmp_path)]) == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert min(steps) >= 0 and max(steps) < sum(steps) / 2


def test_rows_without_text_are_counted(tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"text": "kept"}, {"text": 3}, {"body": "x"}, ["text"], {"text": " \n"}])
    pq.write_table(pa.table({"text": ["kept", None]}), tmp_path / "b.parquet")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe no UTF-8")
    account = Account()
    assert [text.text for text in read_texts([str(tmp_path)], account=account)] == ["kept", "kept"]
    assert account.dropped == {
        "JSON lines without text in 'text' (--text_column)": 3,
        "Parquet rows without text in 'text' (--text_column)": 1,
        "empty": 1,
        "not UTF-8": 1,
    }
    account.check()


def test_what_is_broken_is_named(tmp_path):
    whole = write_lines(tmp_path / "whole.jsonl.gz", [{"text": f"line {i * i}"} for i in range(1000)]).read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "other.jsonl.gz").write_bytes(b"no gzip at all")
    (tmp_path / "line.jsonl").write_text('{"text": "good"}\n\n{"text": "cut')
    (tmp_path / "deep.jsonl").write_text("[" * 100_000)
    (tmp_path / "digits.jsonl").write_text('{"text": "a", "n": ' + "1" * 5000 + "}\n")
    (tmp_path / "page.parquet").write_text("<html>not found</html>")
    pq.write_table(pa.table({"body": ["x"], "n": [1]}), tmp_path / "column.parquet")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "table.csv").write_text("a,b")
    for name, message in [
        ("cut.jsonl.gz", r"cut.jsonl.gz is a broken gzip file after line \d+"),
        ("other.jsonl.gz", "other.jsonl.gz is a broken gzip file after line 0"),
        ("line.jsonl", "line.jsonl, line 3 is not JSON"),
        ("deep.jsonl", "deep.jsonl, line 1 is not JSON"),
        ("digits.jsonl", "digits.jsonl, line 1 is not JSON"),
        ("page.parquet", "page.parquet is a broken Parquet file"),
        ("column.parquet", "column.parquet has no column 'text' but body, n: name one with --text_column"),
        ("empty.txt", "no text in .*empty.txt: looked for .txt .* found 1 empty"),
        ("table.csv", "table.csv is none of the kinds read here"),
    ]:
        with pytest.raises(ValueError, match=message):
            list(read_texts([str(tmp_path / name)]))
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        list(read_texts([str(tmp_path / "nowhere")]))
    assert [text.text for text in read_texts([str(tmp_path / "column.parquet")], "body")] == ["x"]


def test_labels_are_printable_and_short():
    assert printable(" en\n") == "en" and printable("a\x1b[31m\nb") == "a�[31m�b" and printable("日本") == "日本"
    assert printable("x" * 61) == "x" * 59 + "…"


def test_fasttext_tells_a_language_only_where_asked_sure_and_installed(tmp_path, monkeypatch):
    rows = [{"text": "said", "language": "xx"}, {"text": "sure"}, {"text": "unsure"}]
    path = str(write_lines(tmp_path / "a.jsonl", rows))

    def languages(**asked):
        return [text.language for text in read_texts([path], **asked)]

    monkeypatch.setattr("data_pipelines.text.language.identify", lambda text: ("en", 0.4 if text == "unsure" else 0.5))
    assert languages() == ["xx", "", ""] and languages(tell_language=True) == ["xx", "en", ""]

    def missing(text):
        raise ModuleNotFoundError("No module named 'fasttext'")

    monkeypatch.setattr("data_pipelines.text.language.identify", missing)
    assert languages(tell_language=True) == ["xx", "", ""]
    assert tokenizer_text.SURE == 0.5
