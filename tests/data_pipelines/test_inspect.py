"""What `inspect` says of a corpus: true counts, a fair sample, nothing a terminal obeys, broken files by name."""

import json
import struct
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from datatrove.data import Document
from pyarrow.parquet import write_table

from data_pipelines.documents import DocumentWriter
from data_pipelines.inspect import inspect


def write(path: Path, documents: list[tuple[str, str, str]]) -> None:
    """Documents of (text, language, source) as `llama-data build` writes them."""
    with DocumentWriter(path) as writer:
        for i, (text, language, source) in enumerate(documents):
            metadata = {"source": source, "language": language, "url": f"https://example.org/{i}", "bytes": len(text)}
            writer.add(Document(text=text, id=f"{source}/{i}", metadata=metadata))


@pytest.fixture
def corpus(tmp_path) -> Path:
    """200 English documents of 100 bytes and 50 German ones of 2,000, with what was dropped."""
    folder = tmp_path / "corpus"
    english = [("x" * 100, "en", "wikipedia")] * 200
    write(folder / "documents" / "train.parquet", english)
    write(folder / "documents" / "eval.parquet", [("ß" * 1000, "de", "gutenberg")] * 50)
    account = {
        "seen": 1000,
        "kept": 250,
        "dropped": {"redirect": 600, "exact duplicate": 100},
        "errors": {"no XML": 50},
    }
    corpus = {"format": 2, "inputs_sha256": "0", "account": account}
    (folder / "corpus.json").write_text(json.dumps(corpus))
    return folder


def rows(report: str, title: str) -> dict[str, tuple[str, ...]]:
    """The table under a title: name -> number, per cent."""
    lines = report.split(f"\n{title}\n")[1].split("\n\n")[0].splitlines()
    parted = [line.replace("%", " ").rstrip("# ").rsplit(None, 2) for line in lines]
    return {name.strip(): tuple(numbers) for name, *numbers in parted}


def test_the_counts_are_those_of_the_corpus(corpus):
    report = inspect(corpus)
    assert report.startswith(f"{corpus}: 250 documents, 120,000 bytes of text, Parquet files: 2\n")
    assert rows(report, "Records") == {
        "kept": ("250", "25.0"),
        "dropped: redirect": ("600", "60.0"),
        "dropped: exact duplicate": ("100", "10.0"),
        "error: no XML": ("50", "5.0"),
    }
    assert rows(report, "Length in bytes") == {
        "64 to 127": ("200", "80.0"),
        "128 to 255": ("0", "0.0"),
        "256 to 511": ("0", "0.0"),
        "512 to 1,023": ("0", "0.0"),
        "1,024 to 2,047": ("50", "20.0"),
    }
    assert rows(report, "Language") == {"en": ("200", "80.0"), "de": ("50", "20.0")}
    assert rows(report, "Bytes by source") == {"gutenberg": ("100,000", "83.3"), "wikipedia": ("20,000", "16.7")}


def test_documents_are_shown_with_what_is_known_of_them(tmp_path):
    write(tmp_path / "a.parquet", [("First line\nsecond line " + "x" * 500, "fr", "c4")])
    report = inspect(tmp_path, count=1)
    assert "\n  c4/0  fr  523 bytes  https://example.org/0\n    | First line\n    | second line xxx" in report
    assert "x" * 377 + "..." in report and "x" * 378 not in report  # 400 characters
    assert "there is no corpus.json" in report


def test_the_sample_is_uniform_and_the_same_for_the_same_seed(tmp_path):
    write(tmp_path / "a.parquet", [(str(i), "en", "s") for i in range(10)])
    write(tmp_path / "b.parquet", [(str(i), "en", "s") for i in range(10, 20)])
    assert inspect(tmp_path, seed=3) == inspect(tmp_path, seed=3) != inspect(tmp_path, seed=4)
    shown: Counter[str] = Counter()
    for seed in range(400):
        report = inspect(tmp_path, count=5, seed=seed)
        found = [line[6:] for line in report.splitlines() if line.startswith("    | ")]
        assert len(found) == len(set(found)) == 5
        shown.update(found)
    # each is shown 100 times in 400: 5 of 20; standard deviation 8.7, so that 5 of them cover all twenty
    assert len(shown) == 20 and all(56 < number < 144 for number in shown.values())


def test_fewer_documents_than_asked_for_are_all_shown(tmp_path):
    write(tmp_path / "a.parquet", [("one", "en", "s"), ("two", "en", "s")])
    assert inspect(tmp_path, count=9).count("    | ") == 2
    assert inspect(tmp_path, count=0).count("    | ") == 0


def test_nothing_reaches_the_terminal_that_it_would_obey(tmp_path):
    evil = "\x1b[2J\x07\r\x9b31m\u202egnp.exe\u2028\x7f"
    table = pa.table(
        {
            "text": [evil],
            "id": [evil],
            "source": [evil],
            "metadata": [json.dumps({"language": evil, "url": evil})],
        }
    )
    write_table(table, tmp_path / "a.parquet")
    (tmp_path / "corpus.json").write_text(json.dumps({"account": {"kept": 1, "dropped": {evil: 2}, "errors": {}}}))
    report = inspect(tmp_path)
    assert r"    | \x1b[2J\x07\r\x9b31m\u202egnp.exe\u2028\x7f" in report
    assert set(report) & set(evil) <= set("[2J31mgnp.exe")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"account": 1}', '{"account": {"kept": "x"}}', '{"account": {"kept": 1}}', "[" * 9999]
)
def test_a_spoilt_corpus_json_is_none(tmp_path, text):
    write(tmp_path / "a.parquet", [("one", "en", "s")])
    (tmp_path / "corpus.json").write_text(text)
    assert "there is no corpus.json" in inspect(tmp_path)


def test_any_parquet_file_with_text_will_do(tmp_path):
    write_table(pa.table({"text": ["ab", None, "ä"], "metadata": ["no JSON", "[]", None]}), tmp_path / "a.parquet")
    write_table(pa.table({"text": pa.array(["abc"], pa.large_string())}), tmp_path / "b.parquet")
    assert ": 4 documents, 7 bytes of text" in inspect(tmp_path)
    assert ": 1 documents, 3 bytes of text" in inspect(tmp_path / "b.parquet")
    write_table(pa.table({"text": ["x"], "metadata": [{"language": "nl"}]}), tmp_path / "c.parquet")
    assert rows(inspect(tmp_path / "c.parquet"), "Language") == {"nl": ("1", "100.0")}


def test_broken_files_are_named_and_the_others_shown(corpus):
    whole = (corpus / "documents" / "train.parquet").read_bytes()
    (corpus / "documents" / "clipped.parquet").write_bytes(whole[: len(whole) // 2])
    (corpus / "documents" / "empty.parquet").write_bytes(b"")
    write_table(pa.table({"text": [1, 2]}), corpus / "documents" / "numbers.parquet")
    report = inspect(corpus)
    assert "250 documents, 120,000 bytes of text, Parquet files: 2 (and 3 unreadable)" in report
    for name in ("clipped", "empty", "numbers"):
        assert f"\n  not read: {corpus}/documents/{name}.parquet: " in report
    assert "numbers.parquet: it has no column text of strings" in report


def test_where_there_is_nothing_to_show(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        inspect(tmp_path / "nothing")
    with pytest.raises(ValueError, match="no Parquet files in"):
        inspect(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="no documents in .*a.parquet") as refused:
        inspect(tmp_path)
    assert "\n" not in str(refused.value)
    write(tmp_path / "a.parquet", [])
    with pytest.raises(ValueError, match="they are empty"):
        inspect(tmp_path)


def test_rare_languages_are_summed_up(tmp_path):
    languages = [chr(97 + i) + chr(97 + j) for i in range(5) for j in range(5)]
    write(tmp_path / "a.parquet", [("x", language, "s") for language in [*languages, *languages[:20]]])
    table = rows(inspect(tmp_path), "Language")
    assert len(table) == 21 and table["5 others"] == ("5", "11.1")


def test_the_picture_is_a_png(corpus, tmp_path):
    picture = tmp_path / "picture.png"
    write(corpus / "documents" / "odd.parquet", [("x", "$\\frac", "s"), ("", "zh", "s")])
    assert inspect(corpus, picture=picture).endswith(f"\n\npicture: {picture}")
    content = picture.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", content[16:24]) == (2100, 750)
