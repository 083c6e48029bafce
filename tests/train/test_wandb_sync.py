"""metrics.jsonl is the truth, W&B a copy: which rows go there, when, and what may not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llama_train.train.wandb_sync import NOTE, Rows, main, public, wandb_key_is_set
from tests.train.wandb_server import WandbServer


def write(file: Path, *rows: tuple[int, str, float], mode: str = "a") -> None:
    with open(file, mode, encoding="utf-8") as handle:
        for step, name, value in rows:
            handle.write(json.dumps({"step": step, name: value}) + "\n")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "metrics.jsonl"


def test_a_step_is_complete_when_a_later_one_begins(file):
    write(file, (1, "loss", 3.0), (2, "loss", 2.0))
    rows = Rows(file)
    assert rows.read(to_the_end=False) == [(1, {"loss": 3.0})]
    write(file, (2, "eval_loss", 2.5))
    assert rows.read(to_the_end=False) == []
    write(file, (3, "loss", 1.0))
    assert rows.read(to_the_end=False) == [(2, {"loss": 2.0, "eval_loss": 2.5})]
    assert rows.read(to_the_end=True) == [(3, {"loss": 1.0})]
    assert rows.read(to_the_end=True) == []


def test_a_line_half_written_waits_for_its_end(file):
    write(file, (1, "loss", 3.0))
    rows = Rows(file)
    with open(file, "a") as handle:
        handle.write('{"step": 2, "lo')
        handle.flush()
        assert rows.read(to_the_end=True) == [(1, {"loss": 3.0})]
        handle.write('ss": 2.0}\n')
    assert rows.read(to_the_end=True) == [(2, {"loss": 2.0})]


def test_after_going_back_the_steps_come_in_order(file):
    """A file is replaced when a run goes back to a checkpoint; what it left out then stands before earlier steps."""
    write(file, (1, "loss", 3.0), (2, "loss", 2.0), (3, "loss", 9.0))
    rows = Rows(file)
    assert [step for step, _ in rows.read(to_the_end=False)] == [1, 2]
    write(file.with_name("new"), (1, "loss", 3.0), (3, "skipped_batch", 2), (2, "loss", 1.9), (3, "loss", 1.0))
    file.with_name("new").replace(file)
    assert rows.read(to_the_end=True) == [
        (1, {"loss": 3.0}),
        (2, {"loss": 1.9}),
        (3, {"skipped_batch": 2, "loss": 1.0}),
    ]


def test_a_training_that_is_gone_is_noticed_though_its_pipe_lives_on():
    """A forked worker of it may hold the other end."""
    code = "from llama_train.train.wandb_sync import listen; print(listen(1))"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.read() == b"gone\n"


@pytest.mark.parametrize(
    "value",
    [
        "hf_" + "a1B2" * 8,
        "https://someone:word@example.org/data",
        "https://example.org/data?X-Amz-Signature=1234",
        "folder/secret-of-the-environment",
    ],
)
def test_no_secret_goes_into_the_config(value):
    environment = {"MY_TOKEN": "secret-of-the-environment", "MODEL": "runs/a", "TOKENIZERS_PARALLELISM": "false"}
    settings = {
        "dataset_path": value,
        "model_name_or_path": "runs/a",
        "packing": False,
        "max_steps": 9,
        "report_to": [],
    }
    hidden = {"dataset_path": "(hidden)", "model_name_or_path": "runs/a", "packing": False, "max_steps": 9}
    assert public(settings, environment) == hidden


def offline_run(output_dir: Path) -> None:
    """As a run does without a key: started with a training's process id, told to finish on its standard input."""
    (output_dir / "config.yaml").write_text("project: tests\nrun_name: a run\n")
    command = [sys.executable, "-m", "llama_train.train.wandb_sync", str(output_dir), "--follow", str(os.getpid())]
    done = subprocess.run(command, input="finish\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


def test_an_offline_run_is_one_folder_that_wandb_sync_sends(tmp_path, file, monkeypatch, capsys):
    """Resumed once before it is sent, once after."""
    pytest.importorskip("wandb", reason="W&B is not installed")
    server = WandbServer()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_MODE", "offline")
    write(file, (1, "loss", 3.0), (2, "loss", 2.0))
    offline_run(tmp_path)
    write(file, (3, "loss", 1.0))
    offline_run(tmp_path)
    name = json.loads((tmp_path / NOTE).read_text())["id"]
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    assert f"W&B is off: `wandb sync {folder}` sends the run later" in capsys.readouterr().out

    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    command = [sys.executable, "-m", "wandb", "sync", str(folder)]
    subprocess.run(command, env=os.environ | {"WANDB_MODE": "online"}, capture_output=True, check=True, timeout=60)
    assert [(row["_step"], row["loss"]) for row in server.rows(name)] == [(1, 3.0), (2, 2.0), (3, 1.0)]

    write(file, (4, "loss", 0.5))
    offline_run(tmp_path)  # no folder: `wandb sync` would append all of it to what W&B has
    assert list(tmp_path.glob("wandb/offline-run-*")) == [folder]
    assert "may have this run's first steps already: `python -m llama_train.train.wandb_sync" in capsys.readouterr().out
    command = [sys.executable, "-m", "llama_train.train.wandb_sync", str(tmp_path)]
    subprocess.run(command, check=True, timeout=60)
    assert [row["_step"] for row in server.rows(name)] == [1, 2, 3, 4]
    server.stop()


def test_what_is_wrong_is_said_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"W&B: {tmp_path} is no run's output_dir: it has no config.yaml\n"
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == "W&B: no key is set: run `wandb login`, or set WANDB_API_KEY\n"


@pytest.mark.parametrize(
    ("environment", "netrc", "known"),
    [
        ({"WANDB_API_KEY": "x"}, "", True),
        ({}, "machine api.wandb.ai login user password x", True),
        ({}, "machine other.example login user password x", False),
        ({"WANDB_BASE_URL": "https://other.example"}, "machine other.example login user password x", True),
        ({}, "", False),
    ],
)
def test_a_wandb_key_is_found_where_wandb_keeps_it(environment, netrc, known, tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".netrc").write_text(netrc)
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    assert wandb_key_is_set() is known
