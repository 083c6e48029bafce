"""Out of memory: what was tried, the next setting that fits, and a file of what lay in memory, instead of a traceback."""

import gc
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from llama_train.planner_memory import STATE, activation_bytes, state_bytes
from llama_train.train.engine import asked

if TYPE_CHECKING:
    from llama_train.planner import Plan
    from llama_train.settings import PretrainSettings

GIB = 2**30
SHARE = 0.85  # of the memory may be planned with: the rest is for buffers and the gaps that allocators leave
MOST_PROCESSES = 4096
# torch.OutOfMemoryError is what its own CUDA allocator raises; its CPU allocator, CUDA, NCCL and cuBLAS only say so
WORDS = ("out of memory", "can't allocate memory", "bad_alloc", "CUBLAS_STATUS_ALLOC_FAILED")


@contextmanager
def explain_out_of_memory(settings: "PretrainSettings", plan: "Plan", device: torch.device) -> Iterator[None]:
    """Turn this process' running out of memory, on its device or the machine, into a MemoryError of one line.

    A file for each process is left in output_dir/out-of-memory. No other process is asked: they may be waiting."""
    before = psutil.Process().memory_info().rss  # the interpreter and its libraries
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        on_device = device.type == "cuda" and not (isinstance(error, MemoryError) or "CPUAllocator" in str(error))
        memory = usable_memory(device) if on_device else usable_memory(torch.device("cpu")) - before
        evaluating = any(
            frame.f_globals.get("__name__") == "llama_train.train.evaluate"
            for frame, _ in traceback.walk_tb(error.__traceback__)
        )
        line = explain(settings, plan, asked(os.environ)[0], memory, evaluating)
        folder = Path(settings.output_dir) / "out-of-memory"
        raise MemoryError(f"{line}; {write_snapshot(folder, error, device)}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no memory left, by its type or by its words."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in WORDS)


def usable_memory(device: torch.device) -> int:
    """Bytes this process has on the device, and those it could still get: what others hold is not among them."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    process, free = psutil.Process().memory_info(), psutil.virtual_memory().available
    with suppress(ImportError):
        import resource  # not on Windows

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            free = min(free, max(0, limit - process.vms))
    return process.rss + free


def explain(settings: "PretrainSettings", plan: "Plan", engine: str, memory: int, evaluating: bool = False) -> str:
    """What was tried and what to try next, in one sentence. memory: bytes one process may have."""
    size, processes = settings.per_device_train_batch_size, plan.num_processes
    state = state_bytes(plan.parameters, engine, processes)
    tried = (
        f"out of memory: {_gib(memory)} are there for {'each process' if processes > 1 else 'one process'} ({engine}); "
        f"weights, gradients and Adam take {_gib(state)}"
    )
    if evaluating:
        rows = settings.per_device_eval_batch_size
        advice = f"--per_device_eval_batch_size {rows // 2}" if rows > 1 else None
        tried += f", the evaluation had {rows} rows of {settings.max_length} tokens at a time"
    else:
        needs = activation_bytes(settings, size * settings.max_length, settings.activation_checkpointing)
        tried += f", activations of {size} rows of {settings.max_length} tokens by estimate {_gib(needs)}"
        advice = None
    return f"{tried}; next: {advice or next_setting(settings, plan, engine, memory)}"


def _gib(size: float) -> str:
    return f"{size / GIB:.3g} GiB"


def next_setting(settings: "PretrainSettings", plan: "Plan", engine: str, memory: int) -> str:
    """The nearest setting that should fit into `memory` bytes a process, as words for the command line.

    First a smaller micro-batch, then activation checkpointing, then sharding over more processes: all keep the global
    batch, so the run goes on as it was. Only then shorter rows. What has failed is taken to need all memory at least,
    and the estimate is raised to that."""
    size, rows, processes = settings.per_device_train_batch_size, plan.rows_per_step, plan.num_processes
    length, checkpointing = settings.max_length, settings.activation_checkpointing
    failed = activation_bytes(settings, size * length, checkpointing)
    factor = max(1.0, (memory - state_bytes(plan.parameters, engine, processes)) / failed)

    def fits(size: int, checkpointing: bool, engine: str, processes: int, length: int = length) -> bool:
        activations = factor * activation_bytes(settings, size * length, checkpointing)
        return state_bytes(plan.parameters, engine, processes) + activations <= SHARE * memory

    def batch(size: int, processes: int = processes) -> str:
        words = f"--per_device_train_batch_size {size}"
        if settings.global_batch_tokens is None:  # else it decides the accumulation
            words += f" --gradient_accumulation_steps {rows // processes // size}"
        return f"{words} (the same global batch)"

    sizes = [smaller for smaller in range(size, 0, -1) if rows // processes % smaller == 0]
    for smaller in sizes:
        if smaller <= size // 2 and fits(smaller, checkpointing, engine, processes):
            return batch(smaller)
    for smaller in sizes if not checkpointing else []:
        if fits(smaller, True, engine, processes):
            return "--activation_checkpointing true" + (f" {batch(smaller)}" if smaller < size else "")
    always = "" if checkpointing else " --activation_checkpointing true"
    more = processes
    while rows % more == 0 and more <= MOST_PROCESSES:
        for sharded in dict.fromkeys([engine, "zero2", "zero3"]):
            if STATE[sharded][1] and fits(1, True, sharded, more):
                name = f"DeepSpeed ZeRO-{sharded[-1]}" if sharded.startswith("zero") else "FSDP2"
                return f"{name} on {more} processes, each with as much memory,{always} {batch(1, more)}"
        more *= 2
    while length >= 256:
        length //= 2
        if fits(1, True, engine, processes, length):
            return (
                f"--max_length {length} --per_device_train_batch_size 1{always}, which is another run: choose another "
                "--output_dir"
            )
    return "no batch, length or sharding makes this model fit here: choose a smaller model, or more memory"


def write_snapshot(folder: Path, error: BaseException, device: torch.device) -> str:
    """Leave folder/process-RANK.txt (CUDA: and .pickle, to be drawn by pytorch.org/memory_viz); say where."""
    file = folder / f"process-{os.environ.get('RANK', '0')}.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(describe_memory(error, device), encoding="utf-8")
        if device.type == "cuda":
            # documented, though its name begins with an underscore; with stacks where their recording was switched on
            torch.cuda.memory._dump_snapshot(str(file.with_suffix(".pickle")))
    except (OSError, MemoryError, RuntimeError) as trouble:
        return f"the memory snapshot could not be written to {file} ({trouble})"
    drawn = ", drawn by pytorch.org/memory_viz from the .pickle beside it" if device.type == "cuda" else ""
    return f"the memory snapshot is {file}{drawn}"


def describe_memory(error: BaseException, device: torch.device, shown: int = 30) -> str:
    """Where it happened, what the process and its device hold, and the largest tensors that Python knows."""
    process = psutil.Process().memory_info()
    figures = {
        "resident": process.rss,
        "virtual": process.vms,
        "free on the machine": psutil.virtual_memory().available,
    }
    with suppress(ImportError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        figures["resident at its peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    text = f"{time.strftime('%Y-%m-%d %H:%M:%S')} process {os.environ.get('RANK', '0')} on {device}, torch {torch.__version__}\n"
    text += "".join(f"{value / GIB:10.3f} GiB {name}\n" for name, value in figures.items())
    text += "\nTensors that Python knows, by size. What autograd alone keeps for the backward pass is not among them.\n"
    found: Counter[str] = Counter()
    seen = set()
    for thing in gc.get_objects():
        if not issubclass(type(thing), torch.Tensor) or type(thing).__module__.startswith("torch._subclasses"):
            continue
        with suppress(RuntimeError, NotImplementedError):  # a tensor without a storage of its own
            storage = thing.untyped_storage()
            if (storage.device, storage.data_ptr()) not in seen:
                seen.add((storage.device, storage.data_ptr()))
                found[f"{type(thing).__name__} {thing.dtype} {tuple(thing.shape)} on {thing.device}"] += (
                    storage.nbytes()
                )
    text += "".join(f"{size / GIB:10.3f} GiB {name}\n" for name, size in found.most_common(shown))
    text += f"{found.total() / GIB:10.3f} GiB in all\n"
    if device.type == "cuda":
        text += torch.cuda.memory_summary(device) + "\n"
    return f"{text}\n{''.join(traceback.format_exception(error))}"
