"""What the processes agree on as they train: the loss they judge by, whether to stop, whether a save is complete.

It goes over a group of its own on CPU (gloo), so that it neither waits for a GPU's queue nor mixes with the engine's
collectives. One small sum each step."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from accelerate import Accelerator

STOPPING = (signal.SIGTERM, signal.SIGUSR1)  # what clusters send before they take a machine away


class Control:
    """Sums over all processes; and `told_to_stop`, once this one got SIGTERM or SIGUSR1.

    Use it as a context manager: within it the signals are noted, not obeyed. Afterwards they mean what they did; after a
    stop they are ignored, since launchers send them again to whoever ends a little later than the others."""

    def __init__(self, accelerator: "Accelerator"):
        self.group = dist.new_group(backend="gloo") if accelerator.num_processes > 1 else None
        self.told_to_stop = False

    def __enter__(self) -> "Control":
        self.before = {number: signal.signal(number, self._note) for number in STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        if self.group is not None:
            # gloo's threads must have ended before the interpreter does, or at least let go of their last tensors, or it
            # aborts: ours end with the last reference; DeepSpeed keeps its own groups for good
            self.group = None
            time.sleep(0.1)
        for number, handler in self.before.items():
            signal.signal(number, signal.SIG_IGN if self.told_to_stop else handler)

    def sum(self, *values: float) -> list[float]:
        """The values' sums over all processes, in float64, the same bits on each. Every process must call it."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def min(self, *values: float) -> list[float]:
        """The smallest of each value over all processes."""
        return self._reduce(values, dist.ReduceOp.MIN)

    def _reduce(self, values: tuple[float, ...], how: dist.ReduceOp.RedOpType) -> list[float]:
        if self.group is None:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(together, op=how, group=self.group)
        return together.tolist()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.told_to_stop = True


@contextmanager
def explained_ends() -> Iterator[None]:
    """Turn what torch says when another process has ended into an OSError of one line; its other errors stay."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if "DataLoader worker" in text:
            raise ChildProcessError(
                "a data worker was killed (out of memory?): lower dataloader_num_workers, or start again: the run goes on "
                "from its newest checkpoint"
            ) from None
        if "gloo" in text or "onnection closed by peer" in text or isinstance(error, dist.DistError):
            raise ConnectionError(
                "another process is gone, see what it said; started again, the run goes on from its newest checkpoint"
            ) from None
        raise
