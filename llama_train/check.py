"""`llama-train check`: one's own settings, shrunk, trained in several ways that must come to the same.

The runs are the real recipe in processes of their own, so what is checked is what trains: the whole batch at once,
accumulated, over two processes (DDP, and ZeRO-2 where it can run), and resumed in the middle."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from llama_train.check_shrunk import ROWS, STEPS, shrink
from llama_train.settings import PretrainSettings, load_settings, settings_to_yaml

if TYPE_CHECKING:
    from llama_train.check_compare import Row

RESUMED = STEPS // 2
PATIENCE = 300  # seconds for runs that take 10 on an idle machine
LAUNCHERS = ("ACCELERATE_", "FSDP_", "TORCHELASTIC_", "MASTER_", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "RANK", "WORLD_SIZE")
TWO = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc_per_node", "2"]
ERROR = re.compile(r"(\[rank\d+\]: )?(error\b|[\w.]+Error\b)")  # the line that says what was wrong
ZERO2 = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}


def check_settings(argv: list[str]) -> None:
    """Check the run that `[YAML] [--key value]...` asks for, and print a table of the largest differences.

    Needs no data, no GPU and no network, and writes to a temporary folder only. Raises ValueError naming the rows that
    are out of bounds, or a run that failed."""
    settings = load_settings([*argv, "--dry_run"])
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="llama-train-check-") as folder:
        tiny = shrink(settings, Path(folder))
        print(_about(settings, tiny), flush=True)
        found, missing = compare(tiny, Path(folder))
    print(_table(found), *missing, f"{time.monotonic() - started:.0f} s", sep="\n", flush=True)
    if breaches := [row.name for row in found if not row.ok]:
        raise ValueError(f"check: {len(breaches)} of {len(found)} comparisons are out of bounds: {'; '.join(breaches)}")


def compare(tiny: PretrainSettings, folder: Path) -> tuple[list["Row"], list[str]]:
    """Train `tiny` in every way below `folder`; the comparisons, and a line for each that this machine cannot make."""
    names = ("whole", "accumulated", "resumed", "ddp", "zero2")
    whole, accumulated, resumed, ddp, zero2 = (folder / name for name in names)
    with Runs(tiny) as runs:  # few at a time: a small machine has two cores
        runs.start(whole, rows=ROWS)
        runs.start(accumulated, rows=1)
        runs.wait()
        runs.start(resumed, rows=ROWS, resume_from=whole / f"checkpoint-{RESUMED}")
        runs.start(ddp, rows=1, launcher=TWO)
        runs.wait()
        missing = without_zero()
        if not missing:
            runs.start(zero2, rows=1, launcher=TWO, environment=ZERO2)

        # imported here: while the runs go on
        from transformers.utils import logging

        from llama_train.check_compare import compare_documents, compare_resumed, compare_splits, compare_transformers
        from llama_train.data.packing import Rows
        from llama_train.data.shards import Shards
        from llama_train.model.llama import LlamaForCausalLM

        logging.disable_progress_bar()  # transformers' own, for each file it reads
        found = compare_splits(f"{ROWS} rows at once vs accumulated", whole, accumulated)
        found += compare_splits("1 process vs 2 (DDP)", whole, ddp)
        last = whole / f"checkpoint-{STEPS}"
        rows = Rows(Shards(str(tiny.dataset_path)), tiny.max_length or 0)
        model = LlamaForCausalLM.from_pretrained(last, attn_implementation=tiny.attn_implementation)
        after = compare_documents(model, [rows[i] for i in range(ROWS)], tiny.packing)
        after += compare_resumed(whole, resumed, RESUMED, STEPS)
        after += compare_transformers(model, last, [rows[i] for i in range(ROWS)], tiny.packing)
        runs.wait()
        if not missing:
            found += compare_splits("1 process vs 2 (ZeRO-2)", whole, zero2)
    if not tiny.packing:
        missing.append("not compared: isolation (packing: false, each document has a row of its own)")
    return found + after, missing


def without_zero() -> list[str]:
    """Why ZeRO-2 cannot run on this CPU, as a line; nothing where it can."""
    if not find_spec("deepspeed"):
        return ["not compared: ZeRO-2 (deepspeed is not installed)"]
    if not (os.environ.get("CXX") or any(map(shutil.which, ("c++", "g++", "clang++")))):
        return ["not compared: ZeRO-2 (on CPU it needs a C++ compiler)"]
    return []


class Runs:
    """Runs of the recipe at the same time, each in processes of its own; whatever ends the block ends them."""

    def __init__(self, tiny: PretrainSettings):
        package = Path(__file__).parent
        places = [place / "recipes/pretrain.py" for place in (package, package.parent)]  # a wheel's, a checkout's
        self.recipe = next(place for place in places if place.exists())
        self.tiny = tiny
        self.running: dict[Path, subprocess.Popen] = {}

    def __enter__(self) -> "Runs":
        return self

    def __exit__(self, *_: object) -> None:
        for run in self.running.values():
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()

    def start(
        self,
        output_dir: Path,
        rows: int,
        launcher: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        resume_from: Path | None = None,
    ) -> None:
        """Start the tiny run with micro-batches of `rows`, on two processes where there is a launcher."""
        settings = replace(
            self.tiny,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=ROWS // rows // (2 if launcher else 1),
            output_dir=str(output_dir),
            resume_from_checkpoint=str(resume_from or "auto"),
        )
        yaml = output_dir.with_suffix(".yaml")
        yaml.write_text(settings_to_yaml(settings), encoding="utf-8")
        own = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHERS)}
        own |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", **(environment or {})}
        with output_dir.with_suffix(".log").open("w") as log:
            self.running[output_dir] = subprocess.Popen(
                [sys.executable, *launcher, str(self.recipe), str(yaml)],
                env=own,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that a launcher's processes can be ended with it
            )

    def wait(self) -> None:
        """Until all have ended. Raises ValueError with what a run said where it failed or took too long."""
        for output_dir, run in self.running.items():
            try:
                code = run.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                raise ValueError(f"check: the run '{output_dir.name}' took longer than {PATIENCE} s") from None
            if code:
                lines = output_dir.with_suffix(".log").read_text(errors="replace").strip().splitlines() or ["silent"]
                said = [line for line in lines if ERROR.match(line)] or lines[-1:]
                raise ValueError(f"check: the run '{output_dir.name}' failed with exit code {code}: {said[0]}")
        self.running.clear()


def _about(settings: PretrainSettings, tiny: PretrainSettings) -> str:
    name = settings.model or settings.model_name_or_path or settings.run_name
    lines = [
        f"{name}, shrunk: {tiny.num_hidden_layers} layers of width {tiny.hidden_size}, {tiny.num_attention_heads} query "
        f"and {tiny.num_key_value_heads} key/value heads, {tiny.vocab_size} token ids, {STEPS} steps of {ROWS} rows of "
        f"{tiny.max_length} tokens"
    ]
    here = [("bf16", "fp32"), ("torch_compile", "uncompiled")]
    if different := [f"{key}: true -> {value}" for key, value in here if getattr(settings, key)]:
        lines.append(f"compared otherwise than the run: {', '.join(different)}")
    return "\n".join(lines)


def _table(rows: list["Row"]) -> str:
    width = max(len(row.name) for row in rows)
    lines = [f"\n{'compared':<{width}}  largest difference    bound"]
    for row in rows:
        bound = f"{row.bound:.0e}" if row.bound else "equal"
        lines.append(f"{row.name:<{width}}  {row.difference:>18.1e}  {bound:>7}  {'ok' if row.ok else 'BREACH'}")
    return "\n".join(lines)
