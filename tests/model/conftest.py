"""Tiny Llamas for the model tests, and their transformers twins with the same weights."""

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama import modeling_llama

from llama_train.model.llama import LlamaForCausalLM

TRAINED_CONTEXT = 64
ROPE = {
    "default": {"rope_type": "default", "rope_theta": 10000.0},
    "linear": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
    "yarn": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32},
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
}


@pytest.fixture
def tiny():
    """tiny(rope="llama3", num_key_value_heads=1, ...) -> a config of 2 layers; std 0.2 so that no mistake is too small
    to see."""

    def make(rope: str = "default", **changes) -> LlamaConfig:
        numbers = {
            "vocab_size": 128,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": TRAINED_CONTEXT,
            "initializer_range": 0.2,
            "rope_parameters": dict(ROPE[rope]),
        }
        return LlamaConfig(**(numbers | changes))

    return make


@pytest.fixture
def pair():
    """pair(config) -> our model and transformers', equal weights, in evaluation mode."""

    def make(config: LlamaConfig) -> tuple[LlamaForCausalLM, modeling_llama.LlamaForCausalLM]:
        torch.manual_seed(0)
        ours, theirs = LlamaForCausalLM(config).eval(), modeling_llama.LlamaForCausalLM(config).eval()
        theirs.load_state_dict(ours.state_dict(), strict=True)
        ours.load_state_dict(theirs.state_dict(), strict=True)
        return ours, theirs

    return make


@pytest.fixture
def tokens():
    """tokens(rows, time) -> the same random ids every time."""

    def make(rows: int, time: int, vocab_size: int = 128) -> torch.Tensor:
        return torch.randint(0, vocab_size, (rows, time), generator=torch.Generator().manual_seed(1))

    return make
