"""Out of memory: one line with a setting that then fits, a file of what lay in memory, and no process left waiting."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from llama_train.planner import plan
from llama_train.planner_memory import activation_bytes, state_bytes
from llama_train.settings import load_settings
from llama_train.train.out_of_memory import GIB, explain, explain_out_of_memory, is_out_of_memory, next_setting
from tests.recipes.test_pretrain import arguments
from tests.recipes.test_pretrain import fresh_accelerate as fresh_accelerate

SCRIPT = "tests/train/short_of_memory.py"
ROWS, MIB = 512, "800"
WIDE = f"--max_steps 1 --hidden_size 256 --intermediate_size 1024 --per_device_train_batch_size {ROWS}".split()


def run(words: list[str], root: Path, launcher: list[str] | None = None) -> subprocess.CompletedProcess:
    """The recipe, short of memory."""
    command = [sys.executable, *(launcher or []), SCRIPT, *words]
    environment = os.environ | {"PYTHONPATH": str(root), "MALLOC_ARENA_MAX": "1"}  # an arena of a thread maps 128 MiB
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=240)


def test_what_is_said_to_fit_fits(tiny_shards, tmp_path, root):
    """A real failure of the allocator; then the same run, as short of memory, with what it was told to try."""
    words = arguments(tiny_shards, tmp_path, *WIDE)
    failed = run([MIB, "0", *words], root)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    line = failed.stderr.splitlines()[-1]
    assert "Traceback" not in failed.stderr and line.startswith("error: out of memory: ")
    assert f"activations of {ROWS} rows of 48 tokens" in line
    advice = re.search(r"next: (--per_device_train_batch_size (\d+) --gradient_accumulation_steps (\d+)) ", line)
    assert advice, line
    assert int(advice[2]) * int(advice[3]) == ROWS, "the global batch is kept"
    snapshot = (tmp_path / "out-of-memory" / "process-0.txt").read_text()
    assert str(tmp_path / "out-of-memory" / "process-0.txt") in line
    assert "can't allocate memory" in snapshot and "GiB Tensor torch.float32 (" in snapshot
    again = run([MIB, "0", *words, *advice[1].split()], root)
    assert again.returncode == 0, again.stderr[-2000:]


def test_a_process_out_of_memory_leaves_no_other_waiting(tiny_shards, tmp_path, root):
    words = arguments(tiny_shards, tmp_path, *WIDE)
    launcher = "-m accelerate.commands.launch --main_process_port 0 --config_file recipes/accelerate/ddp.yaml".split()
    failed = run([MIB, "1", *words], root, launcher)  # within its time, or it is TimeoutExpired
    assert failed.returncode != 0
    assert "error (process 1): out of memory: " in failed.stderr, failed.stderr[-3000:]
    assert (tmp_path / "out-of-memory" / "process-1.txt").is_file()


@pytest.mark.gpu
def test_a_gpu_out_of_memory_leaves_a_snapshot_to_draw(tiny_shards, tmp_path, monkeypatch):
    from recipes.pretrain import main

    words = arguments(tiny_shards, tmp_path, *WIDE)
    torch.cuda.set_per_process_memory_fraction(300 * 2**20 / torch.cuda.get_device_properties(0).total_memory)
    try:
        with pytest.raises(MemoryError, match=r"next: --.* memory_viz from the \.pickle beside it"):
            main([word for word in words if word != "--use_cpu"])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "allocated memory" in (tmp_path / "out-of-memory" / "process-0.txt").read_text().lower()
    assert (tmp_path / "out-of-memory" / "process-0.pickle").stat().st_size > 1000


def test_errors_are_told_apart():
    with pytest.raises(RuntimeError) as real:
        torch.empty(10**15)
    with pytest.raises(MemoryError) as numpy:
        np.empty(10**15)
    assert is_out_of_memory(real.value) and is_out_of_memory(numpy.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"))


def test_other_errors_pass_untouched(tmp_path):
    settings = SimpleNamespace(output_dir=str(tmp_path / "run"))
    with pytest.raises(RuntimeError, match="^something else$"):  # noqa: SIM117
        with explain_out_of_memory(settings, None, torch.device("cpu")):
            raise RuntimeError("something else")
    assert not (tmp_path / "run").exists()


# --- the advice, by arithmetic: llama3.2-1b has 1,235,814,400 parameters, 18.4 GiB at 16 bytes ---

ONE_B = "--model llama3.2-1b --max_length 2048 --max_steps 5000 --per_device_train_batch_size 16"


def advice(words: str, memory: float, engine: str = "single", processes: int = 1) -> str:
    settings = load_settings(f"{ONE_B} {words}".split())
    return next_setting(settings, plan(settings, processes), engine, int(memory * GIB))


def test_first_the_micro_batch_shrinks_and_the_global_batch_stays():
    assert advice("--gradient_accumulation_steps 3", 79) == (
        "--per_device_train_batch_size 8 --gradient_accumulation_steps 6 (the same global batch)"
    )
    # the accumulation follows by itself, and the parts must still be whole
    assert advice("--global_batch_tokens 98304", 79) == "--per_device_train_batch_size 8 (the same global batch)"
    words = "--gradient_accumulation_steps 2 --per_device_train_batch_size 7"
    assert (
        advice(words, 40) == "--per_device_train_batch_size 2 --gradient_accumulation_steps 7 (the same global batch)"
    )


def test_then_activations_are_computed_again():
    words = "--gradient_accumulation_steps 4 --per_device_train_batch_size 1 --max_length 8192"
    assert advice(words, 32) == "--activation_checkpointing true"
    assert advice(f"{words} --activation_checkpointing", 22).startswith("DeepSpeed")


def test_then_the_model_is_sharded():
    words = "--gradient_accumulation_steps 8 --per_device_train_batch_size 1"
    assert advice(words, 20) == (
        "DeepSpeed ZeRO-2 on 2 processes, each with as much memory, --activation_checkpointing true "
        "--per_device_train_batch_size 1 --gradient_accumulation_steps 4 (the same global batch)"
    )
    assert advice(words, 20, "ddp", 2).startswith("DeepSpeed ZeRO-2 on 2 processes")
    assert advice(words, 9, "zero2", 2).startswith("DeepSpeed ZeRO-3 on 4 processes")


def test_then_rows_are_shorter_or_the_model_is_too_large():
    words = "--gradient_accumulation_steps 1 --per_device_train_batch_size 1 --max_length 131072"
    assert advice(words, 36).startswith("--max_length ")
    assert "another --output_dir" in advice(words, 36)
    assert (
        advice(words, 2)
        == "no batch, length or sharding makes this model fit here: choose a smaller model, or more memory"
    )


def test_what_failed_is_not_believed_to_fit():
    """By the estimate alone 16 rows need less than this: they failed, so half of them need half of all there was."""
    settings = load_settings(f"{ONE_B} --gradient_accumulation_steps 1".split())
    run = plan(settings, 1)
    memory = 2 * (state_bytes(run.parameters) + activation_bytes(settings, 16 * 2048, False))
    assert next_setting(settings, run, "single", memory).startswith("--per_device_train_batch_size 8 ")


def test_the_evaluation_s_batch_is_the_one_to_shrink_there():
    settings = load_settings(f"{ONE_B} --gradient_accumulation_steps 1 --per_device_eval_batch_size 6".split())
    line = explain(settings, plan(settings, 1), "single", 80 * GIB, evaluating=True)
    assert "the evaluation had 6 rows" in line and "next: --per_device_eval_batch_size 3" in line
