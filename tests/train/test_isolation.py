"""Documents of a packed batch do not see each other, and each way to let them is noticed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from transformers import LlamaConfig
from transformers import LlamaForCausalLM as TheirLlama

from llama_train.data.batches import collate_packed
from llama_train.data.packing import Rows
from llama_train.data.shards import Shards
from llama_train.model.llama import LlamaForCausalLM
from llama_train.train.isolation import LOOKED_AT, check_isolation, largest_leak

from .gradients import tiny_model


@pytest.fixture
def accelerator() -> Accelerator:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    return Accelerator(cpu=True)


@pytest.fixture(scope="module")
def batch(tiny_shards: Path) -> dict:
    rows = Rows(Shards(tiny_shards), 256)
    return collate_packed([rows[0], rows[1]])


def without(*keys: str):
    """The tiny model, called without some of its inputs: the ways in which isolation is lost."""

    class Leaky(LlamaForCausalLM):
        def forward(self, **inputs):
            return super().forward(**{key: value for key, value in inputs.items() if key not in keys})

    return Leaky(tiny_model().config)


BORDERS = ("cu_seq_lens_q", "cu_seq_lens_k")


def test_our_model_keeps_documents_apart_to_the_last_bit(batch, accelerator):
    check_isolation(accelerator.prepare(tiny_model()), batch, accelerator)
    assert largest_leak(without("position_ids"), batch) is None, "borders alone are enough"
    assert largest_leak(without(*BORDERS), batch) is None, "and so are restarting positions"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bf16_is_as_isolated(batch, dtype):
    assert largest_leak(tiny_model().to(dtype), batch) is None


@pytest.mark.gpu
def test_a_gpu_s_kernel_is_as_isolated_and_as_well_watched(batch):
    on_gpu = {key: value.cuda() if torch.is_tensor(value) else value for key, value in batch.items()}
    assert largest_leak(tiny_model().to("cuda", torch.bfloat16), on_gpu) is None
    leaky = without("position_ids", *BORDERS).to("cuda", torch.bfloat16)
    assert largest_leak(leaky, on_gpu) is not None


def test_a_model_that_is_told_no_borders_is_caught(batch, accelerator):
    with pytest.raises(ValueError, match=r"see each other: the document at tokens \d+ to \d+ .* set packing: false"):
        check_isolation(without("position_ids", *BORDERS), batch, accelerator)


def test_a_border_one_token_late_is_caught(batch):
    shifted = batch["cu_seq_lens_q"].clone()
    shifted[1] += 1  # the second document's first token goes to the first
    leak = largest_leak(tiny_model(), batch | {"cu_seq_lens_q": shifted, "cu_seq_lens_k": shifted})
    assert leak is not None
    assert (leak.start, leak.stop) == tuple(batch["cu_seq_lens_q"][1:3].tolist())
    assert 0 < leak.difference < 10


def test_transformers_mask_of_ones_is_caught(batch):
    """transformers#46634: the mask silently switches off what the positions say."""
    theirs = TheirLlama(LlamaConfig(**tiny_model().config.to_dict() | {"attn_implementation": "sdpa"}))
    packed = {key: batch[key] for key in ("input_ids", "position_ids")} | {"use_cache": False}
    assert largest_leak(theirs, packed) is None
    assert largest_leak(theirs, packed | {"attention_mask": torch.ones_like(batch["input_ids"])}) is not None


def test_a_single_document_has_nobody_to_leak_to_and_takes_two_forwards_too(batch, monkeypatch):
    stop = int(batch["cu_seq_lens_q"][1])
    one = {"input_ids": batch["input_ids"][:, :stop], "position_ids": batch["position_ids"][:, :stop]}
    calls = []
    forward = LlamaForCausalLM.forward
    monkeypatch.setattr(LlamaForCausalLM, "forward", lambda *args, **kw: calls.append(1) or forward(*args, **kw))
    assert largest_leak(tiny_model(), one) is None
    assert len(calls) == 2


def test_of_many_documents_only_some_logits_are_kept(batch):
    seen = []

    class Watched(LlamaForCausalLM):
        def forward(self, **inputs):
            outputs = super().forward(**inputs)
            seen.append(outputs.logits.shape)
            return outputs

    ids = batch["input_ids"].repeat(1, 2)[:, :600]
    positions = torch.arange(600)[None] % 5  # 120 documents
    assert largest_leak(Watched(tiny_model().config), {"input_ids": ids, "position_ids": positions}) is None
    assert seen == [(1, 2 * LOOKED_AT, 96)] * 2


def test_not_a_number_is_no_leak(batch):
    model = tiny_model()
    torch.nn.init.constant_(model.lm_head.weight, torch.nan)
    assert largest_leak(model, batch) is None


@pytest.mark.parametrize("training", [True, False])
def test_nothing_of_the_run_is_changed(batch, training):
    model = tiny_model().train(training)
    state, inputs = torch.get_rng_state(), dict(batch)
    ids = batch["input_ids"].clone()
    largest_leak(model, batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training == training and all(p.grad is None for p in model.parameters())
    assert batch == inputs and torch.equal(batch["input_ids"], ids)


TWO = """
import sys, torch
from pathlib import Path
from accelerate import Accelerator, PartialState
from llama_train.train.isolation import check_isolation
from tests.train.gradients import tiny_model

accelerator = Accelerator(cpu=True)
assert accelerator.num_processes == 2
model = accelerator.prepare(tiny_model())
# the first process has one document, the other three; told no borders, only the other can see the leak
lengths = [60] if accelerator.is_main_process else [20, 20, 20]
positions = torch.cat([torch.arange(length) for length in lengths])[None]
batch = {"input_ids": torch.arange(60)[None], "position_ids": positions}
check_isolation(model, batch, accelerator)
batch["cu_seq_lens_q"] = torch.tensor([0, 60], dtype=torch.int32)
try:
    check_isolation(model, batch, accelerator)
except ValueError as error:
    Path(sys.argv[1], str(accelerator.process_index)).write_text(str(error))
del model  # and with it DDP's hold of the group, whose threads may abort the interpreter while it exits
PartialState().destroy_process_group()
"""


def test_all_processes_stop_where_one_sees_a_leak(root, tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(script),
        str(tmp_path),
    ]
    environment = os.environ | {"PYTHONPATH": str(root)}
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=180)
    assert run.returncode == 0, run.stderr[-3000:]
    first, second = ((tmp_path / str(rank)).read_text() for rank in (0, 1))
    assert first.startswith("packed documents see each other: 1 of 2 processes, not this one")
    assert second.startswith("packed documents see each other: the document at tokens 20 to 40")
