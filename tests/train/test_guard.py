"""Spikes are left out as if they had never been in the data, on every engine; NaN is named."""

import math
import os
import re
import statistics
import subprocess
import sys

import numpy as np
import pytest
import torch

from llama_train.data.batches import rows_at
from llama_train.data.packing import Rows
from llama_train.data.shards import Shards, ShardWriter
from llama_train.train.guard import ENOUGH, Guard, first_not_finite


class Alone:
    """The agreement of one process with itself."""

    def sum(self, *values):
        return list(values)

    min = sum


def judge(threshold, before, value):
    guard = Guard(threshold, Alone())
    guard.recall(list(before), [])
    return guard.accepts_loss(torch.tensor(value)), guard.verdict


def test_a_spike_is_so_many_deviations_above_the_steps_before():
    before = [2.0, 2.1, 1.9, 2.0] * 8
    border = statistics.fmean(before) + 6 * statistics.pstdev(before)
    assert judge(6.0, before, border - 0.01)[0]
    accepted, why = judge(6.0, before, border + 0.01)
    assert not accepted
    assert "its loss is 2.4" in why
    assert judge(6.0, before, 0.1)[0], "a fall is no spike"
    assert judge(None, before, 1e9)[0], "without a threshold nothing is left out"
    assert judge(6.0, before[: ENOUGH - 1], 1e9)[0], "too early to tell"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("threshold", [None, 6.0])
def test_what_is_not_finite_is_never_accepted(value, threshold):
    assert not judge(threshold, [], value)[0]


def test_only_the_last_128_steps_count():
    losses = [100.0] * 50
    guard = Guard(6.0, Alone())
    for _ in range(128):
        guard.recall(losses, [])
        guard.loss = 1.0
        guard.remember()
    assert losses == [1.0] * 128


def test_the_first_tensor_that_is_not_finite_is_named():
    tensors = [("a", torch.ones(3)), ("b", None), ("c", torch.tensor([1.0, math.inf])), ("d", torch.tensor(math.nan))]
    assert first_not_finite(tensors) == "c"
    assert first_not_finite(tensors[:2]) == ""


# --- with the recipe: one batch of rows that nothing can foretell, among rows in which each token foretells the next ---

BATCH, ROWS, LENGTH = 24, 4, 48  # the poisoned global batch, its rows, their tokens
WORDS = "--hidden_size 32 --intermediate_size 64 --num_hidden_layers 2 --num_attention_heads 4 --num_key_value_heads 2".split()
WORDS += f"--vocab_size 96 --max_length {LENGTH} --use_cpu --bf16 false --learning_rate 0.01 --logging_steps 1".split()
WORDS += "--max_steps 30 --save_steps 20".split()
ENGINES = {
    "single": ["recipes/accelerate/cpu.yaml"],
    "ddp": ["recipes/accelerate/ddp.yaml"],
    "zero2": ["accelerate_config.yaml", "--num_processes", "2"],
    "zero3": ["recipes/accelerate/zero3.yaml"],
}


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory):
    out = tmp_path_factory.mktemp("poisoned") / "train"
    rng = np.random.default_rng(0)
    tokenizer = {"sha256": "0" * 64, "bos_token_id": 94, "eos_token_id": 95}
    count = 400
    bad = set(rows_at(BATCH * ROWS, ROWS, count, 42))
    with ShardWriter(out, 96, tokenizer, np.array([1] * 94 + [0, 0], dtype=np.uint16)) as writer:
        for row in range(count + 1):  # a document a row
            size = LENGTH - 3
            text = rng.integers(0, 94, size) if row in bad else (int(rng.integers(94)) + np.arange(size)) % 94
            writer.add([94, *text.tolist(), 95], size)
    assert len(Rows(Shards(out), LENGTH)) == count
    return out


def train(how, engine, shards, out, root, *more):
    rows = "--per_device_train_batch_size 4" if engine == "single" else "--per_device_train_batch_size 1"
    rows += "" if engine == "single" else " --gradient_accumulation_steps 2"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0", "--config_file"]
    script = ["tests/train/spiking.py", how, str(BATCH), *WORDS, *rows.split(), *more]
    command = [*launch, *ENGINES[engine], *script, "--dataset_path", str(shards), "--output_dir", str(out)]
    environment = os.environ | {"PYTHONPATH": str(root)}
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout, (out / "final" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("engine", ["single", "zero2", "zero3"])
def test_a_gradient_that_is_not_finite_names_its_layer(engine, poisoned, tmp_path, root):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0", "--config_file"]
    words = [*WORDS, "--dataset_path", str(poisoned), "--output_dir", str(tmp_path), "--max_grad_norm", "0"]
    command = [
        *launch,
        *ENGINES[engine],
        "recipes/pretrain.py",
        *words,
        "--learning_rate",
        "1e30",
        "--warmup_steps",
        "0",
    ]
    environment = os.environ | {"PYTHONPATH": str(root)}
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode != 0
    said = re.search(
        r"its gradient norm is (inf|nan), first in the gradient of (\S+\.weight); nothing was saved", run.stderr
    )
    assert said, run.stderr[-3000:]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_left_out_might_never_have_been_there(engine, poisoned, tmp_path, root):
    _, without = train("without", engine, poisoned, tmp_path / "without", root)
    said, guarded = train("guarded", engine, poisoned, tmp_path / "guarded", root, "--spike_threshold", "2")
    assert said.count("is left out") == 1
    assert f"batch {BATCH} is left out: its loss is" in said
    assert guarded == without
    said, late = train("late", engine, poisoned, tmp_path / "late", root, "--spike_threshold", "2")
    assert f"batch {BATCH} is left out: its gradient norm is planted" in said
    assert ("gone back to checkpoint-20" in said) == engine.startswith("zero"), "DeepSpeed had made its update"
    assert late == without
    if engine == "single":  # the planted mistake: the batch is trained on
        _, unguarded = train("guarded", engine, poisoned, tmp_path / "unguarded", root)
        assert unguarded != without
