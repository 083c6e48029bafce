"""Saving a checkpoint: every process its own files, hashed as they are written, then all of them at once into sight.

    checkpoint-200/  config.json  model.safetensors (or model-00001-of-00004.safetensors ... and their index)
                     tokenizer.json ...                     so far a Hugging Face folder: any transformers tool opens it
                     optimizer-00000-of-00002.safetensors   AdamW's moments, one file a process (fragments.py)
                     rng-00000.safetensors                  random state, one file a process
                     trainer_state.json                     step, tokens, data, what the guard remembers
                     manifest.json                          sha256 of all of these, written last (manifest.py)

A thread writes the files into .staging-checkpoint-200 while the main threads look after it together or, with
`async_save`, train on (it then writes copies). When every process has said that its files are on the disk and read back
well, the main one adds the manifest, renames the folder and points `latest` to it: milliseconds, and nobody waits."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llama_train.train.checkpoint import STAGING, point_to_newest, rotate
from llama_train.train.fragments import fragments, optimizer_tensors, own, to_write
from llama_train.train.manifest import sync_folder, write_file, write_manifest
from llama_train.train.model_files import description, gathered, is_sharded, plan_files, safetensors, weight_bytes

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    from llama_train.train.control import Control

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "tokenizer.model",
)
VERSIONS = ("llama_train", "torch", "transformers", "accelerate", "deepspeed")
AT_ONCE = 3  # files of weights that a process gathers before it writes them: 15 GB at most, however large the model
LOOK = 0.005  # seconds between two looks at a save that is waited for

Files = dict[str, Any]  # name -> what is in it: tensors by name, or text, or bytes


@dataclass
class Save:
    """A folder on its way. Its thread fills in what was written, or what went wrong."""

    target: Path
    about: dict[str, Any]
    bytes: int = 0  # of all processes
    entries: dict[str, Any] = field(default_factory=dict)  # the manifest's, of this process
    written: int = 0  # bytes, of this process, so far
    done: bool = False
    problem: str = ""
    thread: threading.Thread | None = None
    started: float = field(default_factory=time.perf_counter)
    stall: float = 0.0  # seconds the training stood still for it

    @property
    def staging(self) -> Path:
        return self.target.with_name(STAGING + self.target.name)


class Saver:
    """Saves the checkpoints of one run. All processes call the same methods in the same order."""

    def __init__(
        self,
        accelerator: "Accelerator",
        control: "Control",
        *,
        tokenizer: str | None = None,
        keep: int = 0,
        background: bool = False,
        progress: Callable[[], None] = lambda: None,
    ):
        """tokenizer: a folder whose files are saved too; keep: newest checkpoints that stay (0: all); background: write
        while training goes on; progress: called whenever bytes were written while the main thread waits for them."""
        self.accelerator, self.control, self.progress = accelerator, control, progress
        self.tokenizer, self.keep, self.background = tokenizer, keep, background
        self.under_way: Save | None = None
        self.figures: dict[str, float] = {}  # of the last complete save, until they are taken

    def checkpoint(
        self, model: Any, optimizer: "AcceleratedOptimizer", output_dir: Path, state: dict[str, Any]
    ) -> None:
        """Save output_dir/checkpoint-{step}. In the background, this returns when what is to be written is copied.

        Raises OSError, in one line, when this save (or the one before it) cannot be written; what was saved before
        stays as it was."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        written = to_write(fragments(model, optimizer, self.accelerator), self.accelerator)
        random_state = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random_state["cuda"] = torch.cuda.get_rng_state()
        files: Files = {
            f"optimizer-{rank:05d}-of-{world:05d}.safetensors": optimizer_tensors(written, optimizer),
            f"rng-{rank:05d}.safetensors": random_state,
        }
        if rank == 0:
            files["trainer_state.json"] = json.dumps(state, indent=2) + "\n"
        self._start(model, files, output_dir / f"checkpoint-{state['step']}", state)
        if not self.background:
            self.wait()

    def model(self, model: Any, target: Path, state: dict[str, Any]) -> None:
        """Save weights, config and tokenizer alone, as a Hugging Face folder with a manifest; it is there on return.

        Raises OSError as `checkpoint` does."""
        self._start(model, {}, target, state)
        self.wait()

    def flags(self) -> tuple[float, float]:
        """(this process has written all of its part, it could not), to be summed over the processes for `poll`."""
        save = self.under_way
        return (float(save.done), float(bool(save.problem))) if save else (0.0, 0.0)

    def poll(self, done: float, failed: float) -> None:
        """Complete the save under way once all processes have written; raises OSError when one could not."""
        if not (save := self.under_way):
            return
        if failed:
            self._give_up(save)
        if done == self.accelerator.num_processes:
            self.under_way = None
            if self.accelerator.is_main_process:
                try:
                    _commit(save)
                    rotate(save.target.parent, self.keep)
                except OSError as error:
                    raise OSError(
                        f"{save.target} was written and could not be put in its place ({error}): checkpoints before it are "
                        "untouched; make room, then start again"
                    ) from None
            seconds = time.perf_counter() - save.started
            self.figures = {"save_seconds": seconds, "save_stall_seconds": save.stall, "save_bytes": save.bytes}

    def wait(self) -> None:
        """Until no save is under way. The processes look at each other's state, none waits long in a collective."""
        since, seen = time.perf_counter(), -1
        while save := self.under_way:
            if save.written != seen:
                self.progress()
            seen = save.written
            time.sleep(LOOK)
            save.stall += time.perf_counter() - since
            since = time.perf_counter()
            self.poll(*self.control.sum(*self.flags()))

    def _start(self, model: Any, files: Files, target: Path, state: dict[str, Any]) -> None:
        """See that there is room, gather and copy what is to be written, and let a thread write it."""
        self.wait()
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        save = Save(target, {key: state[key] for key in ("step", "engine", "num_processes")})
        plan, parameters = plan_files(model), dict(own(model).named_parameters())
        if rank == 0:
            files |= description(model, plan) | self._tokenizer_files()
            save.bytes = sum(weight_bytes(parameter) for parameter in parameters.values())
        save.bytes = int(self.control.sum(save.bytes + sum(_size(content) for content in files.values()))[0])
        if (free := shutil.disk_usage(target.parent).free) < save.bytes:
            save.problem = f"{save.bytes / 2**20:,.1f} MiB are needed, {free / 2**20:,.1f} MiB are free"
        for number, (name, members) in enumerate(plan.items()):
            mine = number % world == rank
            tensors = {member: gathered(parameters[member], mine) for member in members}
            if mine:
                files[name] = tensors
            if is_sharded(model) and (number + 1) % (AT_ONCE * world) == 0:
                _write(save, files)
                files = {}
        if self.background:
            files = {name: _copied(content) for name, content in files.items()}
        save.thread = threading.Thread(target=_finish, args=(save, files, rank), name="save", daemon=True)
        save.thread.start()
        self.under_way = save
        save.stall = time.perf_counter() - save.started

    def _tokenizer_files(self) -> Files:
        found = [Path(self.tokenizer, name) for name in TOKENIZER_FILES] if self.tokenizer else []
        return {source.name: source.read_bytes() for source in found if source.exists()}

    def _give_up(self, save: Save) -> None:
        self.under_way = None
        save.thread.join()
        self.control.sum(0)  # every process' thread has ended
        if self.accelerator.is_main_process:
            shutil.rmtree(save.staging, ignore_errors=True)
        raise OSError(
            f"{save.target} could not be written ({save.problem or 'on another process'}; "
            f"{shutil.disk_usage(save.target.parent).free / 2**20:,.1f} MiB free): earlier checkpoints are untouched; "
            "make room, then start again, it resumes from the newest one"
        )


def _write(save: Save, files: Files) -> None:
    """Write files into the staging folder. A problem is noted for the main thread, and nothing is written after it."""
    try:
        for name, content in {} if save.problem else files.items():
            save.staging.mkdir(parents=True, exist_ok=True)
            chunks = safetensors(content) if isinstance(content, dict) else [_bytes(content)]
            save.entries[name] = write_file(save.staging / name, _counted(save, chunks))
    except Exception as error:  # whatever it is: each library has its own type for a full disk
        save.problem = str(error).splitlines()[0] if str(error) else type(error).__name__


def _finish(save: Save, files: Files, rank: int) -> None:
    """In a thread: write the rest, and for the main process the list of all that this one wrote."""
    _write(save, files)
    _write(save, {f".part-{rank:05d}": json.dumps(save.entries)})
    save.done = not save.problem


def _commit(save: Save) -> None:
    """On the main process: the manifest, the folder's final name, `latest`. Until the rename it is no checkpoint."""
    entries: dict[str, Any] = {}
    for part in sorted(save.staging.glob(".part-*")):
        entries |= json.loads(part.read_text())
        part.unlink()
    write_manifest(save.staging, entries, save.about | {"versions": _versions()})
    sync_folder(save.staging)
    replaced = save.target.with_name(f"{STAGING}old-{save.target.name}")
    if save.target.exists():
        save.target.rename(replaced)
    save.staging.rename(save.target)
    sync_folder(save.target.parent)
    if save.target.name.startswith("checkpoint-"):
        point_to_newest(save.target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _versions() -> dict[str, str]:
    found = {}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _counted(save: Save, chunks: Iterable[Any]) -> Iterator[Any]:
    for chunk in chunks:
        yield chunk
        save.written += len(chunk)


def _copied(content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in content.items()}


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _size(content: Any) -> int:
    if isinstance(content, dict):
        return sum(tensor.numel() * tensor.element_size() for tensor in content.values())
    return len(_bytes(content))
