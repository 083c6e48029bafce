"""Build: text to a whole corpus folder, the same bytes each time, reused when nothing changed, never half there."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from data_pipelines import build as module
from data_pipelines.build import build_corpus
from data_pipelines.documents import read_documents
from llama_train.data.packing import Rows
from llama_train.data.shards import Shards
from llama_train.tokenizers import llama3
from llama_train.tokenizers.folder import ENDS, fingerprint
from llama_train.tokenizers.llama2 import train_llama2


@pytest.fixture
def texts(tmp_path):
    """Sixty short files, two of them the same, and one that is no text."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(60):
        words = " ".join(f"word{(i * k) % 23} and {k}" for k in range(40))
        (folder / f"{i:02}.txt").write_text(f"File {min(i, 58)}.\n{words if i < 58 else 'twins'}\n")
    (folder / "photo.jpg").write_bytes(b"\xff\xd8")
    return folder


def build(texts, out, **settings):
    return build_corpus("files", [str(texts)], out, **{"vocab_size": 300, "progress": False} | settings)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_what_a_run_reads(texts, tmp_path):
    corpus = build(texts, tmp_path / "out")
    assert set(contents(tmp_path / "out")) == {
        "corpus.json",
        *(f"documents/{name}.parquet" for name in ("train", "eval")),
        *(f"tokenizer/tokenizer{name}" for name in (".json", "_config.json", ".tiktoken")),
        "tokenizer/chat_template.jinja",
        *(
            f"{name}/{file}"
            for name in ("train", "eval")
            for file in ("manifest.json", "tokens-00000.bin", "documents-00000.bin", "token_bytes.npy")
        ),
    }
    assert json.loads((tmp_path / "out" / "corpus.json").read_text()) == corpus
    assert corpus["account"]["dropped"] == {"another kind of file": 1, "duplicate": 1}
    assert corpus["documents"]["train"] + corpus["documents"]["eval"] == 59 and corpus["documents"]["eval"] >= 1
    assert corpus["tokenizer_sha256"] == fingerprint(tmp_path / "out" / "tokenizer")
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer" / "tokenizer.json"))
    for name in ("train", "eval"):
        shards = Shards(tmp_path / "out" / name)
        shards.verify()
        assert [shards.manifest[key] for key in ("documents", "bytes", "tokens")] == [
            corpus[key][name] for key in ("documents", "bytes", "tokens")
        ]
        assert shards.tokenizer["sha256"] == corpus["tokenizer_sha256"] and shards.vocab_size == 300
        text = "".join(d.text for d in read_documents(tmp_path / "out" / "documents" / f"{name}.parquet"))
        assert tokenizer.decode(shards.tokens(0, len(shards)).tolist(), skip_special_tokens=True) == text


@pytest.mark.parametrize("kind", ["llama2", "llama3"])
def test_a_tokenizer_that_is_there_is_used_as_it_is(kind, texts, tmp_path, capsys):
    if kind == "llama2":
        pytest.importorskip("sentencepiece")
        train_llama2(["one two three, four five six"] * 9, 290, tmp_path / "ready", progress=False)
    else:
        llama3.train_llama3(["one two three, four five six"] * 9, 290, tmp_path / "ready", progress=False)
    corpus = build(texts, tmp_path / "out", vocab_size=None, tokenizer=str(tmp_path / "ready"))
    assert contents(tmp_path / "out" / "tokenizer") == contents(tmp_path / "ready")
    tokenizer = Tokenizer.from_file(str(tmp_path / "ready" / "tokenizer.json"))
    shards = Shards(tmp_path / "out" / "train")
    ids = []
    for document in read_documents(tmp_path / "out" / "documents" / "train.parquet"):
        ids += [*tokenizer.encode(document.text).ids, tokenizer.token_to_id(ENDS[kind][1])]
    assert shards.tokens(0, len(shards)).tolist() == ids  # BOS is the tokenizer's own doing
    assert build(texts, tmp_path / "out", vocab_size=None, tokenizer=str(tmp_path / "ready")) == corpus
    (tmp_path / "ready" / "chat_template.jinja").write_text("another")
    build(texts, tmp_path / "out", vocab_size=None, tokenizer=str(tmp_path / "ready"))
    said = capsys.readouterr().err
    assert said.count("reusing") == 1 and said.count("the settings have changed") == 1
    with pytest.raises(ValueError, match="asks for a new tokenizer, and tokenizer .*ready is one: give either"):
        build(texts, tmp_path / "both", tokenizer=str(tmp_path / "ready"))


def test_held_out_text_is_not_in_training_and_not_in_the_tokenizers_diet(texts, tmp_path, monkeypatch):
    eaten = []
    train = llama3.train_llama3
    monkeypatch.setattr(module, "train_llama3", lambda texts, *rest: train(eaten.extend(texts) or eaten, *rest))
    build(texts, tmp_path / "out")
    sides = [{d.text for d in read_documents(tmp_path / f"out/documents/{name}.parquet")} for name in ("train", "eval")]
    assert set(eaten) == sides[0] and not sides[0] & sides[1]


def test_the_same_text_gives_the_same_bytes(texts, tmp_path):
    build(texts, tmp_path / "one")
    build(texts, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_second_call_reuses_the_folder_and_says_so(texts, tmp_path, capsys, monkeypatch):
    first = build(texts, tmp_path / "out")
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_build", None)
        assert build(texts, tmp_path / "out") == first
    assert f"reusing {tmp_path / 'out'}: same inputs, same settings" in capsys.readouterr().err
    assert build(texts, tmp_path / "out", vocab_size=301)["settings"]["vocab_size"] == 301
    assert "the inputs or the settings have changed" in capsys.readouterr().err
    (texts / "00.txt").write_text("changed\n")
    assert build(texts, tmp_path / "out", vocab_size=301)["inputs_sha256"] != first["inputs_sha256"]
    assert "the inputs or the settings have changed" in capsys.readouterr().err


@pytest.mark.parametrize("lost", ["train/tokens-00000.bin", "eval/manifest.json", "tokenizer/tokenizer.json"])
def test_a_folder_that_lost_a_file_is_built_again(texts, tmp_path, capsys, lost):
    build(texts, tmp_path / "out")
    expected = contents(tmp_path / "out")
    (tmp_path / "out" / lost).unlink()
    build(texts, tmp_path / "out")
    assert contents(tmp_path / "out") == expected and "it is not whole" in capsys.readouterr().err


def test_a_failed_build_leaves_the_old_corpus_and_nothing_else(texts, tmp_path):
    build(texts, tmp_path / "out")
    expected = contents(tmp_path / "out")
    with pytest.raises(ValueError, match="too small for vocab_size 60000"):
        build(texts, tmp_path / "out", vocab_size=60000)
    assert contents(tmp_path / "out") == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "texts"]


def test_what_a_killed_build_left_is_not_used(texts, tmp_path):
    build(texts, tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / ".two.building")
    (tmp_path / ".two.building" / "train" / "tokens-00000.bin").write_bytes(b"")
    build(texts, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two") and not (tmp_path / ".two.building").exists()


def test_a_folder_that_is_not_a_corpus_is_never_touched(texts, tmp_path):
    (tmp_path / "mine" / "train").mkdir(parents=True)
    (tmp_path / "mine" / "train" / "photo.jpg").write_bytes(b"dear")
    with pytest.raises(ValueError, match="mine holds something that is not a corpus"):
        build(texts, tmp_path / "mine")
    assert contents(tmp_path / "mine") == {"train/photo.jpg": b"dear"}


@pytest.mark.parametrize(
    "content",
    ["{}", "[]", '["format", "inputs_sha256"]', "null", "{", "[" * 200_000, '{"format": 1, "inputs_sha256": "0"}'],
)
def test_a_file_called_corpus_json_does_not_make_a_corpus(texts, tmp_path, content):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "corpus.json").write_text(content)
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(ValueError, match="mine holds something that is not a corpus"):
        build(texts, tmp_path / "mine")
    assert contents(tmp_path / "mine") == {"corpus.json": content.encode(), "thesis.txt": b"dear"}
    if 'inputs_sha256": ' not in content:  # alone it is no corpus either
        (tmp_path / "mine" / "thesis.txt").unlink()
        with pytest.raises(ValueError, match="mine holds something that is not a corpus"):
            build(texts, tmp_path / "mine")


def test_a_corpus_with_a_file_of_the_users_in_it_is_not_replaced(texts, tmp_path):
    build(texts, tmp_path / "out")
    (tmp_path / "out" / "thesis.txt").write_text("dear")
    expected = contents(tmp_path / "out")
    with pytest.raises(ValueError, match="out holds something that is not a corpus"):
        build(texts, tmp_path / "out", vocab_size=301)
    assert contents(tmp_path / "out") == expected


def test_out_among_the_texts_is_not_read(texts, tmp_path, capsys, monkeypatch):
    first = build(texts, texts / "mine")
    assert build(texts, tmp_path / "elsewhere") == first
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_build", None)
        assert build(texts, texts / "mine") == first
    assert f"reusing {texts / 'mine'}" in capsys.readouterr().err
    assert {key: build(texts, texts / "mine", vocab_size=301)[key] for key in ("account", "documents", "bytes")} == {
        key: first[key] for key in ("account", "documents", "bytes")
    }
    for path in (texts / "mine", texts / "mine" / "documents" / "train.parquet"):
        with pytest.raises(ValueError, match=f"{path} is inside {texts / 'mine'}, where the corpus goes"):
            build(path, texts / "mine")


def test_out_may_be_the_empty_folder_one_stands_in(texts, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    corpus = build(texts, Path("."))
    assert json.loads((tmp_path / "here" / "corpus.json").read_text()) == corpus


def test_max_bytes_stops_after_enough_text(texts, tmp_path):
    corpus = build(texts, tmp_path / "out", max_bytes=10_000)
    assert 10_000 <= sum(corpus["bytes"].values()) < 10_700


def test_real_books_become_a_corpus(books, tmp_path):
    chosen = sorted(str(path) for path in books.glob("*_en_*.txt"))[:3]
    corpus = build_corpus("files", chosen, tmp_path / "out", vocab_size=2048, max_bytes=2_000_000, progress=False)
    train, held_out = Shards(tmp_path / "out" / "train"), Shards(tmp_path / "out" / "eval")
    for shards in (train, held_out):
        text = sum(int(shards.token_bytes[ids].sum()) for ids, _ in Rows(shards, 512, partial=True))
        assert abs(text - shards.manifest["bytes"]) <= 20 * len(Rows(shards, 512, partial=True))  # rows share a token
    share = corpus["bytes"]["eval"] / sum(corpus["bytes"].values())
    assert 0.025 <= share < 0.06 and corpus["bytes"]["train"] / corpus["tokens"]["train"] > 2.5
