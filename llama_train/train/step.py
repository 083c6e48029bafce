"""One optimizer step over several micro-batches, in which every counted token weighs the same.

The loss of a step is the sum of -log p over all counted tokens of all micro-batches and processes, divided by their
number: never an average of averages, so the gradient does not depend on how the batch is split (transformers#34191,
#34242)."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from accelerate import Accelerator

    from llama_train.train.guard import Guard


def counted_tokens(batch: dict[str, Any]) -> torch.Tensor:
    """How many tokens of a batch are predicted: labels (B, T) are shifted by one inside the model, -100 is not counted."""
    return (batch["labels"][:, 1:] != -100).sum()


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with its tensors on the device, without waiting for the copies."""
    return {
        key: value.to(device, non_blocking=True) if torch.is_tensor(value) else value for key, value in batch.items()
    }


def train_step(
    model: Any,
    optimizer: torch.optim.Optimizer,
    micro_batches: list[dict[str, Any]],
    accelerator: "Accelerator",
    max_grad_norm: float,
    guard: "Guard | None" = None,
    progress: Callable[[Literal["forward", "backward"]], None] = lambda place: None,
) -> tuple[torch.Tensor, torch.Tensor | float]:
    """Forward, backward, clip and update.

    model (as it is, or within DDP or DeepSpeed's engine) and optimizer are prepared by the accelerator; micro_batches
    are this process' share of the global batch, on its device; max_grad_norm 0 does not clip. Returns this process'
    part of the step's loss (their sum over processes is the loss; fp32, detached, not yet synchronised, so that the
    device need not wait) and the gradient norm before clipping.

    A guard judges the loss before the last backward pass and the norm before the update. Where it refuses
    (`guard.verdict`) there was no update, but gradients are left to be cleared; only DeepSpeed has made its update when
    its norm is known. `progress` is told where the step is."""
    deepspeed = accelerator.distributed_type == "DEEPSPEED"
    counted = accelerator.reduce(torch.stack([counted_tokens(batch) for batch in micro_batches]).sum(), reduction="sum")
    if guard and guard.threshold is not None and deepspeed and len(micro_batches) > 1:
        # gradients that DeepSpeed has begun to add up cannot be taken back: look at the losses first
        with torch.no_grad():
            losses = [model(**batch, num_items_in_batch=counted).loss for batch in micro_batches]
        if not guard.accepts_loss(torch.stack(losses).sum()):
            return torch.stack(losses).sum(), math.nan
    # Undo what the engine will divide by: DDP, FSDP and ZeRO average over processes, accelerate over micro-batches
    # (DeepSpeed would too: scale_wrt_gas=False).
    scale = accelerator.num_processes * (1 if deepspeed else accelerator.gradient_accumulation_steps)
    options = {"scale_wrt_gas": False} if deepspeed else {}
    losses = []
    for number, batch in enumerate(micro_batches, 1):
        with accelerator.accumulate(model):
            progress("forward")
            loss = model(**batch, num_items_in_batch=counted).loss
            losses.append(loss.detach())
            if guard and number == len(micro_batches) and not guard.accepts_loss(torch.stack(losses).sum()):
                if isinstance(model, DistributedDataParallel):  # it waits for this pass: let it have one, of nothing
                    accelerator.backward(loss * 0)
                return torch.stack(losses).sum(), math.nan
            progress("backward")
            accelerator.backward(loss * scale, **options)  # DeepSpeed clips and steps in here, on the last one
            if accelerator.sync_gradients and not deepspeed:
                grad_norm = accelerator.clip_grad_norm_(model.parameters(), max_grad_norm or math.inf)
                if guard and not guard.accepts_grad_norm(grad_norm):
                    return torch.stack(losses).sum(), grad_norm  # the gradients stay for whoever looks for the layer
            optimizer.step()
            optimizer.zero_grad()
    if deepspeed:
        grad_norm = model.get_global_grad_norm()
        if guard:
            guard.accepts_grad_norm(grad_norm)
    return torch.stack(losses).sum(), grad_norm
