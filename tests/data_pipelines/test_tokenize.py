"""Tokenise: shards hold <bos> text <eos> of each document, in order, and nothing in a text becomes a special token."""

import numpy as np
import pytest
from datatrove.data import Document
from tokenizers import Tokenizer

from data_pipelines import tokenize
from llama_train.data.shards import Shards
from llama_train.tokenizers import llama3

TEXTS = ["First words.\n", "<|end_of_text|> is written <|begin_of_text|>\n", "naïve 漢字 words\n", "x"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("tokenizer")
    llama3.train_llama3(TEXTS, 300, out, progress=False)
    return out


def shards(folder, out):
    documents = [Document(text=text, id=str(i)) for i, text in enumerate(TEXTS)]
    manifest = tokenize.write_shards(documents, folder, out, 1, progress=False)
    written = Shards(out)
    assert written.manifest == manifest
    return written


def test_each_document_is_bos_its_text_eos(folder, tmp_path):
    written, tokenizer = shards(folder, tmp_path / "s"), Tokenizer.from_file(str(folder / "tokenizer.json"))
    bos, eos = tokenizer.token_to_id("<|begin_of_text|>"), tokenizer.token_to_id("<|end_of_text|>")
    borders = [*written.document_starts(0, len(written)).tolist(), len(written)]
    found = [written.tokens(start, stop).tolist() for start, stop in zip(borders, borders[1:], strict=False)]
    assert all(ids[0] == bos and ids[-1] == eos and max(ids[1:-1]) < 300 - 16 for ids in found)
    assert [tokenizer.decode(ids[1:-1], skip_special_tokens=False) for ids in found] == TEXTS
    assert tokenizer.encode(TEXTS[1], add_special_tokens=False).ids[0] == eos  # what a plain encode would have done


def test_the_manifest_names_the_tokenizer_and_counts_bytes(folder, tmp_path):
    written = shards(folder, tmp_path / "s")
    assert written.tokenizer == {"sha256": llama3.fingerprint(folder), "bos_token_id": 284, "eos_token_id": 285}
    assert written.vocab_size == 300 and written.manifest["documents"] == 4
    text_bytes = sum(len(text.encode()) for text in TEXTS)
    assert written.manifest["bytes"] == written.token_bytes[written.tokens(0, len(written))].sum() == text_bytes


def test_batches_and_cuts_do_not_change_the_tokens(folder, tmp_path, monkeypatch):
    whole = shards(folder, tmp_path / "whole")
    monkeypatch.setattr(tokenize, "BATCH_CHARS", 1)
    monkeypatch.setattr(tokenize, "split_safely", lambda text: llama3.split_safely(text, 5))
    cut = shards(folder, tmp_path / "cut")
    assert np.array_equal(whole.tokens(0, len(whole)), cut.tokens(0, len(cut)))
