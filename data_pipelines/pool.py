"""Heavy parsers in processes of their own: input that makes one hang, grow or crash costs itself and nothing else.

The processes are plain Pythons started here, so that they work under any executor, whose own workers may be forbidden
to have children; they end with whoever started them."""

import importlib
import os
import resource
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, Pipe
from typing import Any, NamedTuple

import psutil

START_SECONDS = 120  # until a process has imported its parser, on a machine that is very busy


class Failure(NamedTuple):
    """What stands in place of a result: why there is none, in words fit for an account."""

    reason: str


def run_guarded(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    seconds: float = 20,
    megabytes: int = 1024,
    workers: int = 1,
    recycle: int = 2000,
    batch: int = 16,
) -> Iterator[tuple[Any, Any]]:
    """(item, function(item)) for each item, in their order; a `Failure` for one that took too much or raised.

    function: of a module's top level, found there by name; items and results travel between processes. seconds: of wall
    clock an item may take. megabytes: of address space a process may add to what it has when it starts (Linux; ignored
    where there is no such limit). recycle: items after which a process is replaced, so that leaks stay small. batch: items
    that are given to a process at once: many small ones, or a single large one; at most 4 x workers batches are in
    memory. Raises RuntimeError where the processes do not even start."""
    source = iter(items)
    batches = iter(lambda: list(islice(source, batch)), [])
    idle = [_Process(function, seconds, megabytes, recycle) for _ in range(workers)]

    def parse(some: list[Any]) -> list[Any]:
        process = idle.pop()
        try:
            return [process.run(item) for item in some]
        finally:
            idle.append(process)

    waiting: deque[tuple[list[Any], Future[list[Any]]]] = deque()
    with ThreadPoolExecutor(workers) as threads:
        try:
            for some in batches:
                waiting.append((some, threads.submit(parse, some)))
                if len(waiting) >= 4 * workers:
                    done, results = waiting.popleft()
                    yield from zip(done, results.result(), strict=True)
            while waiting:
                done, results = waiting.popleft()
                yield from zip(done, results.result(), strict=True)
        finally:
            for _, unfinished in waiting:
                unfinished.cancel()
            threads.shutdown()
            for process in idle:
                process.stop()


class _Process:
    """One Python that calls the function on what it is sent; started when first needed, and again after it was stopped."""

    def __init__(self, function: Callable[[Any], Any], seconds: float, megabytes: int, recycle: int):
        self.name = f"{function.__module__}:{function.__qualname__}"
        self.seconds, self.megabytes, self.recycle = seconds, megabytes, recycle
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, item: Any) -> Any:
        if self.process is None:
            self._start()
        self.calls += 1
        try:
            self.pipe.send(item)
            if not self.pipe.poll(self.seconds):
                self.stop()
                return Failure(f"took more than {self.seconds:g} s")
            result = self.pipe.recv()
        except (EOFError, OSError):
            self.stop()
            return Failure("crashed the parser")
        if self.calls >= self.recycle or result == Failure(_too_much(self.megabytes)):
            self.stop()
        return result

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.pipe.close()
            self.process = None

    def _start(self) -> None:
        self.pipe, theirs = Pipe()
        start = (
            f"from {__name__} import serve; serve({theirs.fileno()}, {self.name!r}, {self.seconds}, {self.megabytes})"
        )
        # one thread each: there are as many processes as the user asked for
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", start],
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for whoever started us, who then ends us
        )
        theirs.close()
        self.calls = 0
        try:
            ready = self.pipe.poll(START_SECONDS) and self.pipe.recv() == "ready"
        except (EOFError, OSError):
            ready = False
        if not ready:
            self.stop()
            raise RuntimeError(f"the process that was to run {self.name} did not start: what it said is above")


def _too_much(megabytes: int) -> str:
    return f"needed more than {megabytes} MB"


def serve(descriptor: int, name: str, seconds: float, megabytes: int) -> None:
    """Call the function on every item that comes, until nobody sends any: the life of a process started above."""
    pipe = Connection(descriptor)
    module, function_name = name.split(":")
    function = getattr(importlib.import_module(module), function_name)
    _limit(megabytes)
    pipe.send("ready")
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, seconds + 5)  # ends us where those who should are gone themselves
        try:
            result = function(item)
        except MemoryError:
            result = Failure(_too_much(megabytes))
        except RecursionError:
            result = Failure("nested too deeply")
        except Exception as error:  # whatever a parser raises is this item's end, and no other's
            result = Failure(f"raised {type(error).__name__}")
        signal.setitimer(signal.ITIMER_REAL, 0)
        pipe.send(result)


def _limit(megabytes: int) -> None:
    limit = psutil.Process().memory_info().vms + megabytes * 2**20
    with suppress(ValueError, OSError):  # macOS has the name and not the limit
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
