"""A step's gradient does not depend on how its global batch is split: micro-batches, processes, packing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file

from llama_train.data.batches import collate_packed
from llama_train.data.packing import Rows, row_order
from llama_train.data.shards import Shards

from . import gradients as split

BOUND = 1e-6


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Accelerate keeps its state in the process: each test starts without it."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="module")
def whole(tiny_shards: Path) -> tuple[dict[str, torch.Tensor], float]:
    """Gradient and loss by hand: the sum of -log p over all counted tokens, divided by their number, in one batch."""
    rows = Rows(Shards(tiny_shards), split.LENGTH)
    batch = collate_packed([rows[i] for i in row_order(len(rows), 1, 0)[: split.ROWS]])
    model = split.tiny_model()
    logits = model.eval()(batch["input_ids"], position_ids=batch["position_ids"]).logits[0, :-1]
    loss = torch.nn.functional.cross_entropy(logits, batch["labels"][0, 1:], ignore_index=-100)
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}, float(loss.detach())


def largest_difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """The largest of |ours - theirs| / |theirs| over the parameters, in the Euclidean norm."""
    return max(float((ours[name] - theirs[name]).norm() / theirs[name].norm()) for name in theirs)


@pytest.mark.parametrize("packing", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_gradient_is_that_of_the_whole_batch(tiny_shards, whole, accumulation, packing):
    found, loss = split.gradients(tiny_shards, accumulation, packing)
    assert largest_difference(found, whole[0]) <= BOUND
    assert loss == pytest.approx(whole[1], rel=1e-6)


def test_average_of_averages_would_be_noticed(tiny_shards, whole, monkeypatch):
    """The planted mistake: each micro-batch divided by its own tokens."""
    from llama_train.model.llama import LlamaForCausalLM

    forward = LlamaForCausalLM.forward
    mean = lambda self, *args, num_items_in_batch, **kwargs: forward(self, *args, **kwargs)  # noqa: E731
    monkeypatch.setattr(LlamaForCausalLM, "forward", mean)
    found, _ = split.gradients(tiny_shards, 4, True)
    averaged = {name: gradient / 4 for name, gradient in found.items()}
    assert largest_difference(averaged, whole[0]) > 100 * BOUND


@pytest.mark.parametrize(("accumulation", "packing"), [(1, "packed"), (2, "padded")])
def test_two_processes_give_the_same_gradient(tiny_shards, whole, tmp_path, root, accumulation, packing):
    out = tmp_path / "gradients.safetensors"
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "recipes/accelerate/ddp.yaml"]
    script = [
        "--main_process_port",
        "0",
        "tests/train/gradients.py",
        str(tiny_shards),
        str(accumulation),
        packing,
        str(out),
    ]
    run = subprocess.run(
        [*accelerate, *script], cwd=root, env=os.environ | {"PYTHONPATH": "."}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    found = load_file(out)
    loss = float(found.pop("loss"))
    assert largest_difference(found, whole[0]) <= BOUND
    assert loss == pytest.approx(whole[1], rel=1e-6)
