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
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import psutil

START_SECONDS = 120  # until a process has imported its parser, on a machine that is very busy
BATCH_BYTES = 2**18  # sent at once: small items share the cost of a message, large ones do not add up in memory


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
    that are given to a process at once, fewer where they come to 256 kB; at most 4 x workers batches are in memory.
    Raises RuntimeError where the processes do not even start."""
    processes = [_Process(function, seconds, megabytes, recycle) for _ in range(workers)]
    idle = processes.copy()

    def parse(packed: list[bytes]) -> list[Any]:
        process = idle.pop()
        try:
            return process.run(packed)
        finally:
            idle.append(process)

    waiting: deque[tuple[list[Any], Future[list[Any]]]] = deque()
    with ThreadPoolExecutor(workers) as threads:
        try:
            for some, packed in _batches(items, batch):
                waiting.append((some, threads.submit(parse, packed)))
                if len(waiting) >= 4 * workers:
                    done, results = waiting.popleft()
                    yield from zip(done, results.result(), strict=True)
            while waiting:
                done, results = waiting.popleft()
                yield from zip(done, results.result(), strict=True)
        finally:
            for _, unfinished in waiting:
                unfinished.cancel()
            for process in processes:
                process.end()
            threads.shutdown()
            for process in processes:
                process.stop()


def _batches(items: Iterable[Any], most: int) -> Iterator[tuple[list[Any], list[bytes]]]:
    """Items to be sent at once, and the same as they travel."""
    some: list[Any] = []
    packed: list[bytes] = []
    for item in items:
        some.append(item)
        packed.append(bytes(ForkingPickler.dumps(item)))
        if len(some) >= most or sum(map(len, packed)) >= BATCH_BYTES:
            yield some, packed
            some, packed = [], []
    if some:
        yield some, packed


class _Process:
    """One Python that calls the function on what it is sent; started when first needed, and again after it was stopped."""

    def __init__(self, function: Callable[[Any], Any], seconds: float, megabytes: int, recycle: int):
        self.name = f"{function.__module__}:{function.__qualname__}"
        self.seconds, self.megabytes, self.recycle = seconds, megabytes, recycle
        self.process: subprocess.Popen[bytes] | None = None
        self.ended = False

    def run(self, items: list[bytes]) -> list[Any]:
        results: list[Any] = []
        while len(results) < len(items) and not self.ended:
            results += self._run(items[len(results) :])
        return results

    def _run(self, items: list[bytes]) -> list[Any]:
        """The results of the first items, up to the one that ends the process, or until it is to be replaced.

        One that crashes a process, or needs too much memory, in which others were before it is tried again in a new one:
        what they left behind, or whoever killed an idle process, must not be its fault."""
        if self.process is None:
            self._start()
        results: list[Any] = []
        items = items[: self.recycle - self.calls]
        failure = Failure("crashed the parser")
        try:
            self.pipe.send(len(items))
            for item in items:
                self.pipe.send_bytes(item)
            for _ in items:
                if not self.pipe.poll(self.seconds):
                    self.stop()
                    return [*results, Failure(f"took more than {self.seconds:g} s")]
                result = self.pipe.recv()
                if result == Failure(_too_much(self.megabytes)):
                    failure = result
                    break
                results.append(result)
                self.calls += 1
        except (EOFError, OSError):
            pass
        else:
            if len(results) == len(items):
                if self.calls >= self.recycle:
                    self.stop()
                return results
        fresh = self.calls == 0
        self.stop()
        return [*results, failure] if fresh else results

    def end(self) -> None:
        """From another thread: whoever waits for a result need wait no longer."""
        self.ended = True
        if process := self.process:
            process.kill()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            with suppress(OSError):  # of a stream that nobody closed Python may have closed it, at the end of all
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
    with suppress(EOFError, ConnectionError):  # nobody is there any more
        while True:
            # all of a batch before its first result: two that send at the same time would wait for each other
            for item in [pipe.recv_bytes() for _ in range(pipe.recv())]:
                signal.setitimer(signal.ITIMER_REAL, seconds + 5)  # ends us where those who should are gone themselves
                result = _result(function, item, megabytes)
                signal.setitimer(signal.ITIMER_REAL, 0)
                pipe.send(result)


def _result(function: Callable[[Any], Any], item: bytes, megabytes: int) -> Any:
    try:
        return function(ForkingPickler.loads(item))
    except MemoryError:
        return Failure(_too_much(megabytes))
    except RecursionError:
        return Failure("nested too deeply")
    except Exception as error:  # whatever a parser raises is this item's end, and no other's
        return Failure(f"raised {type(error).__name__}")


def _limit(megabytes: int) -> None:
    limit = psutil.Process().memory_info().vms + megabytes * 2**20
    with suppress(ValueError, OSError):  # macOS has the name and not the limit
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
