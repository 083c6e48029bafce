"""The checkpoints of a run: which there are, which is good, what is in it, which may go. saving.py writes them.

Nothing is believed that has not been verified: a checkpoint with a byte that is not as it was written is moved to
output_dir/quarantine, and the one before it is taken. All files are safetensors and JSON: loading runs no code."""

import fcntl
import itertools
import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from llama_train.train.fragments import fragments, load_optimizer, load_weights, own, shape_of
from llama_train.train.manifest import describe_file, read_manifest, replace_file, verify
from llama_train.train.model_files import WEIGHTS

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    from llama_train.train.control import Control

STAGING = ".staging-"
LAUNCH = ".launch"  # whose run lies here


@contextmanager
def open_output_dir(output_dir: Path, patience: float = 20.0) -> Iterator[None]:
    """Create output_dir, see that it can be written, keep other runs out of it, remove what a killed run left half-written.

    patience: seconds to wait for a run that is ending. Raises OSError when it may not be written, or another run has it."""
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        lock = open(output_dir / ".lock", "a+", encoding="utf-8")  # noqa: SIM115  (the system frees it with its process)
    except OSError as error:
        raise OSError(
            f"output_dir {output_dir} cannot be written ({error.strerror}): choose another with --output_dir"
        ) from None
    with lock:
        _lock(lock, output_dir, patience)
        for leftover in output_dir.glob(f"{STAGING}*"):
            shutil.rmtree(leftover)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield


def _lock(lock: IO[str], output_dir: Path, patience: float) -> None:
    until = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                lock.seek(0)
                raise OSError(
                    f"another run ({lock.read()}) writes to {output_dir}: end it, or choose another --output_dir"
                ) from None
            time.sleep(0.2)
        except OSError:  # a file system without locks
            return None


def move_aside(output_dir: Path, start_step: int) -> None:
    """Move what an earlier run wrote after `start_step` to output_dir/previous-N; all of it where that is 0."""
    later = [path for path in checkpoints(output_dir) if _step(path) > start_step]
    names = [] if _final_step(output_dir) in (None, start_step) else ["final"]
    if start_step == 0:
        later = [path for path in output_dir.glob("checkpoint-*") if path.is_dir()]
        names = ["final", "latest", "metrics.jsonl", "config.yaml", "loss.png", "wandb-run.json", "wandb"]
    earlier = later + [path for name in names if (path := output_dir / name).exists()]
    if earlier:
        folder = _unused(output_dir, "previous-")
        folder.mkdir()
        for path in earlier:
            path.rename(folder / path.name)
        point_to_newest(output_dir)


def point_to_newest(output_dir: Path) -> None:
    """Let the file `latest` name the newest checkpoint there is."""
    if found := checkpoints(output_dir):
        replace_file(output_dir / "latest", found[-1].name + "\n")
    else:
        (output_dir / "latest").unlink(missing_ok=True)


def checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoints of a run, oldest first; whether they are good, only `verify` knows."""
    found = [path for path in output_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=_step)


def find_checkpoint(resume: str, output_dir: Path, accelerator: "Accelerator", control: "Control") -> Path | None:
    """The verified checkpoint to resume from: `auto` the newest good one in output_dir, if any; `none` no one; else the
    path given. Every process must call it: each reads a share of the files.

    A bad one in output_dir is moved to output_dir/quarantine, with a line that says why. Raises ValueError when the
    path given is not a good checkpoint, or when all in output_dir are bad."""
    if resume == "none":
        return None
    if resume != "auto":
        if not Path(resume).is_dir():
            raise ValueError(f"resume_from_checkpoint: there is no folder {resume}: name one, or say auto or none")
        if problems := _problems(Path(resume), accelerator):
            raise ValueError(f"resume_from_checkpoint: {resume} is not a good checkpoint ({'; '.join(problems)})")
        return Path(resume)
    found = checkpoints(output_dir)
    for checkpoint in reversed(found):
        problems = _problems(checkpoint, accelerator)
        if not problems:
            return checkpoint
        if accelerator.is_main_process:
            moved = f"{checkpoint} is damaged and moved to {output_dir / 'quarantine'}"
            print(f"{moved}: {'; '.join(problems)}", flush=True)
            (output_dir / "quarantine").mkdir(exist_ok=True)
            checkpoint.rename(_unused(output_dir / "quarantine", f"{checkpoint.name}-"))
            point_to_newest(output_dir)
        control.sum(0)  # before anyone looks again
    if found:
        raise ValueError(
            f"all {len(found)} checkpoints in {output_dir} are damaged and now lie in {output_dir / 'quarantine'}: "
            "look at the disk, then start anew with --resume_from_checkpoint none"
        )
    return None


def _problems(checkpoint: Path, accelerator: "Accelerator") -> list[str]:
    """What all processes together found wrong with a checkpoint."""
    from accelerate.utils import gather_object

    mine = verify(checkpoint, (accelerator.process_index, accelerator.num_processes))
    return list(dict.fromkeys(gather_object(mine) if accelerator.num_processes > 1 else mine))


def resume_again(resume: str, output_dir: Path, environment: Mapping[str, str]) -> str:
    """What `resume_from_checkpoint` means to a run that its launcher has started again: its own newest checkpoint.

    Else `none`, or an older checkpoint, would undo with each restart what had been trained. Only once this launch has
    begun to train there (`mark_launch`): what lies there before is another run's."""
    restarted = any(int(environment.get(name, 0)) for name in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"))
    mark = output_dir / LAUNCH
    ours = restarted and mark.exists() and mark.read_text(encoding="utf-8") == launch_id(environment)
    return "auto" if ours and checkpoints(output_dir) else resume


def mark_launch(output_dir: Path, environment: Mapping[str, str]) -> None:
    """From now on what lies in output_dir is this launch's run."""
    replace_file(output_dir / LAUNCH, launch_id(environment))


def launch_id(environment: Mapping[str, str]) -> str:
    """What stays the same when a launcher starts a run's processes again: Slurm's job, torchrun's id, or its process."""
    job, run = environment.get("SLURM_JOB_ID"), environment.get("TORCHELASTIC_RUN_ID", "none")
    return job or (run if run != "none" else f"{socket.gethostname()} {os.getppid()}")


def peek(resume: str, output_dir: Path) -> dict[str, Any] | None:
    """The state of the checkpoint a run will probably resume from, that file alone verified; None where there is none."""
    for folder in reversed(checkpoints(output_dir) if resume == "auto" else [Path(resume)]):
        try:
            file = folder / "trainer_state.json"
            if describe_file(file) == read_manifest(folder)["files"][file.name]:
                return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError):
            continue
    return None


def load_training_state(
    accelerator: "Accelerator", model: Any, optimizer: "AcceleratedOptimizer", checkpoint: Path, weights: bool
) -> dict[str, Any]:
    """Put a verified checkpoint's optimizer and random state back, and its weights too if the model has others.

    Engine and number of processes may differ from those that saved it. Returns trainer_state.json. Raises ValueError
    where something is missing from it."""
    mine = fragments(model, optimizer, accelerator)
    sizes = {name: torch.Size(shape_of(parameter)).numel() for name, parameter in own(model).named_parameters()}
    load_optimizer(mine, optimizer, sorted(checkpoint.glob("optimizer-*.safetensors")), sizes)
    if weights:
        files = [file for pattern in WEIGHTS for file in sorted(checkpoint.glob(pattern))]
        load_weights(model, mine, files, accelerator)
    state = checkpoint / f"rng-{accelerator.process_index:05d}.safetensors"
    if state.exists():  # a process that joined after the save starts from its seed
        random_state = load_file(state)
        torch.set_rng_state(random_state["cpu"])
        if "cuda" in random_state and torch.cuda.is_available():
            torch.cuda.set_rng_state(random_state["cuda"])
    return json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))


def rotate(output_dir: Path, keep: int) -> None:
    """Remove the checkpoints that are neither among the `keep` newest nor the one with the lowest held-out loss.

    Called after a save, which has just been read back and verified, and is the newest. keep 0 removes none. A folder
    first leaves sight, then a thread deletes it: large ones take seconds, which the end of the process waits for."""
    losses = {_step(path): _eval_loss(path) for path in checkpoints(output_dir)}
    for step in to_remove(losses, keep):
        aside = output_dir / f"{STAGING}old-checkpoint-{step}"
        (output_dir / f"checkpoint-{step}").rename(aside)
        threading.Thread(target=shutil.rmtree, args=(aside, True)).start()


def to_remove(losses: dict[int, float | None], keep: int) -> list[int]:
    """Of checkpoints by step, with their held-out loss where there was one, those that rotation removes, oldest first."""
    newest = sorted(losses)[-keep:]
    measured = {step: loss for step, loss in losses.items() if loss is not None}
    best = min(measured, key=lambda step: (measured[step], -step), default=None)
    return [step for step in sorted(losses) if keep and step not in newest and step != best]


def _eval_loss(checkpoint: Path) -> float | None:
    try:
        return json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["eval_loss"]
    except (OSError, ValueError, KeyError):
        return None


def _final_step(output_dir: Path) -> int | None:
    try:
        return read_manifest(output_dir / "final")["step"]
    except (ValueError, KeyError):
        return -1 if (output_dir / "final").exists() else None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _unused(folder: Path, prefix: str) -> Path:
    return next(path for n in itertools.count(1) if not (path := folder / f"{prefix}{n}").exists())
