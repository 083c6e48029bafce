"""Two `accelerate launch --num_machines 2` train, resume, and survive a killed process as one run."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.recipes.test_pretrain import ENGINES, arguments, launch
from tests.test_security import foreign
from tests.two_machines import NODE, finish, start

SHARE = "--max_steps 12 --save_steps 4 --per_device_train_batch_size 2 --gradient_accumulation_steps 2 --cpu_threads 1".split()


def curve(out: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    assert [step for step, _ in losses] == list(range(1, len(losses) + 1)), "one history"
    return dict(losses)


@pytest.fixture(scope="module")
def one_machine(tiny_shards, tmp_path_factory, root) -> dict[int, float]:
    out = tmp_path_factory.mktemp("one")
    run = launch(ENGINES["ddp"], arguments(tiny_shards, out, *SHARE), root, timeout=150)
    assert run.returncode == 0, run.stderr[-3000:]
    return curve(out)


@pytest.mark.parametrize("config", ["recipes/accelerate/ddp.yaml", "accelerate_config.yaml"])
def test_two_machines_train_and_resume_as_one(config, tiny_shards, one_machine, tmp_path, root):
    words = ["recipes/pretrain.py", *arguments(tiny_shards, tmp_path, *SHARE)]
    launched = start(root, config, *words)
    said = finish(launched)
    assert [run.returncode for run in launched] == [0, 0], said
    assert "processes: 2" in said[0]
    whole = curve(tmp_path)
    assert whole.keys() == one_machine.keys()
    assert max(abs(whole[step] - one_machine[step]) for step in whole) <= 1e-5
    assert foreign(tmp_path) == [], "no pickles, DeepSpeed's neither"

    for folder in ("checkpoint-12", "final"):  # as if it had been killed before its last save
        shutil.rmtree(tmp_path / folder)
    launched = start(root, config, *words)
    said = finish(launched)
    assert [run.returncode for run in launched] == [0, 0], said
    assert f"resuming from {tmp_path}/checkpoint-8" in said[0]
    assert curve(tmp_path) == whole, "the same to the last bit"


def test_a_process_killed_on_one_machine_restarts_both(tiny_shards, tmp_path, root):
    words = "--max_steps 60 --save_steps 20 --per_device_train_batch_size 2 --cpu_threads 1".split()
    run = launch(ENGINES["ddp"], arguments(tiny_shards, tmp_path / "whole", *words), root, timeout=150)
    assert run.returncode == 0, run.stderr[-3000:]
    out = tmp_path / "killed"
    elastic = ["--max_restarts", "1", "--rdzv_backend", "c10d", "recipes/pretrain.py"]
    own = ["--rdzv_conf", "is_host=1"], ["--rdzv_conf", "is_host=0"]
    launched = start(
        root,
        "recipes/accelerate/ddp.yaml",
        launcher=NODE,
        own=tuple([*conf, *elastic, *arguments(tiny_shards, out, *words)] for conf in own),
    )
    deadline = time.monotonic() + 100
    while not list(out.glob("checkpoint-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    worker = subprocess.run(["pgrep", "-P", str(launched[1].pid)], capture_output=True, text=True).stdout.split()
    assert len(worker) == 1, "killed too late: it had ended"
    os.kill(int(worker[0]), signal.SIGKILL)
    said = finish(launched)
    assert [run.returncode for run in launched] == [0, 0], said
    assert "resuming from" in "".join(said)
    assert curve(out) == curve(tmp_path / "whole"), "an unbroken run's, to the last bit"
