"""Ours beside a peer on this machine, taking turns: fresh processes, medians, peak memory; JSON and a Markdown row.

    python benchmarks/alternate.py --name wikitext --ours "CMD" --peer "CMD" --rounds 5 --out FILE.json --unit MB --amount 12.3

A command's time is that of its process, start included. Where that would hide the work, it times itself and says so in
its last line: `{"seconds": 1.23}` (then the peer must too). A turn each without being counted warms the disk's cache.
"""

import argparse
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import psutil

from llama_train.errors import one_line_errors

POLL_SECONDS = 0.1  # a look at all processes costs milliseconds: more often would slow down what is measured
COLUMNS = "| what | ours | peer | ours is ... times as fast | memory, ours | memory, peer |\n|---|---|---|---|---|---|"


def alternate(
    name: str,
    ours: Sequence[str],
    peer: Sequence[str],
    *,
    rounds: int = 5,
    unit: str | None = None,
    amount: float | None = None,
    packages: Sequence[str] = (),
) -> dict[str, Any]:
    """Run two commands in turn (ours, peer, ours, ...) and compare their median times.

    ours, peer: a program and its arguments. unit and amount: what each does in one run, such as "MB" and 12.3; gives
    `rate` in units a second. packages: distributions whose versions are told, beside Python's.

    Returns {name, date, rounds, unit, amount, ours, peer, ratio, machine, versions}; `ratio` is the peer's median time
    over ours, so above 1 ours is faster; ours and peer each {command, seconds, median_seconds, peak_mb, rate}, where
    peak_mb (of 10^6 bytes) is the most that the process and its children held at one time in any round. Raises
    ValueError where a command or package is not there, a command fails, or only one of the two times itself."""
    if rounds < 1:
        raise ValueError(f"{rounds} rounds measure nothing: take 1 or more")
    if amount is not None and amount <= 0:
        raise ValueError(f"the amount of work is {amount:g}, which gives no rate: take what one run reads, in its unit")
    versions = {"python": platform.python_version()} | {package: _version(package) for package in packages}
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
    commands = {"ours": ours, "peer": peer}
    for _ in range(rounds + 1):
        for side, command in commands.items():
            runs[side].append(measure(command))
        if runs["ours"][0]["times_itself"] != runs["peer"][0]["times_itself"]:
            raise ValueError(
                f"{name}: only one of the two times itself; both must end in a line of seconds, or neither"
            )
    sides: dict[str, Any] = {}
    for side, command in commands.items():
        counted = runs[side][1:]  # the first warmed up
        seconds = [run["seconds"] for run in counted]
        median = statistics.median(seconds)
        sides[side] = {
            "command": shlex.join(command),
            "seconds": [round(value, 6) for value in seconds],
            "median_seconds": round(median, 6),
            "peak_mb": round(max(run["peak_mb"] for run in counted), 1),
            "rate": amount and round(amount / median, 3),
        }
    ratio = sides["peer"]["median_seconds"] / sides["ours"]["median_seconds"]
    told = {"name": name, "date": datetime.now(UTC).date().isoformat(), "rounds": rounds, "unit": unit}
    return told | {"amount": amount} | sides | {"ratio": round(ratio, 3), "machine": machine(), "versions": versions}


def measure(command: Sequence[str]) -> dict[str, Any]:
    """Run a command once: {"seconds", "times_itself", "peak_mb"}. Raises ValueError where it fails or takes no time."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        except OSError as error:
            raise ValueError(f"{shlex.join(command)} does not start: {error.strerror}") from None
        peaks, ended = [0], threading.Event()
        watch = threading.Thread(target=_watch, args=(process.pid, peaks, ended))
        watch.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)  # what Popen.wait does, and the process' own peak memory
            seconds = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            ended.set()
            watch.join()
            if process.returncode is None:
                process.kill()
        said = _last_line(out)
        if process.returncode != 0:
            why = _last_line(err) or said or "it said nothing"
            raise ValueError(f"{shlex.join(command)} failed with exit code {process.returncode}: {why}")
    itself = _own_seconds(said)
    if itself is not None and itself <= 0:
        raise ValueError(f"{shlex.join(command)} says that it took {itself:g} s, which compares with nothing")
    # Linux counts into a process' own peak what its parent held when it started it: below that it says nothing.
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    largest = usage.ru_maxrss * unit if usage.ru_maxrss > before else 0
    return {
        "seconds": seconds if itself is None else itself,
        "times_itself": itself is not None,
        "peak_mb": max(*peaks, largest) / 1e6,
    }


def _watch(pid: int, peaks: list[int], ended: threading.Event) -> None:
    """Append what a process and all below it hold, every now and then. Shared pages count once (PSS), where that is told."""
    while not ended.wait(POLL_SECONDS):
        total = 0
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            for one in [process, *process.children(recursive=True)]:
                with suppress(psutil.Error):
                    memory = one.memory_full_info()
                    total += getattr(memory, "pss", memory.rss)
        peaks.append(total)


def _last_line(file: IO[bytes]) -> str:
    """The last line with anything in it of what a command said."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - 10_000))
    lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _own_seconds(line: str) -> float | None:
    try:
        told = json.loads(line)["seconds"]
    except (ValueError, TypeError, KeyError):
        return None
    return float(told) if isinstance(told, int | float) else None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        raise ValueError(f"{package} is not installed here: pip install {package}") from None


def machine() -> dict[str, Any]:
    """This machine: its processor by name, the cores this process may use, memory (GB), operating system."""
    processor = platform.processor() or platform.machine()
    with suppress(OSError):  # Linux only; platform.processor() is empty or "x86_64" there
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = round(psutil.virtual_memory().total / 1e9, 1)
    return {"processor": processor, "cores": cores, "memory_gb": memory, "system": platform.platform(terse=True)}


def markdown_row(result: Mapping[str, Any]) -> str:
    """A comparison as a row of a table with these `COLUMNS`."""
    speeds = [
        f"{side['rate']:,.4g} {result['unit']}/s" if side["rate"] else f"{side['median_seconds']:.3g} s"
        for side in (result["ours"], result["peer"])
    ]
    memory = [f"{result[side]['peak_mb']:,.0f} MB" for side in ("ours", "peer")]
    cells = [result["name"], *speeds, f"{result['ratio']:.2f}", *memory]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Compare two command lines, write the JSON and print the row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--name", required=True, help="what is compared")
    parser.add_argument("--ours", required=True, type=shlex.split, metavar="CMD")
    parser.add_argument("--peer", required=True, type=shlex.split, metavar="CMD")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--unit", default="MB", help="of the amount")
    parser.add_argument("--amount", type=float, help="what each does in one run; without it no rate is told")
    parser.add_argument("--versions", nargs="*", default=[], metavar="PACKAGE", help="packages whose versions matter")
    options = parser.parse_args()
    with one_line_errors():
        if not options.out.parent.is_dir():  # told now, not after all the rounds
            raise ValueError(f"{options.out.parent}, where {options.out.name} was to go, is no folder: make it first")
        result = alternate(
            options.name,
            options.ours,
            options.peer,
            rounds=options.rounds,
            unit=options.unit if options.amount is not None else None,
            amount=options.amount,
            packages=options.versions,
        )
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(COLUMNS, markdown_row(result), sep="\n")


if __name__ == "__main__":
    main()
