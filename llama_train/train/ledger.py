"""The ledger of a run: which data it has taken, so that a resumed run takes the rest and nothing else.

A segment is one data set in one order; `batch` in the state counts the global batches taken from the newest segment.
Where the data changed the run is refused, or a new segment begins at batch 0 of the new order (accept_changed_data)."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from llama_train.data.packing import Rows
    from llama_train.planner import Plan
    from llama_train.settings import PretrainSettings

# What must be the same for a place in the data to mean the same place, and how to call it.
SAME = {
    "shards": "the token shards",
    "tokenizer": "the tokenizer",
    "max_length": "max_length",
    "seed": "seed",
    "rows_per_step": "the rows of a step (per_device_train_batch_size x accumulation x processes)",
}


def segment(rows: "Rows", settings: "PretrainSettings", plan: "Plan", num_processes: int) -> dict[str, Any]:
    """A new segment: what identifies the data and its order, and what helps to tell two apart."""
    return {
        "from_step": 0,
        "shards": rows.shards.fingerprint,
        "tokenizer": rows.shards.tokenizer["sha256"],
        "max_length": rows.max_length,
        "seed": settings.seed,
        "rows_per_step": plan.rows_per_step,
        "num_processes": num_processes,  # by which the settings made so many rows
        "dataset_path": settings.dataset_path,
        "tokens": len(rows.shards),
        "skipped_batches": [],
    }


def go_on(
    saved: dict[str, Any], fresh: dict[str, Any], checkpoint: "Path", accept_changed_data: bool
) -> dict[str, Any]:
    """The saved state under this run's engine, its ledger with a new segment where the data changed and may.

    Raises ValueError, with each difference, where it may not."""
    state = saved | {key: value for key, value in fresh.items() if key not in RUNNING}
    then, now = saved["ledger"][-1], fresh["ledger"][-1]
    if differences := [f"{name} ({_short(then, key)} then, {_short(now, key)} now)" for key, name in SAME.items()
                       if then[key] != now[key]]:  # fmt: skip
        if not accept_changed_data:
            raise ValueError(
                f"{' and '.join(differences)} changed since {checkpoint}, so its place in the data is lost: put it back, "
                "or go on with the new data from its beginning: --accept_changed_data"
            )
        state |= {"batch": 0, "ledger": [*saved["ledger"], now | {"from_step": saved["step"]}]}
    return state


# What a state carries on; everything else in it describes the process group and the settings of the moment.
RUNNING = ("step", "batch", "num_input_tokens_seen", "ledger", "eval_loss", "losses", "grad_norms")


def keep_global_batch(
    settings: "PretrainSettings", rows_per_step: int, num_processes: int, saved: dict[str, Any] | None
) -> "PretrainSettings":
    """The settings, their batch shared anew where a checkpoint's run was launched with another number of processes.

    rows_per_step: what the settings amount to with num_processes; saved: the checkpoint's state, if there is one. Rows
    that differ for another reason stay, and are refused later. Raises ValueError where they cannot be shared evenly."""
    if saved is None:
        return settings
    then = saved["ledger"][-1]
    rows = then["rows_per_step"]
    if rows_per_step == rows or rows_per_step * then["num_processes"] != rows * num_processes:
        return settings
    if rows % num_processes:
        raise ValueError(
            f"the checkpoint's global batch of {rows} rows cannot be shared evenly by {num_processes} processes: "
            "launch a number that divides it, or start from its weights with --model_name_or_path and another --output_dir"
        )
    share = rows // num_processes
    size = max(size for size in range(1, settings.per_device_train_batch_size + 1) if share % size == 0)
    return replace(
        settings,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=share // size,
        global_batch_tokens=None,
    )


def _short(data: dict[str, Any], key: str) -> str:
    if key == "shards":
        return f"{data['tokens']:,} tokens, sha256 {data[key][:12]}, {data['dataset_path']}"
    return str(data[key])[:12]
