"""The watchdog: a run in which nothing moves any more is ended, and says which process was where.

Every process runs two threads beside its training. One tells the main process, once a second, where this process is; the
other compares. Not heard of any more: stopped or dead, or its machine is gone. Heard of, but without a beat for too long:
it hangs, or waits in a collective for one that does. The process that is behind comes first in the verdict.
"""

import json
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch.distributed import TCPStore

from llama_train.errors import HUNG, label

if TYPE_CHECKING:
    from accelerate import Accelerator

Place = Literal["start", "data", "forward", "backward", "update", "evaluation", "save"]

SILENCE = 45.0  # seconds without a word from a thread that has nothing else to do
FIRST = 600.0  # seconds allowed in a place never left so far: the first time compiles kernels, connects, fills caches
PATIENCE = 5.0  # times the slowest visit of a place so far is still not a hang
FORGET = 0.98  # what remains of the slowest visit with each further one: after 100 of them, an eighth
REPORT = 10.0  # seconds to write the stacks; a dead disk or a full pipe must not keep a process alive


class Position(NamedTuple):
    """Where a process is, as it tells the others."""

    tick: int  # counts the words, so that two of them differ
    step: int
    place: str
    beats: int  # in this step; the writers of a save have more than the others
    stalled: float  # seconds since the last beat, those in which this process was stopped not counted
    limit: float  # seconds allowed there
    line: str  # what its main thread executes
    waits: bool  # in a collective, as far as Python sees: not in the middle of DDP's backward
    left: bool = False


class Watchdog:
    """Ends this process with exit code 70 when it, or one that it needs, no longer gets on.

    All processes make one together, enter the same places in the same order, and stop it when they are through, whatever
    happened: `with Watchdog(...) as watchdog:`. timeout: seconds without a beat that are a hang, but never less than 5
    times what that place has lately taken, and 10 minutes where it has never been left; 0 watches nothing."""

    def __init__(self, accelerator: "Accelerator", timeout: float, output_dir: Path):
        self._rank, self._world = accelerator.process_index, accelerator.num_processes
        self._timeout, self._output_dir = timeout, output_dir
        self._interval = min(1.0, timeout / 10)
        # step, place, beats in the step, beats: always replaced as a whole, since two threads read it
        self._position: tuple[int, str, int, int] = (0, "start", 0, 0)
        self._stall = (0, 0.0)  # beats, seconds since
        self._slowest: dict[str, float] = {}  # seconds by place
        self._awake = 0.0  # seconds this process has run: a clock that stands still while the process is stopped
        self._own = Position(0, *self._position[:3], 0.0, FIRST, "", False)
        others = range(1, self._world) if self._rank == 0 else range(1)  # the main process hears all, they hear only it
        self._known = dict.fromkeys(others, self._own)
        self._heard: dict[int, tuple[int, float]] = {}  # the newest tick, and when it came in awake seconds
        self._verdict = ""
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._watch, name="watchdog", daemon=True)] if timeout else []
        if timeout and self._world > 1:
            self._connect(accelerator)
            self._threads.append(threading.Thread(target=self._exchange, name="watchdog exchange", daemon=True))
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Watchdog":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def beat(self, step: int, place: Place) -> None:
        """The training enters `place` of `step`, or gets on in it. By the main thread only; takes under a microsecond."""
        at, before, in_step, beats = self._position
        stall = self._stall
        took = stall[1] if stall[0] == beats else 0.0
        self._slowest[before] = max(took, FORGET * self._slowest.get(before, 0.0))
        self._position = (step, place, in_step + 1 if step == at else 0, beats + 1)

    def stop(self) -> None:
        """Watch no longer: the run is over, or ends with an error of its own."""
        self._stopped.set()
        for thread in self._threads:
            # longer than a verdict takes that is under way; not for ever, should the main process' store be dead
            thread.join(REPORT + 5 * self._interval)

    def _connect(self, accelerator: "Accelerator") -> None:
        from accelerate.utils import broadcast

        host, main = os.environ["MASTER_ADDR"], accelerator.is_main_process
        # its clients block without limit while the main process is stopped, whatever timeout they have: hence two threads
        if main:
            self._store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
            self._store.set("verdict", "")
        port = broadcast(torch.tensor(self._store.port if main else 0, device=accelerator.device))
        if not main:
            self._store = TCPStore(host, int(port), is_master=False)
        self._store.set(str(self._rank), json.dumps(self._own))
        accelerator.wait_for_everyone()  # now every key is there: no one has to wait for it

    def _exchange(self) -> None:
        others = list(self._known)
        try:
            while not self._stopped.wait(self._interval):
                self._store.set(str(self._rank), json.dumps(self._own))
                verdict, *rows = self._store.multi_get(["verdict", *map(str, others)])
                self._known = {i: Position(*json.loads(row)) for i, row in zip(others, rows, strict=True)}
                self._verdict = verdict.decode()
            self._store.set(str(self._rank), json.dumps(self._own._replace(left=True)))
        except RuntimeError:
            pass  # the main process is gone: that no more is heard of it will tell

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._stopped.wait(self._interval):
            now = time.monotonic()
            # a longer pause was no time to get on in: stopped (Ctrl-Z), a suspended laptop, a machine that swaps
            elapsed = min(now - last, 2 * self._interval)
            last = now
            self._awake += elapsed
            step, place, in_step, beats = self._position
            self._stall = (beats, self._stall[1] + elapsed if self._stall[0] == beats else 0.0)
            slowest = self._slowest.get(place)
            limit = FIRST if slowest is None else PATIENCE * slowest
            limit = max(self._timeout, limit)
            self._own = Position(self._own.tick + 1, step, place, in_step, self._stall[1], limit, *_main_thread())
            known = {**self._known, self._rank: self._own}
            for i, position in known.items():
                if i not in self._heard or self._heard[i][0] != position.tick:
                    self._heard[i] = (position.tick, self._awake)
            if verdict := self._verdict or self._judge(known):
                self._give_up(*json.loads(verdict))

    def _judge(self, known: dict[int, Position]) -> str:
        """The step and the sentence as JSON, or nothing. Only the main process knows enough to judge who hangs."""
        silence = {i: self._awake - self._heard[i][1] for i, position in known.items() if not position.left}
        gone = any(seconds > min(SILENCE, self._timeout) for seconds in silence.values())
        hung = self._rank == 0 and any(known[i].stalled > known[i].limit for i in silence)
        if not (gone or hung):
            return ""
        silent = {i: seconds for i, seconds in silence.items() if seconds > 6 * self._interval}
        step = max(position.step for position in known.values())
        sentence = _describe(known, silent)
        if not silent:
            sentence += f"; if they were only slow, raise hang_timeout ({self._timeout:g} s)"
        verdict = json.dumps([step, sentence])
        if self._rank == 0 and self._world > 1:
            self._store.set("verdict", verdict)
        return verdict

    def _give_up(self, step: int, sentence: str) -> None:
        try:
            report = threading.Thread(target=self._report, args=(step, sentence), name="watchdog report", daemon=True)
            report.start()
            report.join(REPORT)
            # until all have read the verdict and written: when the first leaves, the launcher ends the others
            time.sleep(3 * self._interval)
            for child in multiprocessing.active_children():
                child.kill()  # a data worker that sleeps would keep this process' pipes open
        finally:
            os._exit(HUNG)

    def _report(self, step: int, sentence: str) -> None:
        folder = self._output_dir / f"hang-{step}"
        line = f"{label()}: the run hangs: {sentence}; stacks in {folder}; started again, it goes on from the newest checkpoint"
        # not through sys.stderr, whose lock the main thread may hold; in one piece, since all processes write at once
        stacks = _stacks()
        os.write(2, f"{line}\n{stacks}".encode(errors="replace"))
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / f"process-{self._rank}.txt", "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n{stacks}")
        sys.stdout.flush()


def _describe(known: dict[int, Position], silent: dict[int, float]) -> str:
    """Who is where: first who is not heard of, then who waits for no one, then who is behind; equals together."""
    groups: dict[tuple, list[int]] = {}
    for i, here in sorted(known.items(), key=lambda item: item[1].beats):
        groups.setdefault((i not in silent, here.left, here.waits, here.step, here.place), []).append(i)
    parts = []
    for _, processes in sorted(groups.items(), key=lambda group: group[0][:4]):  # in a step: as they were entered
        first = processes[0]
        here = known[first]
        where = "before the first step" if here.place == "start" else f"in {here.place} of step {here.step}"
        if first in silent:
            state = (
                f"not heard of for {silent[first]:.0f} s (stopped or dead, or its machine is gone), last known {where}"
            )
        elif here.left:
            state = f"ended {where}"
        else:
            state = f"{'waiting ' * here.waits}{where} for {here.stalled:.0f} s ({here.line})"
        parts.append(f"{_names(processes)} {state}")
    return "; ".join(parts)


def _names(processes: Iterable[int], shown: int = 8) -> str:
    numbers = sorted(processes)
    more = f" and {len(numbers) - shown} more" if len(numbers) > shown else ""
    return f"process{'es' * (len(numbers) > 1)} {', '.join(map(str, numbers[:shown]))}{more}"


def _main_thread() -> tuple[str, bool]:
    """What the main thread executes, and whether that is a collective."""
    frame = sys._current_frames()[threading.main_thread().ident]
    modules = [inner.f_globals.get("__name__", "") for inner, _ in traceback.walk_stack(frame)]
    line = f"{frame.f_code.co_name}, {Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
    return line, any(module.startswith("torch.distributed.distributed_c10d") for module in modules)


def _stacks() -> str:
    """All threads' stacks, innermost call last. Reads no source files: their disk may be what hangs."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    text = ""
    for ident, frame in sys._current_frames().items():
        name = names.get(ident, str(ident))
        if name.startswith("watchdog"):
            continue
        text += f"thread {name}:\n"
        for inner, line in reversed(list(traceback.walk_stack(frame))):
            text += f'  File "{inner.f_code.co_filename}", line {line}, in {inner.f_code.co_name}\n'
    return text
