"""`llama-train check` as people run it: a table and 0, or one line and 1; whatever it starts ends with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llama_train import check
from llama_train.check_compare import Row
from llama_train.check_shrunk import shrink
from llama_train.cli import main
from llama_train.settings import load_settings

SIZES = "--hidden_size 64 --intermediate_size 128 --num_hidden_layers 1 --num_attention_heads 4 --vocab_size 96".split()
ROWS = """
4 rows at once vs accumulated: loss
4 rows at once vs accumulated: gradient
1 process vs 2 (DDP): loss
1 process vs 2 (DDP): gradient
documents together vs alone: loss
document A changed: B's logits
resumed after step 3: loss
resumed after step 3: weights
resumed after step 3: optimizer
checkpoint opened by transformers: weights
checkpoint opened by transformers: loss
checkpoint opened by transformers: gradient
""".strip().splitlines()


@pytest.mark.slow
def test_the_largest_published_model_passes_in_small(root, tmp_path):
    """Under the environment that a launcher leaves, which must not reach the runs."""
    words = ["check", str(root / "recipes/pretrain/llama3.yaml"), "--model", "llama3.1-405b"]
    environment = os.environ | {"PYTHONPATH": str(root), "RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "nowhere"}
    command = [sys.executable, "-m", "llama_train.cli", *words]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "llama3.1-405b, shrunk: 2 layers of width 256, 32 query and 2 key/value heads" in run.stdout
    assert "compared otherwise than the run: bf16: true -> fp32" in run.stdout
    for row in ROWS:
        assert [line for line in run.stdout.splitlines() if line.startswith(row) and line.endswith("ok")], row
    assert ("ZeRO-2): gradient" in run.stdout) != ("not compared: ZeRO-2" in run.stdout)
    assert not list(tmp_path.iterdir()), "nothing is written where it is run"


def test_a_breach_ends_with_1_and_its_name(monkeypatch, capsys):
    rows = [Row("resumed: loss", 0.0, 0.0), Row("resumed: weights", 3e-8, 0.0), Row("split: loss", float("nan"), 1e-5)]
    monkeypatch.setattr(check, "compare", lambda tiny, folder: (rows, ["not compared: this"]))
    with pytest.raises(SystemExit) as stopped:
        main(["check", *SIZES])
    out, err = capsys.readouterr()
    assert stopped.value.code == 1
    assert err == "error: check: 2 of 3 comparisons are out of bounds: resumed: weights; split: loss\n"
    assert [line.split()[-1] for line in out.splitlines() if line.startswith(("resumed", "split"))] == [
        *("ok", "BREACH", "BREACH")
    ]
    assert "3.0e-08    equal  BREACH" in out and "not compared: this" in out


def test_without_deepspeed_or_a_compiler_zero_is_left_out_and_said(monkeypatch):
    monkeypatch.setattr(check, "find_spec", lambda name: None)
    assert check.without_zero() == ["not compared: ZeRO-2 (deepspeed is not installed)"]
    monkeypatch.setattr(check, "find_spec", lambda name: name)
    monkeypatch.setattr(check.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    assert "C++ compiler" in check.without_zero()[0]
    monkeypatch.setenv("CXX", "clang++")
    assert check.without_zero() == []


@pytest.fixture
def inherited(root, monkeypatch):
    """What the runs need where the project is not installed."""
    monkeypatch.setenv("PYTHONPATH", str(root))


def test_a_run_that_fails_is_named_with_what_it_said(inherited, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["check", *SIZES, *"--learning_rate 1e30 --warmup_steps 0 --max_grad_norm 0".split()])
    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 1 and len(lines) == 1
    assert lines[0].startswith("error: check: the run 'whole' failed with exit code 1: error: ")
    assert "is nan" in lines[0]


def test_a_run_that_takes_too_long_is_ended(inherited, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "PATIENCE", 0.5)
    tiny = shrink(load_settings([*SIZES, "--dry_run"]), tmp_path)
    with pytest.raises(ValueError, match="the run 'slow' took longer than 0.5 s"), check.Runs(tiny) as runs:
        runs.start(tmp_path / "slow", rows=1, launcher=check.TWO)
        process = runs.running[Path(tmp_path / "slow")]
        runs.wait()
    assert process.poll() is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_settings_that_cannot_be_are_refused_before_anything_runs(capsys):
    with pytest.raises(SystemExit):
        main(["check", *SIZES, "--learning_rat", "1"])
    assert "the nearest is 'learning_rate'" in capsys.readouterr().err
