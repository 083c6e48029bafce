"""The user's own files: each kind is read, the order is the names', and what is no text is counted."""

import gzip
import json

import pytest

from data_pipelines.account import Account
from data_pipelines.sources import files


def read(*paths, column="text"):
    account = Account()
    documents = list(files.read([str(path) for path in paths], {"text_column": column}, account))
    account.check()
    return {document.id: document.text for document in documents}, dict(account.dropped + account.errors)


def test_every_kind_of_file_is_read_in_the_order_of_its_name(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "b.txt").write_bytes("\ufeffnaïve\r\ntext".encode())
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.md").write_text("# title")
    (tmp_path / "c.jsonl").write_text('{"text": "one"}\n{"text": "two", "id": 3}\n')
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b'{"text": "zipped"}\n'))
    pq.write_table(pa.table({"text": ["row", None, "last"], "n": [1, 2, 3]}), tmp_path / "e.parquet")
    found, dropped = read(tmp_path)
    assert list(found.items()) == [
        ("b.txt", "naïve\ntext"),
        ("c.jsonl#0", "one"),
        ("c.jsonl#1", "two"),
        ("d.jsonl.gz#0", "zipped"),
        ("e.parquet#0", "row"),
        ("e.parquet#2", "last"),
        ("sub/a.md", "# title"),
    ]
    assert dropped == {"Parquet row without text in 'text'": 1}
    assert [entry[0] for entry in files.inputs([str(tmp_path)], {})] == [
        "b.txt", "c.jsonl", "d.jsonl.gz", "e.parquet", "sub/a.md",
    ]  # fmt: skip


def test_another_text_column_can_be_named(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "no", "content": "yes"}))
    assert read(tmp_path / "a.jsonl", column="content")[0] == {"a.jsonl#0": "yes"}


def test_what_is_no_text_is_counted_by_its_reason(tmp_path):
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "binary.txt").write_bytes(b"\x7fELF\x00\x01")
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "bad.jsonl").write_bytes(b'{"text": "ok"}\n{"text": \n[1]\n{"text": 5}\n{"text": "\\ud800"}\n\xff\n')
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "whole line"}\n' * 1000)[:-20])
    (tmp_path / "no.jsonl.gz").write_bytes(b"no gzip at all")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "link.txt").symlink_to(tmp_path / "good.txt")
    found, dropped = read(tmp_path)
    assert {name: text for name, text in found.items() if "gz" not in name} == {"bad.jsonl#0": "ok", "good.txt": "good"}
    assert dropped == {
        "binary": 1,
        "not UTF-8": 1,
        "empty": 1,
        "another kind of file": 1,
        "not a JSON line": 2,
        "JSON line without text in 'text'": 3,
        "broken gzip file": 2,
        "broken Parquet file": 1,
        "symbolic link": 1,
    }


def test_links_never_lead_out_of_the_folder(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("secret")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.txt").write_text("own")
    (tmp_path / "mine" / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "mine" / "file.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    assert read(tmp_path / "mine")[0] == {"own.txt": "own"}


def test_hidden_folders_caches_and_corpora_are_not_entered(tmp_path):
    for folder in (".git", ".venv/lib", "__pycache__", "corpus/documents", "runs", "almost"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.txt").write_text(folder)
    for folder in ("corpus", "almost"):  # the second holds a.txt as well, so it is the user's
        (tmp_path / folder / "corpus.json").write_text('{"format": 1, "inputs_sha256": "0"}')
    assert read(tmp_path)[0] == {"almost/a.txt": "almost", "runs/a.txt": "runs"}
    assert [entry[0] for entry in files.inputs([str(tmp_path)], {})] == ["almost/a.txt", "runs/a.txt"]
    assert read(tmp_path / ".git")[0] == {"a.txt": ".git"}  # asked for by name


def test_brackets_without_end_are_a_broken_line(tmp_path):
    (tmp_path / "deep.jsonl").write_text("[" * 200_000 + '\n{"text": "next"}\n')
    assert read(tmp_path) == ({"deep.jsonl#1": "next"}, {"not a JSON line": 1})


def test_a_long_text_file_is_cut_at_line_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SEGMENT_BYTES", 10)
    text = "".join(f"línea {i}\n" for i in range(7))
    (tmp_path / "long.txt").write_text(text)
    found, _ = read(tmp_path)
    assert list(found)[:2] == ["long.txt", "long.txt#1"] and "".join(found.values()) == text
    assert all(part.endswith("\n") for part in found.values())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "found no files"),
        ({"a.txt": b"", "b.txt": b"\0"}, "found 1 binary, 1 empty"),
        ({"a.csv": b"1,2"}, "looked for .txt .md .jsonl .jsonl.gz .parquet, found 1 another kind of file"),
        ({"a.jsonl": b'{"body": "x"}'}, "found 1 JSON line without text in 'text'"),
    ],
)
def test_a_folder_without_text_is_one_clear_error(tmp_path, content, reason):
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"no text in {tmp_path}: .*{reason}"):
        read(tmp_path)


def test_paths_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read(tmp_path / "nowhere")
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    with pytest.raises(ValueError, match="a.pdf is none of the kinds read here: .txt"):
        read(tmp_path / "a.pdf")
