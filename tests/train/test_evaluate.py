"""Held-out loss and bits per byte against their formulas."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datatrove.data import Document
from transformers import AutoTokenizer

from data_pipelines.tokenize import write_shards
from llama_train.data.batches import eval_batches
from llama_train.data.packing import Rows
from llama_train.data.shards import Shards
from llama_train.tokenizers.llama2 import train_llama2
from llama_train.tokenizers.llama3 import train_llama3
from llama_train.train.evaluate import evaluate, evaluate_text, unigram_entropy

from .gradients import tiny_model

TEXT = "The quick brown fox, ünïcode and all, jumps over 1234 lazy dogs.\n" * 30


def test_loss_and_bits_per_byte_are_those_of_the_formula(tiny_shards: Path):
    shards = Shards(tiny_shards)
    rows = Rows(shards, 32, partial=True)
    model = tiny_model()
    found = evaluate(model, eval_batches(rows, batch_size=3), shards.token_bytes, Accelerator(cpu=True))
    nats, tokens = 0.0, 0
    for ids, positions in (rows[i] for i in range(len(rows))):
        starts = [*np.flatnonzero(positions == 0), len(ids)]
        for start, stop in zip(starts[:-1], starts[1:], strict=True):  # each piece of a document alone
            piece = torch.from_numpy(ids[start:stop])[None]
            with torch.no_grad():
                logits = model(piece).logits[0, :-1].double().log_softmax(-1)
            nats -= float(logits[torch.arange(stop - start - 1), piece[0, 1:]].sum())
            tokens += int(stop - start - 1)
    assert found["eval_tokens"] == tokens
    assert found["eval_loss"] == pytest.approx(nats / tokens, rel=1e-6)
    predicted = sum(int(b) for ids, p in (rows[i] for i in range(len(rows))) for b in shards.token_bytes[ids[p > 0]])
    assert found["eval_bits_per_byte"] == pytest.approx(nats / math.log(2) / predicted, rel=1e-6)
    assert model.training, "the model goes back to the mode it was in"


def test_a_space_that_is_the_tokenizer_s_is_no_byte_of_the_text(tmp_path):
    """As in Llama 2's kind: after <s> the first token begins with one."""
    pytest.importorskip("sentencepiece")
    texts = ["eins zwei drei", "  vier", "fünf"] * 20
    train_llama2(texts, 290, tmp_path / "tokenizer", progress=False)
    documents = [Document(text=text, id="") for text in texts]
    write_shards(documents, tmp_path / "tokenizer", tmp_path / "shards", 1, progress=False)
    shards = Shards(tmp_path / "shards")
    batches = [*eval_batches(Rows(shards, 32, partial=True), batch_size=3)]
    found = [
        evaluate(tiny_model(290), batches, shards.token_bytes, Accelerator(cpu=True), prefix_after)
        for prefix_after in (shards.tokenizer["bos_token_id"], None)
    ]
    size = sum(len(text.encode()) for text in texts)
    nats = [one["eval_loss"] * one["eval_tokens"] / math.log(2) for one in found]
    assert nats[0] / found[0]["eval_bits_per_byte"] == pytest.approx(size)
    assert nats[1] / found[1]["eval_bits_per_byte"] == pytest.approx(size + len(texts)), "what it would be otherwise"
    assert shards.tokenizer["dummy_prefix"] is True


def test_unigram_entropy_is_that_of_the_frequencies(tiny_shards: Path):
    shards = Shards(tiny_shards)
    counts = np.unique(shards.tokens(0, len(shards)), return_counts=True)[1]
    assert unigram_entropy(shards) == pytest.approx(
        math.log(counts.sum()) - (counts * np.log(counts)).sum() / counts.sum()
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    train_llama3([TEXT], 310, folder, progress=False)
    tiny_model(310).save_pretrained(folder)
    return folder


def test_text_files_are_measured_in_their_own_bytes(checkpoint, tmp_path):
    file = tmp_path / "a.txt"
    file.write_text(TEXT, encoding="utf-8")
    found = evaluate_text(str(checkpoint), [str(file)])
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert found["bytes"] == len(TEXT.encode())
    assert found["tokens"] == len(tokenizer(TEXT, add_special_tokens=False)["input_ids"])
    assert found["bits_per_byte"] == pytest.approx(found["loss"] * found["tokens"] / math.log(2) / found["bytes"])
    assert found["loss"] == pytest.approx(math.log(310), rel=0.05), "random weights know nothing"


@pytest.mark.parametrize(("content", "kind"), [(b"", "empty"), (b" \n", "empty"), (b"a\0b", "binary")])
def test_empty_and_binary_files_are_refused(checkpoint, tmp_path, content, kind):
    file = tmp_path / "bad.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"bad.txt is {kind}"):
        evaluate_text(str(checkpoint), [str(file)])
