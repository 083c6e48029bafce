"""What `llama-train check --cluster` makes of the processes' reports: a table, and why the run should not start."""

import statistics
from collections import Counter, defaultdict
from typing import Any

from llama_train.planner import Plan

CLOCK = 1.0  # seconds by which a clock may differ
SLOW = 2.0  # times the median matrix product
WRITTEN = 32 * 2**20  # bytes that each process writes, all at once, as a checkpoint's shards are
GIB = 2**30


def bytes_needed(run: Plan) -> int:
    """Bytes of all that a run keeps in output_dir at once: its checkpoints with one more being written, and `final`.

    A checkpoint has fp32 weights and AdamW's two moments: 12 bytes a parameter."""
    settings = run.settings
    saves = 1 + ((run.steps - 1) // settings.save_steps if settings.save_steps else 0)
    at_once = settings.save_total_limit + 1 + bool(settings.eval_dataset_path)  # the best one is never removed
    kept = min(saves, at_once) if settings.save_total_limit else saves
    return (12 * kept + 4) * run.parameters


def problems(reports: list[dict[str, Any]], needed: int) -> list[str]:
    """Why the run should not start; each line names machine and process. needed: bytes to have room for.

    reports: what cluster.py found, of each process by rank: `host`, `rank`, `same` (what must be the same on all, None
    where it is not known), `clocks` (readings at the same instants, seconds), `matmul` and `write` (seconds), `all_reduce`
    (bytes per second), `free` and `held` (bytes), `unseen` (ranks) and `failed` (text)."""
    found = []
    for key in reports[0]["same"]:
        known = [report for report in reports if report["same"][key] is not None]
        usual = Counter(report["same"][key] for report in known).most_common(1)
        if odd := [report for report in known if report["same"][key] != usual[0][0]]:
            theirs = ", ".join(sorted({report["same"][key] for report in odd}))
            found.append(f"{key} is {theirs} on {_names(odd)}, {usual[0][0]} on the others")
    if odd := [report for report in reports if report["failed"]]:
        found.append(f"output_dir cannot be written on {_names(odd)} ({odd[0]['failed']})")
    elif odd := [report for report in reports if report["unseen"]]:
        unseen = _names([reports[rank] for rank in odd[0]["unseen"]])
        found.append(f"output_dir is not one folder for all: {_names(odd)} does not see what {unseen} wrote there")
    elif (room := reports[0]["free"] + reports[0]["held"]) < needed:
        found.append(
            f"{_names(reports[:1])} has {room / GIB:,.2f} GiB free for output_dir, the run's checkpoints need "
            f"{needed / GIB:,.2f} GiB: lower save_total_limit, or choose another --output_dir"
        )
    offsets = clock_offsets(reports)
    if odd := [report for report, offset in zip(reports, offsets, strict=True) if abs(offset) > CLOCK]:
        found.append(f"the clock is {max(offsets, key=abs):+.1f} s off on {_names(odd)}: let NTP set it")
    usual = statistics.median(report["matmul"] for report in reports)
    if odd := [report for report in reports if report["matmul"] > SLOW * usual]:
        times = max(report["matmul"] for report in odd) / usual
        found.append(f"{_names(odd)} takes {times:.1f} times as long as the others for a matrix product")
    return found


def clock_offsets(reports: list[dict[str, Any]]) -> list[float]:
    """Seconds by which each process' clock is ahead of the median one: the middle one of several readings.

    A process that was late at an instant reads too much; it is not late at most of them."""
    medians = [statistics.median(moment) for moment in zip(*(report["clocks"] for report in reports), strict=True)]
    return [
        statistics.median(now - then for now, then in zip(report["clocks"], medians, strict=True)) for report in reports
    ]


def table(reports: list[dict[str, Any]], needed: int) -> str:
    """One line a machine, then the figures of all together."""
    offsets, hosts = clock_offsets(reports), defaultdict(list)
    for rank, report in enumerate(reports):
        hosts[report["host"]].append(rank)
    lines = ["machine               processes   matrix product    clock     written"]
    for host, ranks in hosts.items():
        slowest = max(reports[rank]["matmul"] for rank in ranks) * 1e3
        offset = max((offsets[rank] for rank in ranks), key=abs)
        written = sum(WRITTEN / reports[rank]["write"] for rank in ranks) / 1e9
        place = f"{ranks[0]}-{ranks[-1]}" if len(ranks) > 1 else str(ranks[0])
        lines.append(f"{host:<22}{place:<12}{slowest:>8.2f} ms {offset:>+12.3f} s {written:>6.2f} GB/s")
    slowest_rank = max(range(len(reports)), key=lambda rank: reports[rank]["matmul"])
    usual = statistics.median(report["matmul"] for report in reports)
    together = len(reports) * WRITTEN / max(report["write"] for report in reports)
    figures = {
        "all-reduce": f"{min(r['all_reduce'] for r in reports) / 1e9:.2f} GB/s a process (2 (n-1)/n x bytes / time)"
        if len(reports) > 1
        else "one process: none",
        "slowest": f"{_names([reports[slowest_rank]])}, {reports[slowest_rank]['matmul'] / usual:.2f} x the median",
        "output_dir": f"{together / 1e9:.2f} GB/s written by all at once; {reports[0]['free'] / GIB:,.1f} GiB free, "
        f"{needed / GIB:,.2f} GiB needed for checkpoints, of which {reports[0]['held'] / GIB:,.2f} are there",
        **{key: value or "unknown" for key, value in reports[0]["same"].items()},
    }
    return "\n".join([*lines, "", *(f"{key:<14}{value}" for key, value in figures.items())])


def _names(reports: list[dict[str, Any]]) -> str:
    """`node7 (process 3)`; of many, the first three."""
    names = [f"{report['host']} (process {report['rank']})" for report in reports]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
