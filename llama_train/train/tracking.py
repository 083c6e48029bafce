"""What a run tells: metrics.jsonl always, a progress bar, W&B or TensorBoard where asked, loss.png, a summary table."""

import json
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_train.train.manifest import replace_file
from llama_train.train.wandb_run import WandbRun

if TYPE_CHECKING:
    from accelerate import Accelerator

    from llama_train.settings import PretrainSettings


class Tracker:
    """Writes a run's figures. Only the main process writes; every process may call.

    Rows of metrics.jsonl after `start_step` (written by a run that stopped before its next checkpoint) are dropped,
    so a resumed run has one history."""

    def __init__(self, settings: "PretrainSettings", accelerator: "Accelerator", total_steps: int, start_step: int):
        self.accelerator = accelerator
        self.main = accelerator.is_main_process
        self.output_dir = Path(settings.output_dir)
        self.total_steps, self.start_step = total_steps, start_step
        self.rows: list[dict[str, Any]] = []
        self.started = time.monotonic()
        self.bar, self.wandb = None, None
        if not self.main:  # nor do the others read: they could meet the file while it is replaced
            return
        self.rows = [row for row in read_metrics(self.output_dir) if row["step"] <= start_step]
        self._write_history()
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total_steps, initial=start_step, desc="train", unit="step", dynamic_ncols=True)
        if "wandb" in named(settings) and os.environ.get("WANDB_MODE") != "disabled":
            self.wandb = WandbRun(self.output_dir, self.say)

    def training(self, step: int, values: dict[str, Any]) -> None:
        """One row of training figures, and the line people watch: loss, tokens/s, time left."""
        self._write(step, values)
        if not self.main:
            return
        speed = f"{values['tokens_per_second']:,.0f} tokens/s"
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {values['loss']:.3f}, {speed}")
            self.bar.update(step - self.bar.n)
        else:
            left = (time.monotonic() - self.started) / (step - self.start_step) * (self.total_steps - step)
            eta = time.strftime("%H:%M:%S", time.gmtime(left))
            self.say(
                f"step {step}/{self.total_steps}  loss {values['loss']:.4f}  lr {values['learning_rate']:.2e}  {speed}  ETA {eta}"
            )

    def evaluation(self, step: int, values: dict[str, Any]) -> None:
        """One row of held-out figures."""
        self._write(step, values)
        self.say(
            f"step {step}/{self.total_steps}  eval_loss {values['eval_loss']:.4f}  "
            f"bits per byte {values['eval_bits_per_byte']:.4f}"
        )

    def saved(self, step: int, figures: dict[str, float]) -> None:
        """One row about a complete save: save_seconds, save_stall_seconds (training stood still), save_bytes."""
        self._write(step, figures)

    def left_out(self, step: int, batch: int, why: str) -> None:
        """One row, and a line, about a batch that is not trained on after `step` updates."""
        self._write(step, {"skipped_batch": batch})
        self.say(f"step {step}/{self.total_steps}  batch {batch} is left out: {why}")

    def rewind(self, step: int) -> None:
        """The run went back to `step`: later rows are dropped, but for what was left out, and will be written again.

        W&B cannot take back a step: it keeps the first figures it got for one."""
        self.rows = [row for row in self.rows if row["step"] <= step or "skipped_batch" in row]
        self._write_history()
        self.say(f"step {step}/{self.total_steps}  gone back to checkpoint-{step}")

    def newest(self) -> dict[str, Any]:
        """The newest training and held-out figures together; the median speed; untrained_eval_loss, that of step 0."""
        rows: dict[str, Any] = {}
        for row in self.rows:
            if "eval_loss" in row and row["step"] == 0:
                rows["untrained_eval_loss"] = row["eval_loss"]
            rows |= row
        if speeds := [(row["tokens_per_second"], row["mfu"]) for row in self.rows if "mfu" in row]:
            rows["tokens_per_second"], rows["mfu"] = sorted(speeds)[len(speeds) // 2]
        return rows

    def say(self, line: str) -> None:
        """Print a line on the main process, above the progress bar if there is one."""
        if self.bar is not None:
            self.bar.write(line)
        elif self.main:
            print(line, flush=True)

    def finish(self, unigram_entropy: float | None, stopped: bool = False) -> None:
        """Close bar and trackers, draw loss.png. W&B gets up to 9 seconds for what it lacks, and calls the run finished,
        or failed where it was `stopped` before its end."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        if self.main:
            draw_loss(self.rows, self.output_dir / "loss.png", unigram_entropy)
        if self.wandb:
            self.wandb.finish("stop" if stopped else "finish")
        self.accelerator.end_training()

    def _write_history(self) -> None:
        if self.main:  # aside first: a full disk must not cost the history
            text = "".join(json.dumps(row) + "\n" for row in self.rows)
            replace_file(self.output_dir / "metrics.jsonl", text)

    def _write(self, step: int, values: dict[str, Any]) -> None:
        if self.main:
            self.rows.append({"step": step, **values})
            try:
                with open(self.output_dir / "metrics.jsonl", "a", encoding="utf-8") as file:
                    file.write(json.dumps(self.rows[-1]) + "\n")
            except OSError as error:
                raise OSError(
                    f"{self.output_dir / 'metrics.jsonl'}: the figures of step {step} cannot be written "
                    f"({error.strerror}); the run goes on from its newest checkpoint when started again"
                ) from None
        if self.wandb:
            self.wandb.poll()
        self.accelerator.log(values, step=step)


def named(settings: "PretrainSettings") -> list[str]:
    """The trackers that `report_to` names."""
    return ["wandb", "tensorboard"] if "all" in settings.report_to else settings.report_to


def tracker_names(settings: "PretrainSettings") -> list[str]:
    """The trackers that Accelerate runs: not W&B, which could make a step wait. Raises ValueError where one that
    `report_to` names is not installed (Accelerate would only warn)."""
    for name in named(settings):
        if find_spec(name) is None:
            raise ValueError(f"report_to: {name} is not installed: pip install {name}, or set report_to: none")
    return [name for name in named(settings) if name != "wandb"]


def start_trackers(settings: "PretrainSettings", accelerator: "Accelerator") -> None:
    """Start TensorBoard through Accelerate, writing below output_dir. (W&B starts with the `Tracker`.)"""
    if tracker_names(settings):
        values = {key: value for key, value in vars(settings).items() if isinstance(value, (bool, int, float, str))}
        accelerator.init_trackers(settings.project, values)


def read_metrics(output_dir: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl; lines that a kill or a power loss has spoilt are left out."""
    file = output_dir / "metrics.jsonl"
    rows = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []:
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def draw_loss(rows: list[dict[str, Any]], file: Path, unigram_entropy: float | None = None) -> None:
    """Training and held-out loss by optimizer step, as a PNG."""
    from matplotlib.figure import Figure

    training = [row for row in rows if "loss" in row]
    held_out = [row for row in rows if "eval_loss" in row]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([row["step"] for row in training], [row["loss"] for row in training], lw=0.9, label="training")
    axes.plot([row["step"] for row in held_out], [row["eval_loss"] for row in held_out], "o-", ms=4, label="held out")
    if unigram_entropy:
        axes.axhline(unigram_entropy, color="grey", lw=0.8, ls="--", label="unigram entropy of the held-out text")
    axes.set(xlabel="optimizer step", ylabel="loss (nats per token)")
    axes.legend()
    figure.savefig(file, dpi=150)


def summary(title: str, figures: dict[str, Any], commands: list[str]) -> str:
    """A table of figures, and the commands worth typing next."""
    width = max(len(name) for name in figures)
    lines = [title, "-" * len(title), *(f"{name:<{width}}  {value}" for name, value in figures.items())]
    return "\n".join(["", *lines, "", "Next:", *(f"  {command}" for command in commands)])
