"""A tiny run that is killed, moved and compared: its settings, what it leaves, and whether two of them left the same."""

import json
import re
from pathlib import Path
from typing import Any

BASE = [
    *"--hidden_size 32 --intermediate_size 64 --num_hidden_layers 2 --num_attention_heads 4 --num_key_value_heads 2".split(),
    *"--vocab_size 96 --max_length 48 --use_cpu --bf16 false --learning_rate 0.01 --warmup_steps 5 --logging_steps 1".split(),
]
SPEEDS = {"tokens_per_second", "mfu", "save_seconds", "save_stall_seconds", "save_bytes"}  # differ from run to run
WEIGHED = 8  # rows in an optimizer step, however many processes share them


def words(shards: Path, out: Path, processes: int, *more: str) -> list[str]:
    """The recipe's arguments: WEIGHED rows a step, in two micro-batches of each process."""
    share = ["--per_device_train_batch_size", str(WEIGHED // 2 // processes), "--gradient_accumulation_steps", "2"]
    return [*BASE, *share, "--dataset_path", str(shards), "--output_dir", str(out), *more]


def rows(out: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what depends on the clock; a last line cut short by a kill is left out."""
    found = []
    for line in (out / "metrics.jsonl").read_text().splitlines() if (out / "metrics.jsonl").exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        found.append({key: value for key, value in row.items() if key not in SPEEDS})
    return [row for row in found if row.keys() != {"step"}]


def losses(out: Path) -> dict[int, float]:
    """Training loss by step."""
    return {row["step"]: row["loss"] for row in rows(out) if "loss" in row}


def last_step(out: Path) -> int:
    """The last step this run is known to have trained."""
    return max([row["step"] for row in rows(out)], default=0)


def resumed_from(text: str) -> int | None:
    """The step that a run's output says it resumed from."""
    found = re.search(r"resuming from \S*checkpoint-(\d+)", text)
    return int(found[1]) if found else None


def artefacts(out: Path, step: int) -> dict[str, Any]:
    """Everything a finished run must leave bit by bit: all bytes of its last checkpoint and of final/, and its figures."""
    left: dict[str, Any] = {"metrics.jsonl": rows(out)}
    for folder in (out / f"checkpoint-{step}", out / "final"):
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            left[str(file.relative_to(out))] = file.read_bytes()
    return left


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """The names of what is not the same, or only there once."""
    return [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]
