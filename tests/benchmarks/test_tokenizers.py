"""The benchmark of bulk encoding: nothing is timed before every side has given the same ids."""

import argparse
import json
import sys
from pathlib import Path

import pytest

from benchmarks import tokenizers
from llama_train.tokenizers.llama3 import train_llama3

TEXTS = ["Some words, and more words.\n" * 20, "naïve 漢字 1234\n" * 10]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("tokenizer")
    train_llama3(TEXTS, 300, out, progress=False)
    return out


def test_documents_are_short_and_not_too_many(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("0123456789" * 3, encoding="utf-8")
    monkeypatch.setattr(tokenizers, "DOCUMENT_CHARS", 8)
    assert list(tokenizers.read(f"files={tmp_path}")) == ["01234567", "89012345", "67890123", "456789"]
    monkeypatch.setattr(tokenizers, "MOST", 9)
    assert list(tokenizers.read(f"files={tmp_path}")) == ["01234567", "89012345"]


def test_every_side_is_compared_and_then_timed(folder, monkeypatch):
    pytest.importorskip("tiktoken")
    timed = []
    monkeypatch.setattr(
        tokenizers,
        "alternate",
        lambda name, ours, peer, **told: (
            timed.append((name, ours[-1], peer[-1], told["amount"]))
            or {"name": name} | {side: {"median_seconds": 2.0, "command": "x"} for side in ("ours", "peer")}
        ),
    )
    options = argparse.Namespace(rounds=1)
    results = list(tokenizers.compare(str(folder), TEXTS * 1000, Path("texts.json"), options))
    size = round(1000 * sum(len(text.encode()) for text in TEXTS) / 1e6, 3)
    assert [one[1:] for one in timed] == [
        ("ours", "tiktoken", size),
        ("ours", "tokenizers", size),
        ("write_shards", "tiktoken", size),
    ]
    assert all(
        one["tokens"] / 2e6 == pytest.approx(one["ours"]["million_tokens_per_second"], abs=0.01) for one in results
    )
    monkeypatch.setitem(tokenizers.SIDES, "tokenizers", lambda path: lambda texts: [[1] for _ in texts])
    with pytest.raises(ValueError, match="tokenizers has other ids than ours for 2 of 2 documents"):
        list(tokenizers.compare(str(folder), TEXTS, Path("texts.json"), options))


@pytest.mark.parametrize("side", ["ours", "write_shards"])
def test_a_side_says_how_long_it_took(folder, side, tmp_path, monkeypatch, capsys):
    kept = tmp_path / "texts.json"
    kept.write_text(json.dumps(TEXTS * 2000), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["x", str(kept), "--tokenizers", str(folder), "--side", side])
    tokenizers.main()
    assert 0 < json.loads(capsys.readouterr().out)["seconds"] < 60
