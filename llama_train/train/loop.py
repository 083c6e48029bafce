"""The loop: every recipe trains with it, on every engine."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.tensor import DTensor

from llama_train.data.batches import eval_batches, train_batches
from llama_train.data.packing import Rows
from llama_train.settings import settings_to_yaml
from llama_train.train.checkpoint import checkpoints, load_training_state, move_aside, save_checkpoint, save_model
from llama_train.train.engine import asked
from llama_train.train.evaluate import evaluate, unigram_entropy
from llama_train.train.optimizer import adamw
from llama_train.train.schedule import learning_rate
from llama_train.train.step import to_device, train_step
from llama_train.train.throughput import Meter
from llama_train.train.tracking import Tracker

if TYPE_CHECKING:
    from accelerate import Accelerator

    from llama_train.model.llama import LlamaForCausalLM
    from llama_train.planner import Plan
    from llama_train.settings import PretrainSettings


def train(
    model: "LlamaForCausalLM",
    rows: Rows,
    eval_rows: Rows | None,
    settings: "PretrainSettings",
    plan: "Plan",
    accelerator: "Accelerator",
    checkpoint: Path | None,
) -> dict[str, Any]:
    """Train to plan.steps, from `checkpoint` if there is one (`model` has its weights already); write output_dir/final.

    Returns the newest figures (on the main process). Raises FloatingPointError when the loss is not finite, before
    anything is saved from it, ValueError when `checkpoint` is another run's, and OSError when a checkpoint cannot be
    written."""
    output_dir = Path(settings.output_dir)
    optimizer = adamw(model, settings)
    model, optimizer = accelerator.prepare(model, optimizer)
    state = {
        "step": 0,
        "num_input_tokens_seen": 0,
        "engine": asked(os.environ)[0],
        "num_processes": accelerator.num_processes,
        "rows_per_step": plan.rows_per_step,
        "max_length": rows.max_length,
        "seed": settings.seed,
        "shards": rows.shards.fingerprint,
    }
    if checkpoint:
        saved = load_training_state(accelerator, model, optimizer, checkpoint, state["engine"])
        state = _resumed(saved, state, checkpoint)
    accelerator.wait_for_everyone()  # all have read what they start from, should it be among what is moved
    if accelerator.is_main_process:  # and only now is it known that this run can be
        move_aside(output_dir, state["step"])
        (output_dir / "config.yaml").write_text(settings_to_yaml(settings), encoding="utf-8")
    tracker = Tracker(settings, accelerator, plan.steps, state["step"])
    if state["step"] >= plan.steps:
        tracker.say(
            f"{output_dir} is trained to step {state['step']} of {plan.steps} already: a larger --max_steps goes on"
        )
    meter = Meter(plan.flops_per_token, accelerator.device, settings.bf16, accelerator.num_processes)

    def held_out(step: int) -> None:
        batches = eval_batches(
            eval_rows,
            batch_size=settings.per_device_eval_batch_size,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            max_rows=settings.max_eval_rows,
            packing=settings.packing,
        )
        figures = evaluate(model, batches, eval_rows.shards.token_bytes, accelerator)
        _check_finite("held-out loss", figures["eval_loss"], step, output_dir)
        tracker.evaluation(step, figures)

    entropy = unigram_entropy(eval_rows.shards) if eval_rows else None
    if eval_rows and state["step"] == 0:
        tracker.say(f"unigram entropy of the held-out text: {entropy:.4f} nats per token")
        held_out(0)

    model.train()
    batches = train_batches(
        rows,
        seed=settings.seed,
        per_device_batch_size=settings.per_device_train_batch_size,
        accumulation=plan.accumulation,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        start_step=state["step"],
        num_workers=settings.dataloader_num_workers,
        packing=settings.packing,
        pin_memory=accelerator.device.type == "cuda",
    )
    losses: list[torch.Tensor] = []  # since the last log; read together, so that the device is not waited for each step
    meter.start()
    for step in range(state["step"] + 1, plan.steps + 1):
        rate = learning_rate(step - 1, **plan.schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        micro_batches = [to_device(batch, accelerator.device) for batch in next(batches)]
        loss, grad_norm = train_step(model, optimizer, micro_batches, accelerator, settings.max_grad_norm)
        losses.append(loss)
        state["step"] = step
        state["num_input_tokens_seen"] += plan.tokens_per_step

        last = step == plan.steps
        saving = last or (settings.save_steps and step % settings.save_steps == 0)
        evaluating = eval_rows and (last or (settings.eval_steps and step % settings.eval_steps == 0))
        if saving or evaluating or step % settings.logging_steps == 0:
            figures = {
                "loss": _mean_loss(losses, step, accelerator, output_dir),
                "learning_rate": rate,
                "grad_norm": _check_finite("gradient norm", float(grad_norm), step, output_dir),
                "num_input_tokens_seen": state["num_input_tokens_seen"],
                "epoch": step * plan.rows_per_step / len(rows),
                **meter.read(len(losses) * plan.tokens_per_step),
            }
            losses.clear()
            tracker.training(step, figures)
        if evaluating:
            held_out(step)
        if saving:
            _check_weights(model, step, accelerator, output_dir)
            keep = settings.save_total_limit
            save_checkpoint(accelerator, model, optimizer, settings.tokenizer_name_or_path, output_dir, state, keep)
        if saving or evaluating:
            meter.start()
    save_model(accelerator, model, settings.tokenizer_name_or_path, output_dir / "final")
    tracker.finish(entropy)
    return tracker.newest() | {"step": state["step"], "unigram_entropy": entropy, "peak": meter.peak_name}


def _mean_loss(losses: list[torch.Tensor], step: int, accelerator: "Accelerator", output_dir: Path) -> float:
    """Mean loss of the steps since the last log, `step` being the newest; losses are this process' shares."""
    per_step = accelerator.reduce(torch.stack(losses), reduction="sum").tolist()
    for i, loss in enumerate(per_step, start=step - len(per_step) + 1):
        _check_finite("loss", loss, i, output_dir)
    return sum(per_step) / len(per_step)


def _check_finite(name: str, value: float, step: int, output_dir: Path) -> float:
    if not math.isfinite(value):
        saved = checkpoints(output_dir)
        raise FloatingPointError(
            f"the {name} of step {step} is {value}; nothing was saved from it, the newest checkpoint is "
            f"{saved[-1] if saved else 'none'}: lower learning_rate, lengthen warmup_steps, or look at that step's text"
        )
    return value


def _check_weights(model: Any, step: int, accelerator: "Accelerator", output_dir: Path) -> None:
    """An update can spoil the weights after its loss was fine: look at them before they are saved."""
    own = [p.to_local() if isinstance(p, DTensor) else p for p in model.parameters()]  # FSDP2: this process' shards
    spoilt = torch.stack([~parameter.isfinite().all() for parameter in own]).any().float()
    if accelerator.reduce(spoilt, reduction="sum"):
        _check_finite("weights", math.nan, step, output_dir)


def _resumed(saved: dict[str, Any], fresh: dict[str, Any], checkpoint: Path) -> dict[str, Any]:
    """The saved state with this run's engine; its place in the data only means the same place if these agree."""
    for key, name in (
        ("shards", "the token shards"),
        ("max_length", "max_length"),
        ("seed", "seed"),
        ("rows_per_step", "the rows of a step (per_device_train_batch_size x accumulation x processes)"),
    ):
        if saved[key] != fresh[key]:
            then, now = (str(state[key])[:12] for state in (saved, fresh))
            raise ValueError(
                f"{name} changed since {checkpoint} ({then} then, {now} now), so its place in the data is lost: "
                f"put it back, or start from its weights with --model_name_or_path {checkpoint} --output_dir ANOTHER"
            )
    return saved | {key: fresh[key] for key in ("engine", "num_processes")}
