"""`llama-train check --cluster`: what a run needs of its machines, looked at by all its processes before step 0.

    accelerate launch [as for the run] -m llama_train.cli check --cluster RECIPE.yaml [--key value]...

The same code, settings and data everywhere, one output_dir that all can write, room in it, clocks that agree, no machine
much slower than the others."""

import hashlib
import json
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_train.cluster_verdict import WRITTEN, bytes_needed, problems, table
from llama_train.planner import plan, read_manifest
from llama_train.settings import PretrainSettings, settings_to_yaml

if TYPE_CHECKING:
    from accelerate import Accelerator

PACKAGES = ("llama_train", "torch", "transformers", "accelerate", "deepspeed", "safetensors", "numpy")
PATIENCE = 10.0  # seconds for a file to be seen by all: network file systems remember what was not there


def check_cluster(settings: PretrainSettings) -> None:
    """Print what every process found out, as a table on the main one.

    Every process of the launcher calls it. Raises ValueError there, in one line that names machine and process, where
    the run should not start; the others end with SystemExit(1)."""
    from accelerate.utils import gather_object

    from llama_train.train.engine import asked, build_accelerator, describe

    run = plan(settings, asked(os.environ)[1])
    accelerator = build_accelerator(settings, run.accumulation)
    main = accelerator.is_main_process
    if main:
        print(describe(accelerator, settings.bf16), flush=True)
    report = _same_everywhere(settings) | _speed(accelerator) | _disk(accelerator, Path(settings.output_dir or "."))
    reports = gather_object([report])
    accelerator.end_training()
    needed = bytes_needed(run)
    if main:
        print(table(reports, needed), flush=True)
    if found := problems(reports, needed):
        if main:
            raise ValueError("; ".join(found))
        raise SystemExit(1)


def _same_everywhere(settings: PretrainSettings) -> dict[str, Any]:
    import torch

    package = Path(__file__).parent
    code = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        code.update(file.relative_to(package).as_posix().encode() + file.read_bytes())
    git = ["git", "-C", str(package), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() if shutil.which("git") else ""
    same: dict[str, str | None] = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    gpu = torch.cuda.is_available()
    same["device"] = torch.cuda.get_device_name() if gpu else "cpu"
    same["cuda"] = f"{torch.version.cuda}, NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}" if gpu else "none"
    same |= {"commit": commit or None, "code": code.hexdigest()[:12]}
    same["settings"] = hashlib.sha256(settings_to_yaml(settings).encode()).hexdigest()[:12]
    same["data"] = hashlib.sha256(json.dumps(read_manifest(settings)).encode()).hexdigest()[:12]
    return {"same": same, "host": socket.gethostname(), "rank": int(os.environ.get("RANK", 0))}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _speed(accelerator: "Accelerator") -> dict[str, Any]:
    """Clock readings at the same instants; seconds of a matrix product; all-reduce in bytes per second."""
    import torch
    import torch.distributed as dist

    clocks, device = [], accelerator.device
    for _ in range(5):
        accelerator.wait_for_everyone()
        clocks.append(time.time())
    gpu = device.type == "cuda"
    size, kind = (8192, torch.bfloat16) if gpu else (512, torch.float32)
    matrix = torch.ones(size, size, dtype=kind, device=device)
    matmul = _seconds(lambda: matrix @ matrix, gpu)
    accelerator.wait_for_everyone()
    rate = 0.0
    if (world := accelerator.num_processes) > 1:
        gradients = torch.zeros(2**26 if gpu else 2**20, device=device)
        rate = 2 * (world - 1) / world * gradients.nbytes / _seconds(lambda: dist.all_reduce(gradients), gpu)
    return {"clocks": clocks, "matmul": matmul, "all_reduce": rate}


def _seconds(work: Callable[[], Any], gpu: bool) -> float:
    """The fastest of five, after one that does not count."""
    import torch

    times = []
    for _ in range(6):
        started = time.perf_counter()
        work()
        if gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def _disk(accelerator: "Accelerator", output_dir: Path) -> dict[str, Any]:
    """Write to output_dir, all at once, and look for what the others wrote."""
    folder, rank = output_dir / ".cluster-check", accelerator.process_index
    found: dict[str, Any] = {"failed": "", "unseen": [], "write": float("inf"), "free": 0, "held": 0}
    accelerator.wait_for_everyone()
    started = time.perf_counter()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / str(rank), "wb") as file:
            file.write(os.urandom(2**20) * (WRITTEN // 2**20))
            file.flush()
            os.fsync(file.fileno())
        found["write"] = time.perf_counter() - started
        checkpoints = (file for file in output_dir.glob("checkpoint-*/*") if file.is_file())
        found |= {"free": shutil.disk_usage(output_dir).free, "held": sum(file.stat().st_size for file in checkpoints)}
    except OSError as error:
        found["failed"] = error.strerror or str(error)
    accelerator.wait_for_everyone()
    others = range(accelerator.num_processes) if rank == 0 else [0]  # the main one sees all, all see the main one
    deadline = time.monotonic() + PATIENCE
    while not found["failed"] and time.monotonic() < deadline:
        found["unseen"] = [other for other in others if not (folder / str(other)).exists()]
        if not found["unseen"]:
            break
        time.sleep(0.2)
    accelerator.wait_for_everyone()
    if accelerator.is_local_main_process:  # where it is not shared, each machine has its own
        shutil.rmtree(folder, ignore_errors=True)
    return found
