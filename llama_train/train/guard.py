"""The guard of a run's numbers: spikes are left out, NaN never passes, and its layer is named.

A step is judged twice: by its loss, before its last backward pass, and by its gradient norm, before its update (or, as
DeepSpeed updates within the backward pass, after it: the loop then rolls back). A spike is a value more than
`spike_threshold` standard deviations above the mean of the last 128 steps, as in OLMo 2's step skipping (arXiv
2501.00656; its default is 6). Without a threshold nothing is left out and NaN ends the run."""

import math
import statistics
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.tensor import DTensor

from llama_train.train.fragments import own

if TYPE_CHECKING:
    from llama_train.train.control import Control

WINDOW = 128
MOST = 10  # batches left out of a run's data before something else must be wrong
ENOUGH = 16  # steps before which nothing is called a spike
NOWHERE = "no layer that could be found afterwards"


class Guard:
    """Judges losses and gradient norms; all processes come to the same verdict."""

    def __init__(self, threshold: float | None, control: "Control"):
        self.threshold, self.control = threshold, control

    def recall(self, losses: list[float], grad_norms: list[float]) -> None:
        """A step begins: these are what the steps before it had. `remember` adds to them."""
        self.losses, self.grad_norms = losses, grad_norms
        self.loss = self.grad_norm = math.nan  # of this step
        self.verdict = ""  # why it is refused
        self.finite = True
        self.backward_done = False

    def accepts_loss(self, part: torch.Tensor) -> bool:
        """part: this process' part of the step's loss (their sum is the loss). Waits for the device."""
        self.loss = self.control.sum(float(part))[0]
        return self._accepts("loss", self.loss, self.losses)

    def accepts_grad_norm(self, grad_norm: torch.Tensor | float) -> bool:
        """grad_norm: before clipping, of all processes together."""
        self.grad_norm, self.backward_done = float(grad_norm), True
        return self._accepts("gradient norm", self.grad_norm, self.grad_norms)

    def remember(self) -> None:
        """The step has been made: what it had counts for those to come."""
        for values, value in ((self.losses, self.loss), (self.grad_norms, self.grad_norm)):
            values.append(value)
            del values[:-WINDOW]

    def _accepts(self, name: str, value: float, before: list[float]) -> bool:
        if not math.isfinite(value):
            self.finite = False
            self.verdict = f"its {name} is {value}"
        elif self.threshold is not None and len(before) >= ENOUGH:
            mean, deviation = statistics.fmean(before), statistics.pstdev(before)
            if value > mean + self.threshold * deviation:
                self.verdict = f"its {name} is {value:.4g}, the last {len(before)} were {mean:.4g} +- {deviation:.2g}"
        return not self.verdict


@torch.no_grad()
def find_not_finite(model: Any, micro_batches: Iterable[dict[str, Any]], control: "Control") -> str:
    """The first layer, in the order of the computation, whose output is not finite on these batches on any process.

    Runs them once more; every process must call it with as many."""
    names = {module: name for name, module in own(model).named_modules()}
    found: list[str] = []

    def look(module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        tensors = output if isinstance(output, (tuple, list)) else [output]
        if any(torch.is_tensor(t) and t.is_floating_point() and not t.isfinite().all() for t in tensors):
            found.append(names[module])

    spoilt = first_not_finite((name, parameter) for name, parameter in own(model).named_parameters())
    hooks = [module.register_forward_hook(look) for module in names if module is not own(model)]
    for batch in micro_batches:
        model(**batch, num_items_in_batch=1)
    for hook in hooks:
        hook.remove()
    order = list(names.values())
    place = order.index(found[0]) if found else len(order)
    return _agreed([*order, NOWHERE], place, control) + (f"; of the weights {spoilt} is not finite" if spoilt else "")


def first_not_finite_gradient(model: Any, seen: dict[str, torch.Tensor], control: "Control") -> str:
    """The parameter nearest the loss whose gradient is not finite, on any process: the backward pass begins there.

    seen: what `note_gradients` noted of this step, where gradients do not stay."""
    backwards = list(own(model).named_parameters())[::-1]
    order = [name for name, _ in backwards]
    spoilt = [name for name in order if name in seen and not seen[name]]
    found = spoilt[0] if spoilt else first_not_finite((name, parameter.grad) for name, parameter in backwards)
    return _agreed([*order, NOWHERE], order.index(found) if found else len(order), control)


def note_gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A table that each backward pass fills: parameter -> whether its gradient was finite, on the device.

    For DeepSpeed, which has dropped the gradients when their norm is known. model: before it is prepared."""
    seen: dict[str, torch.Tensor] = {}

    def note(name: str, gradient: torch.Tensor) -> None:
        finite = gradient.isfinite().all()
        seen[name] = finite & seen[name] if name in seen else finite

    for name, parameter in model.named_parameters():
        parameter.register_hook(partial(note, name))
    return seen


def first_not_finite(tensors: Iterable[tuple[str, torch.Tensor | None]]) -> str:
    """The name of the first tensor with an element that is not finite, or "". Of sharded ones this process' part."""
    for name, tensor in tensors:
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        if local is not None and not local.isfinite().all():
            return name
    return ""


def _agreed(order: list[str], place: int, control: "Control") -> str:
    """The name at the smallest place any process found."""
    return order[int(control.min(float(place))[0])]
