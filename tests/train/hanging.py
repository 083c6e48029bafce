"""A small run under the watchdog in which one thing goes wrong; test_watchdog.py forks its processes from one warm start."""

import itertools
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch.utils.data import DataLoader

from llama_train.train.watchdog import Watchdog

WARM = 20  # the step at which it happens, and from which a test may interfere
FOR_EVER = 1000.0


class Numbers:
    """A dataset of which one row is never done."""

    def __init__(self, sleeper: int):
        self.sleeper = sleeper

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, i: int) -> int:
        if i == self.sleeper:
            print(f"worker {os.getpid()} falls asleep", flush=True)
            time.sleep(FOR_EVER)
        return i


def run(case: str, rank: int, world: int, port: int, timeout: float, out: Path) -> None:
    """Process `rank` of `world`: steps of 20 ms until the file out/enough is there; prints to out/log-RANK."""
    log = os.open(out / f"log-{rank}", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)} if world > 1 else {}
    accelerator = Accelerator(cpu=True)
    data = Numbers(sleeper=WARM if case == "data worker" else -1)
    workers = {"num_workers": 1, "multiprocessing_context": "fork"} if case == "data worker" else {}
    batches = iter(DataLoader(data, **workers))  # type: ignore[arg-type]
    with Watchdog(accelerator, timeout, out) as watchdog:
        for step in itertools.count(1):
            watchdog.beat(step, "data")
            next(batches)
            watchdog.beat(step, "forward")
            time.sleep(0.02)
            if case == "slow":
                be_slow(step, watchdog)
            if case == "endless loop" and step == WARM:
                for _ in iter(int, 1):  # as busy as one can be
                    pass
            watchdog.beat(step, "backward")
            if step == WARM and rank == 1 and case == "another collective":
                dist.barrier()
            if step == WARM and rank == 1 and case == "missed collective":
                watchdog.beat(step, "update")
                time.sleep(FOR_EVER)
            over = torch.tensor(float((out / "enough").exists()))
            if step >= WARM:
                (out / f"warm-{rank}").touch()
            if accelerator.reduce(over, reduction="sum") > 0:
                break
    print(f"done after {step} steps", flush=True)
    if world > 1:
        dist.destroy_process_group()


def be_slow(step: int, watchdog: Watchdog) -> None:
    """Honest work that takes longer than a timeout of 1 s: in a place for the first time, and where it is usually slow."""
    if step == 5:
        watchdog.beat(step, "save")
        time.sleep(2.5)
    elif 6 <= step < 9:
        time.sleep(0.7)
    elif step == 9:
        time.sleep(2.0)
