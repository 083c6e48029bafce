"""Small shards with known ids: document k of n text tokens is <bos> k k ... k <eos>."""

import numpy as np
import pytest

from llama_train.data.shards import Shards, ShardWriter

BOS, EOS, VOCAB = 100, 101, 102
TOKENIZER = {"sha256": "0" * 64, "bos_token_id": BOS, "eos_token_id": EOS}
TOKEN_BYTES = np.array([1] * 100 + [0, 0])


@pytest.fixture
def make_shards(tmp_path):
    def make(lengths, shard_tokens=50, name="shards"):
        with ShardWriter(tmp_path / name, VOCAB, TOKENIZER, TOKEN_BYTES, shard_tokens) as writer:
            for k, length in enumerate(lengths):
                writer.add([BOS, *[k % 100] * length, EOS], text_bytes=length)
        return Shards(tmp_path / name)

    return make


@pytest.fixture
def lengths():
    """Text tokens of 60 documents: empty ones, one longer than a shard of 50, the rest between."""
    return [0, 70, 1, *np.random.default_rng(0).integers(0, 30, 57).tolist()]
