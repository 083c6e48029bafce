"""A run that hangs ends within a minute: named with step, place and stacks, exit code 70, and the launcher starts it again;
a run that is only slow, or was asleep, goes on."""

import contextlib
import json
import multiprocessing
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from llama_train.errors import HUNG
from llama_train.settings import PretrainSettings
from llama_train.train.watchdog import Position, _describe
from tests.train import hanging

TIMEOUT = 2.0  # seconds, instead of 45
PROMISE = 60.0  # seconds from the hang to the line that names it, with the default timeout
LAUNCH = (
    "-m accelerate.commands.launch --main_process_port 0 --config_file recipes/accelerate/ddp.yaml --max_restarts 1"
)
SIZES = "--hidden_size 32 --intermediate_size 64 --num_hidden_layers 2 --num_attention_heads 4 --vocab_size 96"
WORDS = f"{SIZES} --max_length 48 --use_cpu --bf16 false --logging_steps 1 --max_steps 400 --save_steps 100 --hang_timeout 8"


class Run:
    """The processes of a small run."""

    def __init__(self, case: str, out: Path, world: int, timeout: float):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.train.hanging"])
        arguments = [(case, rank, world, port, timeout, out) for rank in range(world)]
        self.out, self.processes = out, [context.Process(target=hanging.run, args=words) for words in arguments]
        for process in self.processes:
            process.start()

    def warm(self) -> "Run":
        """Wait until all processes are in the middle of it."""
        until = time.monotonic() + 120
        while not all((self.out / f"warm-{rank}").exists() for rank in range(len(self.processes))):
            assert time.monotonic() < until, self.logs()
            time.sleep(0.05)
        return self

    def signal(self, name: str, *ranks: int) -> None:
        for rank in ranks:
            os.kill(self.processes[rank].pid, getattr(signal, name))

    def codes(self, *ranks: int) -> list[int | None]:
        """Exit codes, None for a process that is still there after a minute."""
        until = time.monotonic() + 60
        for rank in ranks:
            self.processes[rank].join(max(0.0, until - time.monotonic()))
        return [self.processes[rank].exitcode for rank in ranks]

    def logs(self) -> list[str]:
        return [(self.out / f"log-{rank}").read_text() for rank in range(len(self.processes))]

    def stacks(self, rank: int) -> str:
        (file,) = self.out.glob(f"hang-*/process-{rank}.txt")
        stamped, stacks = file.read_text().split("\n", 1)
        assert self.line(rank) in stamped and stacks in self.logs()[rank], "on stderr as in the file"
        return stacks

    def line(self, rank: int) -> str:
        (line,) = [line for line in self.logs()[rank].splitlines() if line.startswith("error")]
        return line


@pytest.fixture
def start(tmp_path):
    with contextlib.ExitStack() as ended:
        yield lambda case, world=2, timeout=TIMEOUT: ended.enter_context(running(case, tmp_path, world, timeout))


@contextlib.contextmanager
def running(case: str, out: Path, world: int, timeout: float) -> Iterator[Run]:
    run = Run(case, out, world, timeout)
    try:
        yield run
    finally:
        for process in run.processes:
            process.kill()
            process.join()


@pytest.fixture(scope="module", autouse=True)
def stopped_early(tmp_path_factory):
    """A run with the default timeout, one process of which is stopped before the other tests: they fill the time."""
    with running("nothing", tmp_path_factory.mktemp("default"), 2, PretrainSettings.hang_timeout) as run:
        run.warm().signal("SIGSTOP", 1)
        yield run, time.time()


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stopped_process_is_named_by_the_others(start, stopped):
    run = start("nothing").warm()
    run.signal("SIGSTOP", stopped)
    other = 1 - stopped
    assert run.codes(other) == [HUNG], run.logs()
    who = "error" if other == 0 else "error (process 1)"
    assert run.line(other).startswith(f"{who}: the run hangs: process {stopped} not heard of for ")
    assert re.search(
        r"last known in \w+ of step \d+; process \d waiting in backward of step \d+ for \d+ s", run.line(other)
    )
    assert "thread MainThread" in run.stacks(other)


def test_a_missed_collective_is_named_with_both_places(start):
    run = start("missed collective")
    assert run.codes(0, 1) == [HUNG, HUNG], run.logs()
    for rank, who in enumerate(("error", "error (process 1)")):
        step = f"of step {hanging.WARM} for"
        assert run.line(rank).startswith(f"{who}: the run hangs: process 1 in update {step} ")
        assert f"process 0 waiting in backward {step} " in run.line(rank) and "(run, hanging.py:" in run.line(rank)
        assert f"hang-{hanging.WARM}" in run.line(rank) and "raise hang_timeout (2 s)" in run.line(rank)
    assert "all_reduce" in run.stacks(0) and "all_reduce" not in run.stacks(1)


def test_different_collectives_are_named(start):
    run = start("another collective")
    assert run.codes(0, 1) == [HUNG, HUNG], run.logs()
    assert f"processes 0, 1 waiting in backward of step {hanging.WARM}" in run.line(0)
    assert "all_reduce" in run.stacks(0) and "barrier" in run.stacks(1)


@pytest.mark.parametrize(("case", "place"), [("data worker", "data"), ("endless loop", "forward")])
def test_one_process_alone_is_named_too(start, case, place):
    run = start(case, world=1)
    assert run.codes(0) == [HUNG], run.logs()
    assert f"the run hangs: process 0 in {place} of step " in run.line(0)
    assert ("_next_data" if place == "data" else "in run") in run.stacks(0)
    for worker in re.findall(r"worker (\d+) falls asleep", run.logs()[0]):
        until = time.monotonic() + 10
        while psutil.pid_exists(int(worker)) and psutil.Process(int(worker)).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < until, "it would hold the pipes of its parent open"
            time.sleep(0.05)


def test_a_run_that_was_stopped_as_a_whole_goes_on(start):
    run = start("nothing").warm()
    for name, ranks in (("SIGSTOP", (1, 0)), ("SIGCONT", (0, 1))):
        run.signal(name, ranks[0])
        time.sleep(TIMEOUT / 5)  # so that the main process has heard all, and looks around before it can hear more
        run.signal(name, ranks[1])
        time.sleep(2 * TIMEOUT)
    (run.out / "enough").touch()
    assert run.codes(0, 1) == [0, 0], run.logs()


def test_slow_is_not_hung(start):
    run = start("slow", world=1, timeout=1.0).warm()
    (run.out / "enough").touch()
    assert run.codes(0) == [0], run.logs()


def test_two_thousand_processes_fit_in_one_line():
    here = Position(9, 12, "backward", 99, 46.0, 45.0, "all_reduce, distributed_c10d.py:3", True)
    known = dict.fromkeys(range(2048), here) | {
        7: here._replace(place="data", beats=97, line="read, files.py:1", waits=False)
    }
    assert _describe(known, {}) == (
        "process 7 in data of step 12 for 46 s (read, files.py:1); processes 0, 1, 2, 3, 4, 5, 6, 8 and 2039 more "
        "waiting in backward of step 12 for 46 s (all_reduce, distributed_c10d.py:3)"
    )


def test_a_restarted_run_goes_on_from_its_newest_checkpoint(root, tiny_shards, tmp_path):
    """The recipe under torchrun's agent; one of its processes is stopped once there is a checkpoint."""
    words = [*LAUNCH.split(), "recipes/pretrain.py", *WORDS.split()]
    words += ["--dataset_path", str(tiny_shards), "--output_dir", str(tmp_path / "run")]
    with open(tmp_path / "log", "w") as log:
        launcher = psutil.Popen(
            [sys.executable, *words], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, stdout=log, stderr=log
        )
    try:
        wait_for(lambda: (tmp_path / "run" / "latest").exists(), launcher, tmp_path)
        (stopped,) = [child for child in launcher.children() if child.environ().get("RANK") == "1"]
        stopped.suspend()
        wait_for(lambda: "Sending process" in (tmp_path / "log").read_text(), launcher, tmp_path)
        stopped.kill()  # as the agent does 30 seconds after its SIGTERM
        assert launcher.wait(120) == 0, (tmp_path / "log").read_text()
    finally:
        if launcher.poll() is None:
            for process in [*launcher.children(recursive=True), launcher]:
                process.kill()
    text = (tmp_path / "log").read_text()
    # before the first step, where a hundred of them are made between two looks of the watchdog
    known = r"last known (?:in \w+ of step \d+|before the first step);"
    assert re.search(rf"^error: the run hangs: process 1 not heard of for \d+ s .* {known}", text, re.M), text
    assert re.search(r"^resuming from .*/checkpoint-[123]00$", text, re.M)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    steps = [row["step"] for row in map(json.loads, lines) if "loss" in row]
    assert steps == list(range(1, 401)) and (tmp_path / "run" / "final" / "model.safetensors").exists()


def wait_for(happened: Callable[[], bool], launcher: psutil.Popen, out: Path) -> None:
    until = time.monotonic() + 120
    while not happened():
        assert launcher.poll() is None and time.monotonic() < until, (out / "log").read_text()
        time.sleep(0.05)


def test_the_default_timeout_keeps_the_promise(stopped_early):
    run, since = stopped_early
    assert run.codes(0) == [HUNG], run.logs()
    assert "process 1 not heard of for 4" in run.line(0) and "of step" in run.line(0)
    (file,) = run.out.glob("hang-*/process-0.txt")
    assert PretrainSettings.hang_timeout - 5 < file.stat().st_mtime - since < PROMISE
