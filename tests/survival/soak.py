"""An hour of faults: a run under `accelerate launch` is killed, stopped, told to end, corrupted and starved of disk, and
started again by a loop that knows nothing. Says how much of the time became training, and whether anything leaks.

python -m tests.survival.soak [--minutes 60] [--every 180] [--seed 0]"""

import argparse
import json
import math
import os
import random
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from llama_train.data.shards import ShardWriter
from llama_train.train.manifest import verify

ROOT = Path(__file__).resolve().parent.parent.parent
LAUNCH = (
    "-m accelerate.commands.launch --config_file recipes/accelerate/ddp.yaml --main_process_port 0 --max_restarts 1000"
)
SETTINGS = """--hidden_size 128 --intermediate_size 384 --num_hidden_layers 4 --num_attention_heads 4 --vocab_size 256
--max_length 256 --per_device_train_batch_size 8 --use_cpu --bf16 false --cpu_threads 1 --max_steps 10000000 --warmup_steps 100
--lr_scheduler_type constant --learning_rate 0.001 --logging_steps 10 --save_steps 40"""
PROCESSES = 2
STUCK = 600  # seconds without a new checkpoint after which a person would have to look
SETTLED = 120  # seconds after which a process' memory is expected to stay as it is


class Soak:
    """One run, and what is done to it."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.out, self.draw = folder, folder / "run", random.Random(seed)
        self.launcher: psutil.Popen | None = None
        self.starts = self.newest = 0
        self.advanced = time.monotonic()
        self.samples: dict[tuple[int, float], list[tuple[float, float, int]]] = {}  # process -> age, MB, handles
        self.faults: dict[str, int] = {}

    def start(self) -> None:
        """Start the command again, which is always the same."""
        words = [*SETTINGS.split(), "--dataset_path", str(self.folder / "shards"), "--output_dir", str(self.out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu"}
        with open(self.folder / "log.txt", "a") as log:
            command = [sys.executable, *LAUNCH.split(), "recipes/pretrain.py", *words]
            self.launcher = psutil.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self.starts += 1

    def stuck(self) -> bool:
        """Whether it has got no further for so long that a person would have to look."""
        newest = max([step(path) for path in self.out.glob("checkpoint-*")], default=0)
        if newest > self.newest:
            self.newest, self.advanced = newest, time.monotonic()
        return time.monotonic() - self.advanced > STUCK

    def workers(self) -> list[psutil.Process]:
        """The processes that train."""
        children = self.launcher.children() if self.launcher and self.launcher.is_running() else []
        return [child for child in children if any("pretrain.py" in word for word in child.cmdline())]

    def look(self) -> None:
        """Note each process' memory and open files."""
        for worker in self.workers():
            age = time.time() - worker.create_time()
            sample = (age, worker.memory_info().rss / 2**20, worker.num_fds())
            self.samples.setdefault((worker.pid, worker.create_time()), []).append(sample)

    def end(self, number: int) -> None:
        """A signal to the launcher and all below it, at once."""
        if self.launcher and self.launcher.is_running():
            for process in [*self.launcher.children(recursive=True), self.launcher]:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    def fault(self) -> None:
        """One of the things that happen to runs."""
        kinds: dict[str, Callable[[], None]] = {
            "SIGKILL one": lambda: self.one().send_signal(signal.SIGKILL),
            "SIGKILL all": lambda: self.end(signal.SIGKILL),
            "SIGSTOP one": lambda: self.one().send_signal(signal.SIGSTOP),
            "SIGTERM one": lambda: self.one().send_signal(signal.SIGTERM),
            "newest checkpoint corrupted": self.corrupt,
            "disk full": lambda: resource.prlimit(self.one().pid, resource.RLIMIT_FSIZE, (50_000, -1)),
        }
        kind = self.draw.choice(list(kinds))
        kinds[kind]()
        self.faults[kind] = self.faults.get(kind, 0) + 1

    def one(self) -> psutil.Process:
        return self.draw.choice(self.workers())

    def corrupt(self) -> None:
        """Flip a bit of a random file of the newest checkpoint, then pull the plug."""
        newest = max(self.out.glob("checkpoint-*"), key=step)
        file = self.draw.choice(sorted(newest.iterdir()))
        content = bytearray(file.read_bytes())
        content[self.draw.randrange(len(content))] ^= 1 << self.draw.randrange(8)
        file.write_bytes(content)
        self.end(signal.SIGKILL)


def step(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])


def shards(out: Path) -> None:
    """A million tokens in which each foretells the next."""
    draw = np.random.default_rng(0)
    tokenizer = {"sha256": "0" * 64, "bos_token_id": 254, "eos_token_id": 255}
    with ShardWriter(out, 256, tokenizer, np.array([1] * 254 + [0, 0], dtype=np.uint16)) as writer:
        for _ in range(2000):
            text = (draw.integers(254) + np.cumsum(draw.integers(1, 4, 500))) % 254
            writer.add([254, *text.tolist(), 255], len(text))


def slope(lives: list[list[tuple[float, float]]]) -> float | None:
    """What grows per hour within the processes' lives: one straight line for all, each life with a height of its own."""
    x, y = [], []
    for life in lives:
        ages, values = np.array(life).T
        x.append(ages - ages.mean())
        y.append(values - values.mean())
    spread = sum(float(part @ part) for part in x)
    return sum(float(a @ b) for a, b in zip(x, y, strict=True)) / spread * 3600 if spread else None


def soak(run: Soak, seconds: float, every: float) -> None:
    """Look after the run for so long, with a fault at a random moment of each `every` seconds."""
    begun = time.monotonic()
    due = every * run.draw.uniform(0.5, 1)
    while (now := time.monotonic() - begun) < seconds and not run.stuck():
        if run.launcher is None or run.launcher.poll() is not None:
            run.start()
        time.sleep(1)
        try:
            run.look()
            if now > due and len(run.workers()) == PROCESSES and list(run.out.glob("checkpoint-*")):
                run.fault()
                due = (now // every + 1 + run.draw.random()) * every
        except psutil.Error:  # it ended while it was looked at
            continue


def history(run: Soak) -> list[dict[str, Any]]:
    """The training rows of metrics.jsonl."""
    rows = [json.loads(line) for line in (run.out / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "loss" in row]


def figures(run: Soak, seconds: float, every: float) -> dict[str, Any]:
    """Soak, then look for a sixth of that time what grows without a fault. Goodput: the time that the steps which count
    would have taken undisturbed, over all the time; a step's time is the median one's, saves left out."""
    soak(run, seconds, every)
    tokens = history(run)[-1]["num_input_tokens_seen"]
    run.samples, before = {}, run.samples
    soak(run, seconds / 6, math.inf)
    run.launcher.terminate()  # the launcher tells the processes, and they save
    with suppress(psutil.TimeoutExpired):
        run.launcher.wait(90)
    speed = statistics.median(row["tokens_per_second"] for row in history(run))
    steps = [row["step"] for row in history(run)]
    newest = max(run.out.glob("checkpoint-*"), key=step)
    settled = [[sample for sample in life if sample[0] > SETTLED] for life in run.samples.values()]
    return {
        "minutes": round(seconds / 60, 1),
        "faults": dict(sorted(run.faults.items())),
        "launches": run.starts,
        "restarts": len(before | run.samples) // PROCESSES - 1,
        "steps": step(newest),
        "goodput": round(tokens / speed / seconds, 4),
        "human_actions": int(run.stuck()),
        "each_step_logged_once": steps == sorted(set(steps)),
        "newest_checkpoint_problems": verify(newest),
        "quarantined": len(list(run.out.glob("quarantine/*"))),
        "memory_mb": max(mb for life in run.samples.values() for _, mb, _ in life),
        "memory_mb_per_hour": slope([[(age, mb) for age, mb, _ in life] for life in settled if life]),
        "handles_per_hour": slope([[(age, count) for age, _, count in life] for life in settled if life]),
    }


def main() -> None:
    """Print the figures as JSON and as a row of a Markdown table; exit code 1 where a person would have been needed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", type=float, default=180, help="seconds between faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="a new folder for the run, which then stays [a temporary one]")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="llama-train-soak-"))
    shards(folder / "shards")
    run = Soak(folder, options.seed)
    try:
        told = figures(run, options.minutes * 60, options.every)
    finally:
        run.end(signal.SIGKILL)
    print(json.dumps(told, indent=2))
    print(
        "| minutes | faults | restarts | goodput | human actions | memory MB/h | handles/h |\n|---|---|---|---|---|---|---|"
    )
    row = [
        told["minutes"],
        sum(told["faults"].values()),
        told["restarts"],
        f"{told['goodput']:.1%}",
        told["human_actions"],
    ]
    growth = [told["memory_mb_per_hour"], told["handles_per_hour"]]  # None where no process lived for SETTLED seconds
    print("|", " | ".join(map(str, [*row, *("-" if value is None else round(value, 1) for value in growth)])), "|")
    failed = told["human_actions"] or told["newest_checkpoint_problems"] or not told["each_step_logged_once"]
    if failed:
        print(f"what it said: {folder / 'log.txt'}")
    elif not options.folder:
        shutil.rmtree(folder)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
