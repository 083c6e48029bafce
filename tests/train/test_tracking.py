"""What a run tells: one history across resumes, trackers only where they are installed, W&B offline without a key."""

import json

import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from llama_train.settings import PretrainSettings
from llama_train.train import tracking

ROW = {"loss": 2.0, "learning_rate": 1e-3, "tokens_per_second": 100.0}
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 96}


@pytest.fixture
def make(tmp_path):
    """settings with an output_dir, and Accelerate as if newly started."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    return lambda **more: PretrainSettings(**SIZES, max_steps=9, output_dir=str(tmp_path), **more).resolve()


def test_rows_after_the_resumed_step_are_dropped(make, tmp_path):
    lines = [json.dumps({"step": step, "loss": float(step)}) for step in (2, 4, 6)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 8, "lo')  # killed while writing
    tracker = tracking.Tracker(make(), Accelerator(cpu=True), 9, start_step=4)
    tracker.training(6, {**ROW, "loss": 1.5})
    rows = tracking.read_metrics(tmp_path)
    assert [(row["step"], row["loss"]) for row in rows] == [(2, 2.0), (4, 4.0), (6, 1.5)]


def test_progress_is_a_line_with_speed_and_time_left(make, capsys):
    tracker = tracking.Tracker(make(), Accelerator(cpu=True), 9, start_step=0)
    tracker.training(3, ROW)
    line = capsys.readouterr().out
    assert line.startswith("step 3/9  loss 2.0000  lr 1.00e-03  100 tokens/s  ETA 00:00:")


def test_the_newest_figures_keep_the_first_held_out_loss(make):
    tracker = tracking.Tracker(make(), Accelerator(cpu=True), 9, start_step=0)
    for step, loss in ((0, 5.0), (3, 4.0), (6, 3.0)):
        tracker.evaluation(step, {"eval_loss": loss, "eval_bits_per_byte": 1.0})
    newest = tracker.newest()
    assert (newest["step"], newest["untrained_eval_loss"], newest["eval_loss"]) == (6, 5.0, 3.0)


def test_a_tracker_that_is_not_installed_is_refused(make, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match="report_to: wandb is not installed: pip install wandb, or set report_to: none"
    ):
        tracking.tracker_names(make(report_to=["wandb"]))


def test_all_means_both_trackers(make, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: object())
    assert tracking.tracker_names(make(report_to=["all"])) == ["wandb", "tensorboard"]


def test_wandb_is_offline_without_a_key_and_tensorboard_writes(make, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="W&B is not installed")
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))  # no key of the person who runs the tests
    settings = make(report_to=["all"])
    accelerator = Accelerator(cpu=True, log_with=tracking.tracker_names(settings), project_dir=settings.output_dir)
    tracking.start_trackers(settings, accelerator)
    tracker = tracking.Tracker(settings, accelerator, 9, start_step=0)
    tracker.training(3, ROW)
    tracker.finish(unigram_entropy=4.0)
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert list(tmp_path.rglob("events.out.tfevents.*"))
    assert (tmp_path / "loss.png").exists()


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
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".netrc").write_text(netrc)
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tracking.wandb_key_is_set() is known
