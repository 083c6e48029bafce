"""SIGTERM or SIGUSR1 to any process, whatever it does: all save at the same step and end with exit code 75."""

import re
import signal
import time

import pytest

from llama_train.errors import PREEMPTED
from llama_train.train.manifest import verify
from tests.survival import runs, warm

STEPS = 60
GRACE = 30  # seconds between SIGTERM and SIGKILL, torchrun's and most clusters' shortest


def arguments(shards, out, *more):
    words = f"--max_steps {STEPS} --save_steps 10 --eval_steps 10 --per_device_eval_batch_size 1".split()
    return runs.words(shards, out, 2, *words, "--eval_dataset_path", str(shards), *more)


@pytest.fixture(scope="module")
def unbroken(tiny_shards, tmp_path_factory):
    """By engine, the weights of a run that nobody stopped."""
    found = {}

    def of(engine):
        if engine not in found:
            folder = tmp_path_factory.mktemp(engine)
            warm.run(engine, 2, arguments(tiny_shards, folder / "run"), folder / "output.txt")
            found[engine] = (folder / "run" / "final" / "model.safetensors").read_bytes()
        return found[engine]

    return of


def reach(run, condition):
    """Wait until the run is there, at least at its fifth step."""
    while not (run.output.exists() and "step 5/" in run.text() and condition(run.text())):
        assert run.running(), run.text()[-2000:]
        time.sleep(0.001)


def evaluating(text):
    """The newest line is a training row at which an evaluation follows."""
    lines = [line for line in text.splitlines() if line.startswith("step ")]
    return "loss" in lines[-1] and "eval_loss" not in lines[-1] and re.match(r"step \d*0/", lines[-1])


PLACES = {"a step": lambda out: lambda text: True, "an evaluation": lambda out: evaluating}
PLACES["a save"] = lambda out: lambda text: any(out.glob(".staging-checkpoint-*"))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("engine", "rank", "number", "more"),
    [
        ("ddp", 0, signal.SIGTERM, ""),
        ("ddp", 1, signal.SIGUSR1, "--async_save"),
        ("zero2", 1, signal.SIGTERM, ""),
    ],
)
def test_all_processes_save_together_and_go_on_where_they_stopped(
    place, engine, rank, number, more, unbroken, tiny_shards, tmp_path
):
    out = tmp_path / "run"
    run = warm.Run(engine, 2, arguments(tiny_shards, out, *more.split()), tmp_path / "first.txt")
    reach(run, PLACES[place](out))
    sent = time.monotonic()
    run.kill([rank], number)
    assert run.wait(GRACE + 30) == [PREEMPTED, PREEMPTED], run.text()[-3000:]
    assert time.monotonic() - sent < GRACE
    said = re.search(r"told to stop: saved at step (\d+); the same command goes on from there", run.text())
    step = int(said[1])
    assert 5 <= step < STEPS
    assert verify(out / f"checkpoint-{step}") == []
    assert (out / "latest").read_text() == f"checkpoint-{step}\n"
    assert not (out / "final").exists()
    assert not list(out.glob(".staging-*"))
    assert runs.last_step(out) == step, "no step is lost"
    text = warm.run(engine, 2, arguments(tiny_shards, out, *more.split()), tmp_path / "second.txt")
    assert runs.resumed_from(text) == step
    assert (out / "final" / "model.safetensors").read_bytes() == unbroken(engine)
