"""The estimate of a process' memory, against torch's own count and the published figures for ZeRO."""

import itertools

import pytest
import torch

from llama_train.model.llama import LlamaForCausalLM
from llama_train.planner_memory import activation_bytes, state_bytes
from llama_train.settings import PretrainSettings, load_settings

SIZES = "--hidden_size 256 --intermediate_size 768 --num_attention_heads 4 --num_key_value_heads 2 --vocab_size 512"


def peak(settings: PretrainSettings, tokens: int) -> int:
    """The most bytes that torch has allocated at once in a forward and backward pass over one row."""
    model = LlamaForCausalLM(settings.config()).train()
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)  # part of the state
    if settings.activation_checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    ids, positions = torch.randint(512, (1, tokens)), (torch.arange(tokens) % 700)[None]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            loss = model(input_ids=ids, labels=ids, position_ids=positions).loss
        loss.backward()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(sizes))


@pytest.mark.parametrize(
    "words", ["", "--bf16 false", "--activation_checkpointing", "--bf16 false --activation_checkpointing"]
)
@pytest.mark.parametrize("layers", [2, 6])
def test_a_step_takes_what_the_estimate_says(layers, words):
    settings = load_settings(f"{SIZES} --num_hidden_layers {layers} {words}".split())
    said = activation_bytes(settings, 2048, settings.activation_checkpointing)
    assert said == pytest.approx(peak(settings, 2048), rel=0.05)
    other = activation_bytes(settings, 2048, not settings.activation_checkpointing)
    assert layers == 2 or other != pytest.approx(said, rel=0.5), "the other formula would be noticed"


def test_state_is_the_sixteen_bytes_of_adam_in_fp32_and_zero_s_table():
    """Rajbhandari et al. 2020 (arXiv:1910.02054), figure 1, in fp32: 4 weights, 4 gradients, 8 moments."""
    assert state_bytes(10**9) == state_bytes(10**9, "ddp", 64) == 16 * 10**9
    assert state_bytes(10**9, "zero3", 64) == state_bytes(10**9, "fsdp2", 64) == 16 * 10**9 // 64
    sizes = [state_bytes(10**9, engine, 64) for engine in ("ddp", "zero1", "zero2", "zero3")]
    assert sizes == sorted(sizes, reverse=True)
