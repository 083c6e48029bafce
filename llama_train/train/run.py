"""A run: model, optimizer, data and state together, and what can be done with them. loop.py says when."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from llama_train.data.batches import eval_batches, train_batches
from llama_train.data.packing import Rows
from llama_train.settings import settings_to_yaml
from llama_train.train.checkpoint import checkpoints, find_checkpoint, load_training_state, mark_launch, move_aside
from llama_train.train.engine import asked
from llama_train.train.evaluate import evaluate, unigram_entropy
from llama_train.train.fragments import fragments
from llama_train.train.guard import (
    MOST,
    Guard,
    find_not_finite,
    first_not_finite,
    first_not_finite_gradient,
    note_gradients,
)
from llama_train.train.ledger import go_on, segment
from llama_train.train.manifest import replace_file
from llama_train.train.optimizer import adamw
from llama_train.train.saving import Saver
from llama_train.train.schedule import learning_rate
from llama_train.train.step import to_device, train_step
from llama_train.train.throughput import Meter
from llama_train.train.tracking import Tracker
from llama_train.train.watchdog import Watchdog

if TYPE_CHECKING:
    from accelerate import Accelerator

    from llama_train.model.llama import LlamaForCausalLM
    from llama_train.planner import Plan
    from llama_train.settings import PretrainSettings
    from llama_train.train.control import Control


class Run:
    """Every process has one, and calls the same methods in the same order."""

    def __init__(
        self,
        model: "LlamaForCausalLM",
        rows: Rows,
        eval_rows: Rows | None,
        settings: "PretrainSettings",
        plan: "Plan",
        accelerator: "Accelerator",
        control: "Control",
        checkpoint: Path | None,
    ):
        """Prepare for the engine, and take up the state of `checkpoint` (`model` has its weights already).

        Raises ValueError when its data was another and may not be."""
        self.rows, self.eval_rows, self.settings, self.plan = rows, eval_rows, settings, plan
        self.accelerator, self.control = accelerator, control
        self.output_dir = Path(settings.output_dir)
        deepspeed = accelerator.distributed_type == "DEEPSPEED"
        self.gradients = note_gradients(model) if deepspeed else {}
        self.model, self.optimizer = accelerator.prepare(model, adamw(model, settings))
        self.state: dict[str, Any] = {
            "step": 0,
            "batch": 0,  # global batches taken from the newest segment of the ledger, those left out included
            "num_input_tokens_seen": 0,
            "engine": asked(os.environ)[0],
            "num_processes": accelerator.num_processes,
            "eval_loss": None,  # of exactly these weights
            "ledger": [segment(rows, settings, plan, accelerator.num_processes)],
            "losses": [],
            "grad_norms": [],
        }
        if checkpoint:
            self._take_up(checkpoint, weights=False)
        control.sum(0)  # all have read what they start from, should it be among what is moved
        if accelerator.is_main_process:  # and only now is it known that this run can be
            move_aside(self.output_dir, self.state["step"])
            mark_launch(self.output_dir, os.environ)
            replace_file(self.output_dir / "config.yaml", settings_to_yaml(settings))
        self.tracker = Tracker(settings, accelerator, plan.steps, self.state["step"])
        self.guard = Guard(settings.spike_threshold, control)
        self.saver = Saver(
            accelerator,
            control,
            tokenizer=settings.tokenizer_name_or_path,
            keep=settings.save_total_limit,
            background=settings.async_save,
            progress=lambda: self.watchdog.beat(self.step, "save"),
        )
        self.saved_step = self.state["step"]
        self.stopped = False  # told to, by a signal to any process
        self.entropy = unigram_entropy(eval_rows.shards) if eval_rows else None
        if self.entropy and self.step == 0:
            self.tracker.say(f"unigram entropy of the held-out text: {self.entropy:.4f} nats per token")
        if self.step >= plan.steps:
            self.tracker.say(
                f"{self.output_dir} is trained to step {self.step} of {plan.steps} already: a larger --max_steps goes on"
            )
        self.batches: Iterator[list[dict[str, Any]]] | None = None
        self.losses: list[float] = []  # since the last log
        self.meter = Meter(plan.flops_per_token, accelerator.device, settings.bf16, accelerator.num_processes)
        self.model.train()
        self.watchdog = Watchdog(accelerator, settings.hang_timeout, self.output_dir)  # last: it watches from now on

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.watchdog.stop()
        self.batches = None  # ends the data workers, which hold what this process has open

    @property
    def step(self) -> int:
        """Updates made."""
        return self.state["step"]

    def next_batch(self) -> list[dict[str, Any]]:
        """This process' micro-batches of the next global batch, on its device."""
        self.watchdog.beat(self.step + 1, "data")
        left_out = self.state["ledger"][-1]["skipped_batches"]
        while self.state["batch"] in left_out:  # by the guard, before the run went back
            self.state["batch"] += 1
        if self.batches is None:
            self.batches = train_batches(
                self.rows,
                seed=self.settings.seed,
                per_device_batch_size=self.settings.per_device_train_batch_size,
                accumulation=self.plan.accumulation,
                rank=self.accelerator.process_index,
                world=self.accelerator.num_processes,
                start_batch=self.state["batch"],
                skip=frozenset(left_out),
                num_workers=self.settings.dataloader_num_workers,
                packing=self.settings.packing,
                pin_memory=self.accelerator.device.type == "cuda",
            )
        return [to_device(batch, self.accelerator.device) for batch in next(self.batches)]

    def update(self, micro_batches: list[dict[str, Any]]) -> bool:
        """One optimizer step; False where the guard refused it, and `leave_out` is to follow."""
        self.rate = learning_rate(self.step, **self.plan.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.guard.recall(self.state["losses"], self.state["grad_norms"])
        self.gradients.clear()
        train_step(
            self.model,
            self.optimizer,
            micro_batches,
            self.accelerator,
            self.settings.max_grad_norm,
            self.guard,
            progress=lambda place: self.watchdog.beat(self.step + 1, place),
        )
        if self.guard.verdict:
            return False
        self.guard.remember()
        self.losses.append(self.guard.loss)
        self.state["step"] += 1
        self.state["batch"] += 1
        self.state["num_input_tokens_seen"] += self.plan.tokens_per_step
        self.state["eval_loss"] = None
        return True

    def leave_out(self, micro_batches: list[dict[str, Any]]) -> None:
        """Go on without the batch the guard refused, from the weights before it.

        Raises FloatingPointError where that is not wanted (no spike_threshold), or happened too often."""
        guard, batch, verdict = self.guard, self.state["batch"], self.guard.verdict
        if not guard.finite and guard.backward_done:
            verdict += (
                f", first in the gradient of {first_not_finite_gradient(self.model, self.gradients, self.control)}"
            )
        elif not guard.finite:
            verdict += f", first in {find_not_finite(self.model, micro_batches, self.control)}"
        skipped_batches = self.state["ledger"][-1]["skipped_batches"]
        if self.settings.spike_threshold is None:
            self._fail(self.step + 1, verdict)
        if len(skipped_batches) >= MOST:
            self._fail(self.step + 1, f"{verdict}, and {len(skipped_batches)} batches were left out before it")
        self.tracker.left_out(self.step, batch, verdict)
        if guard.backward_done and self.accelerator.distributed_type == "DEEPSPEED":  # it has made its update
            self._roll_back(verdict)
            self.state["ledger"][-1]["skipped_batches"] = [*skipped_batches, batch]
        else:
            self.optimizer.zero_grad()
            skipped_batches.append(batch)
            self.state["batch"] += 1

    def log(self) -> None:
        """One row of training figures since the last one."""
        figures = {
            "loss": sum(self.losses) / len(self.losses),
            "learning_rate": self.rate,
            "grad_norm": self.guard.grad_norm,
            "num_input_tokens_seen": self.state["num_input_tokens_seen"],
            "epoch": self.state["batch"] * self.plan.rows_per_step / len(self.rows),
            **self.meter.read(len(self.losses) * self.plan.tokens_per_step),
        }
        self.losses.clear()
        self.tracker.training(self.step, figures)

    def evaluate(self) -> None:
        """Held-out figures of the present weights; given up where the run is to stop."""

        def until_stopped(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
            for batch in batches:
                self.watchdog.beat(self.step, "evaluation")
                yield batch
                self.look_up()
                if self.stopped:
                    return

        batches = eval_batches(
            self.eval_rows,
            batch_size=self.settings.per_device_eval_batch_size,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            max_rows=self.settings.max_eval_rows,
            packing=self.settings.packing,
        )
        shards = self.eval_rows.shards
        prefix_after = shards.tokenizer["bos_token_id"] if shards.tokenizer.get("dummy_prefix") else None
        figures = evaluate(self.model, until_stopped(batches), shards.token_bytes, self.accelerator, prefix_after)
        if self.stopped:
            return
        if not math.isfinite(figures["eval_loss"]):
            self._fail(self.step, f"its held-out loss is {figures['eval_loss']}")
        self.state["eval_loss"] = figures["eval_loss"]
        self.tracker.evaluation(self.step, figures)
        self.meter.start()

    def save(self) -> None:
        """output_dir/checkpoint-{step}. Raises FloatingPointError instead where the last update spoilt the weights."""
        if self.step == self.saved_step:
            return
        self.watchdog.beat(self.step, "save")
        owned = fragments(self.model, self.optimizer, self.accelerator)
        spoilt = first_not_finite((fragment.name, fragment.of(fragment.owner)) for fragment in owned)
        if self.control.sum(bool(spoilt))[0]:
            self._fail(self.step, f"its update spoilt the weights ({spoilt or 'on another process'})")
        self.saver.checkpoint(self.model, self.optimizer, self.output_dir, self.state)
        self.saved_step = self.step
        self.meter.start()

    def look_up(self) -> None:
        """What the world wants: has any process been told to stop, is a save complete that went on in the background."""
        stop, done, failed = self.control.sum(self.control.told_to_stop, *self.saver.flags())
        if stop:
            self.stopped = self.control.told_to_stop = True
        self.saver.poll(done, failed)
        if self.saver.figures:
            self.tracker.saved(self.step, self.saver.figures)
            self.saver.figures = {}

    def finish(self) -> dict[str, Any]:
        """Write output_dir/final, unless the run was stopped; close everything. The newest figures, on the main process."""
        self.saver.wait()
        self.look_up()
        if not self.stopped:
            self.saver.model(self.model, self.output_dir / "final", self.state)
        self.tracker.finish(self.entropy, self.stopped)
        figures = {"step": self.step, "unigram_entropy": self.entropy, "peak": self.meter.peak_name}
        return self.tracker.newest() | figures | {"stopped": self.stopped}

    def _take_up(self, checkpoint: Path, weights: bool) -> None:
        """The state of a verified checkpoint; its weights too, unless the model was made from them."""
        saved = load_training_state(self.accelerator, self.model, self.optimizer, checkpoint, weights)
        self.state = go_on(saved, self.state, checkpoint, self.settings.accept_changed_data)

    def _roll_back(self, verdict: str) -> None:
        """Weights, optimizer and place in the data as the newest good checkpoint has them."""
        self.saver.wait()
        self.look_up()
        checkpoint = find_checkpoint("auto", self.output_dir, self.accelerator, self.control)
        if checkpoint is None:
            self._fail(
                self.step + 1, f"{verdict}, DeepSpeed has made its update, and there is no checkpoint to go back to"
            )
        self._take_up(checkpoint, weights=True)
        self.batches, self.losses, self.saved_step = None, [], self.step
        self.tracker.rewind(self.step)

    def _fail(self, step: int, why: str) -> NoReturn:
        saved = checkpoints(self.output_dir)
        raise FloatingPointError(
            f"step {step} cannot be trusted: {why}; nothing was saved from it, the newest checkpoint is "
            f"{saved[-1] if saved else 'none'}: lower learning_rate, lengthen warmup_steps, or look at that step's text"
            + (" (spike_threshold leaves such batches out)" if self.settings.spike_threshold is None else "")
        )
