"""The loop: every recipe trains with it, on every engine."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_train.train.isolation import check_isolation
from llama_train.train.run import Run

if TYPE_CHECKING:
    from accelerate import Accelerator

    from llama_train.data.packing import Rows
    from llama_train.model.llama import LlamaForCausalLM
    from llama_train.planner import Plan
    from llama_train.settings import PretrainSettings
    from llama_train.train.control import Control


def train(
    model: "LlamaForCausalLM",
    rows: "Rows",
    eval_rows: "Rows | None",
    settings: "PretrainSettings",
    plan: "Plan",
    accelerator: "Accelerator",
    control: "Control",
    checkpoint: Path | None,
) -> dict[str, Any]:
    """Train to plan.steps, from `checkpoint` if there is one (`model` has its weights already); write output_dir/final.

    Returns the newest figures (on the main process); `stopped` is true where SIGTERM or SIGUSR1 ended the run early,
    after a checkpoint. Raises FloatingPointError when loss, gradients or weights are not finite (or too often spike),
    before anything is saved from them, ValueError when `checkpoint` is another run's, OSError when a checkpoint cannot be
    written."""
    with Run(model, rows, eval_rows, settings, plan, accelerator, control, checkpoint) as run:
        return _train(run)


def _train(run: Run) -> dict[str, Any]:
    settings, last_step = run.settings, run.plan.steps
    if (
        run.eval_rows
        and run.state["eval_loss"] is None
        and (run.step in (0, last_step) or is_due(run.step, settings.eval_steps))
    ):
        run.evaluate()  # before the first step; or because a signal interrupted it
    first = settings.packing
    while run.step < last_step and not run.stopped:
        micro_batches = run.next_batch()
        if first:
            check_isolation(run.model, micro_batches[0], run.accelerator)
            first = False
        if not run.update(micro_batches):
            run.leave_out(micro_batches)
            continue
        run.look_up()
        last = run.step == last_step
        saving = last or run.stopped or is_due(run.step, settings.save_steps)
        evaluating = run.eval_rows and not run.stopped and (last or is_due(run.step, settings.eval_steps))
        if saving or evaluating or is_due(run.step, settings.logging_steps):
            run.log()
        if evaluating:
            run.evaluate()
        if saving or run.stopped:
            run.save()
            run.look_up()
    return run.finish()


def is_due(step: int, interval: int) -> bool:
    """Every `interval` steps; never where that is 0."""
    return interval > 0 and step % interval == 0
