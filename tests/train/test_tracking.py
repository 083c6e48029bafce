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
    assert tracking.named(make(report_to=["all"])) == ["wandb", "tensorboard"]
    assert tracking.tracker_names(make(report_to=["all"])) == ["tensorboard"]  # Accelerate's: W&B has its own process


def test_tensorboard_writes_below_the_output_dir(make, tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    settings = make(report_to=["tensorboard"])
    accelerator = Accelerator(cpu=True, log_with=tracking.tracker_names(settings), project_dir=settings.output_dir)
    tracking.start_trackers(settings, accelerator)
    tracker = tracking.Tracker(settings, accelerator, 9, start_step=0)
    tracker.training(3, ROW)
    tracker.finish(unigram_entropy=4.0)
    assert list(tmp_path.rglob("events.out.tfevents.*"))
    assert (tmp_path / "loss.png").exists()


def test_a_row_that_cannot_be_written_ends_the_run_in_one_line(make, tmp_path):
    tracker = tracking.Tracker(make(), Accelerator(cpu=True), 9, start_step=0)
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(
        OSError, match=r"metrics.jsonl: the figures of step 3 cannot be written \(Is a directory\); the run"
    ):
        tracker.training(3, ROW)
