"""Whatever W&B does, training does not wait for it, and W&B has each step once in the end.

The oracle is a W&B server of the tests' own (wandb_server.py), spoken to by the real wandb package; what the faulty one
lacks is sent by hand afterwards, to the same server when it is well again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from llama_train.train import wandb_run
from llama_train.train.tracking import Tracker
from llama_train.train.wandb_sync import NOTE
from tests.train.wandb_server import WandbServer

pytest.importorskip("wandb", reason="W&B is not installed")

STEPS = 12
# the recipe's part: a run of STEPS steps from START that ends as END says
TRAINING = """
import pathlib, sys, time
from types import SimpleNamespace
from llama_train.train.tracking import Tracker

output_dir, start, end = sys.argv[1], int(sys.argv[2]), sys.argv[3]
accelerator = SimpleNamespace(is_main_process=True, log=lambda *a, **k: None, end_training=lambda: None)
tracker = Tracker(SimpleNamespace(output_dir=output_dir, report_to=["wandb"]), accelerator, 12, start)
pathlib.Path(output_dir, "sender").write_text(str(tracker.wandb.sender.pid))
for step in range(start + 1, 13):
    tracker.training(step, {"loss": 1 / step, "learning_rate": 0.0, "tokens_per_second": 1.0})
    if step % 4 == 0:
        tracker.evaluation(step, {"eval_loss": 2 / step, "eval_bits_per_byte": 1.0})
    time.sleep(0.05)
    if end == "preempted" and step == 9:
        raise SystemExit(75)
    if end == "killed" and step == 9:
        time.sleep(60)
tracker.finish(None)
"""


@pytest.fixture
def server(monkeypatch):
    """A well server, and an environment in which W&B finds it."""
    server = WandbServer()
    speak_to(server, monkeypatch)
    yield server
    server.stop()


def speak_to(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "WANDB_BASE_URL": server.url,
        "WANDB_API_KEY": "k" * 40,
        "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1",  # seconds, not W&B's 15
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_MODE", raising=False)


def tracker(output_dir: Path, main: bool = True) -> Tracker:
    """Of a new run of STEPS steps."""
    output_dir.mkdir(exist_ok=True)
    (output_dir / "config.yaml").write_text("project: tests\nrun_name: a run\nlearning_rate: 0.1\n")
    accelerator = SimpleNamespace(is_main_process=main, log=lambda *_, **__: None, end_training=lambda: None)
    return Tracker(SimpleNamespace(output_dir=str(output_dir), report_to=["wandb"]), accelerator, STEPS, 0)


def training(step: int) -> dict[str, float]:
    return {"loss": 1 / step, "learning_rate": 0.0, "tokens_per_second": 1.0}


def run_through(tracker: Tracker, halfway: Callable[[], None] = lambda: None) -> float:
    """Log all steps; seconds of the slowest call."""
    slowest = 0.0
    for step in range(1, STEPS + 1):
        if step == STEPS // 2:
            halfway()
        start = time.perf_counter()
        tracker.training(step, training(step))
        if step % 4 == 0:
            tracker.evaluation(step, {"eval_loss": 2 / step, "eval_bits_per_byte": 1.0})
        slowest = max(slowest, time.perf_counter() - start)
    return slowest


def finish(tracker: Tracker) -> float:
    """Seconds that it took."""
    start = time.perf_counter()
    tracker.wandb.finish()
    return time.perf_counter() - start


def whole() -> list[dict[str, float]]:
    """The history that W&B is to have: each step once, held-out figures with their step's."""
    held_out = {step: {"eval_loss": 2 / step, "eval_bits_per_byte": 1.0} for step in range(4, STEPS + 1, 4)}
    return [{"_step": step} | training(step) | held_out.get(step, {}) for step in range(1, STEPS + 1)]


def wait_for(what: Callable[[], bool], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def run_id(output_dir: Path) -> str:
    return json.loads((output_dir / NOTE).read_text())["id"]


def train(output_dir: Path, start: int, end: str) -> subprocess.Popen:
    output_dir.mkdir(exist_ok=True)
    (output_dir / "config.yaml").write_text("project: tests\nrun_name: a run\n")
    return subprocess.Popen([sys.executable, "-c", TRAINING, str(output_dir), str(start), end])


def rows(output_dir: Path) -> int:
    file = output_dir / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_wandb_gets_each_step_once_and_nothing_about_the_machine(server, tmp_path, capsys):
    run = tracker(tmp_path)
    assert run_through(run) < 0.1
    assert finish(run) < 10
    (name,) = server.runs
    assert server.rows(name) == whole()
    assert server.runs[name]["finished"] == 0
    assert (name, server.runs[name]["project"]) == (run_id(tmp_path), "tests")
    assert json.loads(server.runs[name]["config"])["learning_rate"] == {"value": 0.1}
    assert f"W&B: {server.url}/someone/tests/runs/{name}" in capsys.readouterr().out
    for secret in (os.uname().nodename, str(Path.cwd()), str(Path.home()), sys.executable, "pytest"):
        assert secret.encode() not in server.received
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"k" * 40 not in written


def test_no_outage_makes_training_wait_and_afterwards_nothing_is_missing(tmp_path, monkeypatch, capsys):
    """Each kind of outage at its moment, all at once to save time. Those midway last until after the finish."""
    servers = {
        name: WandbServer() for name in ("refuses", "silent", "500", "silent midway", "500 midway", "dies midway")
    }
    runs = {}
    for name, server in servers.items():
        fault = {"silent": "silent", "500": "500"}.get(name)
        server.fault = fault
        if name == "refuses":
            server.stop()
        speak_to(server, monkeypatch)
        runs[name] = tracker(tmp_path / name)
    for name in ("silent midway", "dies midway"):
        wait_for(lambda server=servers[name]: bool(server.runs))

    def midway(name: str) -> None:
        server = servers[name]
        if not name.endswith("midway"):
            return
        wait_for(lambda: len(server.rows(run_id(tmp_path / name))) >= 3)  # of 5: W&B has some of the steps
        if name == "dies midway":
            server.stop()
        else:
            server.fault = "silent"

    slowest = {name: run_through(run, lambda name=name: midway(name)) for name, run in runs.items()}
    with ThreadPoolExecutor(len(runs)) as pool:
        finishes = dict(zip(runs, pool.map(finish, runs.values()), strict=True))
    assert max(slowest.values()) < 0.1, slowest
    assert max(finishes.values()) < 10, finishes
    said = capsys.readouterr().out
    for name, server in servers.items():
        assert f"W&B lacks the newest figures: `python -m llama_train.train.wandb_sync {tmp_path / name}`" in said
        had = len(server.rows(run_id(tmp_path / name)))
        assert 3 <= had < STEPS if name.endswith("midway") else had == 0, (name, had)
    assert "Traceback" not in said

    def send_later(name: str) -> list[dict[str, float]]:
        well = WandbServer()
        well.runs = servers[name].runs
        environment = os.environ | {"WANDB_BASE_URL": well.url}
        command = [sys.executable, "-m", "llama_train.train.wandb_sync", str(tmp_path / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout
        return well.rows(run_id(tmp_path / name))

    with ThreadPoolExecutor(2) as pool:
        for name, history in zip(runs, pool.map(send_later, runs), strict=True):
            assert history == whole(), name


def test_a_call_that_waits_would_be_noticed(server, tmp_path, monkeypatch):
    run = tracker(tmp_path)
    monkeypatch.setattr(run.wandb, "poll", lambda: time.sleep(0.11))
    assert run_through(run) > 0.1
    finish(run)


@pytest.mark.parametrize("sender_too", [True, False])
def test_a_killed_run_goes_on_in_the_same_history(server, tmp_path, sender_too):
    """Killed at step 9, with the checkpoint of step 6: alone, or with the process that sends to W&B."""
    killed = train(tmp_path, 0, "killed")
    wait_for(lambda: len(server.rows(next(iter(server.runs), ""))) >= 2 and rows(tmp_path) == 11)
    name = run_id(tmp_path)
    if sender_too:
        os.kill(int((tmp_path / "sender").read_text()), signal.SIGKILL)
    killed.kill()
    killed.wait()
    had = server.rows(name)
    assert 2 <= len(had) < 9
    assert train(tmp_path, 6, "well").wait(60) == 0
    assert list(server.runs) == [name]
    assert server.rows(name) == whole()
    assert server.runs[name]["finished"] == 0


def test_a_preempted_run_tells_wandb_before_it_ends(server, tmp_path):
    assert train(tmp_path, 0, "preempted").wait(60) == 75
    name = run_id(tmp_path)
    assert server.rows(name) == whole()[:9]
    assert server.runs[name]["finished"] == 1  # W&B's word for a run that can go on is "failed"
    assert train(tmp_path, 8, "well").wait(60) == 0
    assert server.rows(name) == whole()


def test_a_sender_that_dies_is_started_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(wandb_run, "RETRY_SECONDS", 0.1)
    run = tracker(tmp_path)
    run.training(1, training(1))
    run.training(2, training(2))
    wait_for(lambda: bool(server.runs) and len(server.rows(run_id(tmp_path))) == 1)
    first = run.wandb.sender
    first.kill()
    first.wait()
    run.training(3, training(3))
    time.sleep(0.2)
    run.training(4, training(4) | {"eval_loss": 0.5, "eval_bits_per_byte": 1.0})
    assert run.wandb.sender is not first
    finish(run)
    assert [row["_step"] for row in server.rows(run_id(tmp_path))] == [1, 2, 3, 4]


def test_a_sender_that_hangs_is_ended(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(wandb_run, "FINISH_SECONDS", 0.5)
    run = tracker(tmp_path)
    os.kill(run.wandb.sender.pid, signal.SIGSTOP)
    run.training(1, training(1))
    assert 0.5 < finish(run) < 5
    assert run.wandb.sender.returncode == -signal.SIGKILL
    assert "W&B lacks the newest figures" in capsys.readouterr().out


def test_other_processes_do_nothing(server, tmp_path):
    run = tracker(tmp_path, main=False)
    run.training(1, training(1))
    run.finish(None)
    assert run.wandb is None
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
