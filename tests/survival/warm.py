"""Warm starts: one process imports everything once and forks each run's processes, which then start in a tenth of the time.

What a run sees is what `accelerate launch` leaves: its environment, a store for the rendezvous that outlives the
processes, and an end for all of them when one fails."""

import atexit
import contextlib
import ctypes
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import yaml
from torch.distributed import TCPStore

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIGS = {
    "ddp": "recipes/accelerate/ddp.yaml",
    "zero1": "recipes/accelerate/zero1.yaml",
    "zero2": "accelerate_config.yaml",
    "zero3": "recipes/accelerate/zero3.yaml",
}
# recipes.pretrain comes first: it sets what OpenMP reads when torch is loaded. None of them may start a thread.
IMPORTS = ["recipes.pretrain", "accelerate", "transformers.models.llama.modeling_llama", "matplotlib.figure"]
IMPORTS += ["matplotlib.backends.backend_agg", "torch.distributed.checkpoint.state_dict", "torch.utils.data"]
IMPORTS += ["torch.nn.parallel.distributed", "llama_train.train.loop", "deepspeed", "tests.survival.warm"]
TERM_SECONDS = 2  # torchrun gives the others 30 after one has failed


def environment(engine: str, processes: int) -> dict[str, str]:
    """What `accelerate launch` adds to the environment of each process, but for its rank and the rendezvous."""
    if engine == "single":
        return {}
    values = {"ACCELERATE_MIXED_PRECISION": "no", "OMP_NUM_THREADS": "1"}
    config = yaml.safe_load((ROOT / CONFIGS[engine]).read_text())
    if fields := config.get("deepspeed_config"):
        values |= {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_CONFIG_DS_FIELDS": ",".join(fields)}
        values["ACCELERATE_DEEPSPEED_ZERO_STAGE"] = str(fields["zero_stage"])
        if "zero3_init_flag" in fields:
            values["ACCELERATE_DEEPSPEED_ZERO3_INIT"] = str(fields["zero3_init_flag"]).lower()
    return values | {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}


class Run:
    """The processes of one start of the recipe, forked already; `output` is what all of them print, in one file."""

    def __init__(self, engine: str, processes: int, words: list[str], output: Path, **extra: str):
        self.output, self.started = output, time.monotonic()
        shared, self.store = environment(engine, processes) | extra, None
        if engine.startswith("zero"):
            shared.setdefault("TORCH_EXTENSIONS_DIR", kernels())
        if engine != "single":  # as torchrun's agent does: a port nobody else can take, open before anyone asks
            self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.store.port)}
            shared |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
        self.processes: list[BaseProcess] = []
        for rank in range(processes):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if engine != "single" else {}
            process = _context().Process(target=_process, args=(shared | own, words, str(output)))
            process.start()
            self.processes.append(process)
            atexit.register(process.kill)  # before multiprocessing waits for it

    def kill(self, ranks: list[int], number: int = signal.SIGKILL) -> None:
        """Send a signal to some of the processes."""
        for rank in ranks:
            if self.processes[rank].is_alive():
                with contextlib.suppress(ProcessLookupError):  # it has ended this moment
                    os.kill(self.processes[rank].pid or 0, number)

    def running(self) -> bool:
        """Whether none of the processes has ended."""
        return all(process.is_alive() for process in self.processes)

    def wait(self, timeout: float = 60) -> list[int]:
        """The exit codes of all processes. When one fails the others get SIGTERM, then SIGKILL, as torchrun does.

        Raises TimeoutError, after killing them all, with what they said."""
        failed_at = None
        while any(process.is_alive() for process in self.processes):
            time.sleep(0.005)
            now = time.monotonic()
            if failed_at is None and any(process.exitcode for process in self.processes):
                failed_at = now
                self.kill(list(range(len(self.processes))), signal.SIGTERM)
            if failed_at is not None and now > failed_at + TERM_SECONDS:
                self.kill(list(range(len(self.processes))))
            if now > self.started + timeout:
                self.kill(list(range(len(self.processes))))
                raise TimeoutError(f"no end after {timeout} s: {self.text()[-2000:]}")
        self.store = None
        return [process.exitcode or 0 for process in self.processes]

    def text(self) -> str:
        """What the processes printed so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""


def run(engine: str, processes: int, words: list[str], output: Path, timeout: float = 60, **extra: str) -> str:
    """Run to the end, which must be a good one. Returns what was printed."""
    one = Run(engine, processes, words, output, **extra)
    codes = one.wait(timeout)
    assert not any(codes), f"exit codes {codes}: {one.text()[-3000:]}"
    return one.text()


@functools.cache
def kernels() -> str:
    """A folder with DeepSpeed's compiled kernel, the tests' own: a kill at the wrong moment may spoil it."""
    from torch.utils.cpp_extension import get_default_build_root

    folder = Path(tempfile.mkdtemp(prefix="llama-train-kernels-"))
    for built in Path(get_default_build_root()).glob("*_cpu/deepspeed_shm_comm"):
        if (built / "deepspeed_shm_comm.so").exists():
            shutil.copytree(built, folder / built.name, ignore=shutil.ignore_patterns("lock"), dirs_exist_ok=True)
    if not (folder / "deepspeed_shm_comm").exists():
        load = (
            "import deepspeed; deepspeed.accelerator.get_accelerator().create_op_builder('ShareMemCommBuilder').load()"
        )
        environment = os.environ | {"DS_ACCELERATOR": "cpu", "TORCH_EXTENSIONS_DIR": str(folder)}
        subprocess.run([sys.executable, "-c", load], env=environment, check=True, timeout=300, capture_output=True)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(folder)


def _context() -> Any:
    """The process that forks the others; it imports everything when first used."""
    context = multiprocessing.get_context("forkserver")
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path))
    context.set_forkserver_preload(IMPORTS)
    return context


def _process(values: dict[str, str], words: list[str], output: str) -> None:
    """What each forked process does: become one that was started cold, then run the recipe."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no run survives the tests
    assert len(os.listdir(f"/proc/{os.getppid()}/task")) == 1, "a process with threads cannot be forked safely"
    os.environ.update(values)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    from llama_train.errors import one_line_errors
    from llama_train.train import run as train_run
    from recipes.pretrain import main

    if "RECORD_ROWS" in values:
        record = Path(values["RECORD_ROWS"], f"rows-{values.get('RANK', 0)}.jsonl")
        train_run.train_batches = _recorded(train_run.train_batches, record)  # type: ignore[assignment]
    with one_line_errors():
        main(words)


def _recorded(train_batches: Callable[..., Iterator[Any]], file: Path) -> Callable[..., Iterator[Any]]:
    """train_batches that writes down what it gives: a line for each global batch, in it this process' micro-batches,
    in each of them a hash of every row."""

    def recording(rows: Any, **options: Any) -> Iterator[Any]:
        for micro_batches in train_batches(rows, **options):
            tokens = [batch["input_ids"].view(-1, rows.max_length).tolist() for batch in micro_batches]
            hashes = [[hashlib.sha256(str(row).encode()).hexdigest()[:16] for row in batch] for batch in tokens]
            with file.open("a") as lines:
                lines.write(json.dumps(hashes) + "\n")
            yield micro_batches

    return recording
