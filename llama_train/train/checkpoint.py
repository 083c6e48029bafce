"""A checkpoint is a Hugging Face model folder with the training state beside it.

    checkpoint-200/  config.json  model.safetensors  tokenizer.json ...      any transformers tool opens it
                     trainer_state.json                                      step, tokens, engine, what the data was
                     optimizer.safetensors  or  deepspeed/                   AdamW's moments, by parameter name
                     rng-00000.safetensors                                   random state, one file per process

It is written into a staging folder and renamed when complete, so a folder called checkpoint-N is never half a
checkpoint."""

import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    from llama_train.model.llama import LlamaForCausalLM

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "tokenizer.model",
)


def save_model(accelerator: "Accelerator", model: Any, tokenizer: str | None, folder: Path) -> None:
    """Write weights, config and tokenizer as a Hugging Face folder, whole or not at all. Every process must call it.

    Raises OSError, in one line, when it cannot be written; a folder that was there before then stays as it was."""
    weights = _whole_weights(accelerator, model)

    def write(staging: Path) -> None:
        _check_space(staging, model, copies=1)
        if accelerator.is_main_process:
            _write_model(model, weights, tokenizer, staging)

    _commit(accelerator, folder, write)


def save_checkpoint(
    accelerator: "Accelerator",
    model: Any,
    optimizer: "AcceleratedOptimizer",
    tokenizer: str | None,
    output_dir: Path,
    state: dict[str, Any],
    keep: int | None,
) -> Path:
    """Write output_dir/checkpoint-{state["step"]} and remove the oldest beyond `keep`. Every process must call it.

    Raises OSError, in one line, when the disk is full or may not be written; what was saved before stays as it was."""
    target = output_dir / f"checkpoint-{state['step']}"
    deepspeed = accelerator.distributed_type == "DEEPSPEED"
    weights = _whole_weights(accelerator, model)
    optimizer_state = {} if deepspeed else _optimizer_state(model, optimizer)
    if deepspeed:  # its barriers are inside: a process that fails here ends, and the launcher ends the others
        _check_space(output_dir, model, copies=4)
        model.save_checkpoint(str(_staging(target) / "deepspeed"), tag="state")

    def write(staging: Path) -> None:
        _check_space(staging, model, copies=1 if deepspeed else 3)  # AdamW's two moments weigh as much as the weights
        save_file(_random_state(), staging / f"rng-{accelerator.process_index:05d}.safetensors")
        if accelerator.is_main_process:
            _write_model(model, weights, tokenizer, staging)
            if optimizer_state:
                save_file(optimizer_state, staging / "optimizer.safetensors")
            (staging / "trainer_state.json").write_text(json.dumps(state, indent=2))

    _commit(accelerator, target, write)
    if accelerator.is_main_process and keep:
        for old in [path for path in checkpoints(output_dir) if path != target][: 1 - keep or None]:
            shutil.rmtree(old)
    return target


def open_output_dir(output_dir: Path) -> None:
    """Create output_dir, see that it can be written, and remove what a killed run left half-written.

    Raises OSError when it may not be written."""
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        for leftover in output_dir.glob(".staging-*"):
            shutil.rmtree(leftover)
        (output_dir / ".writable").touch()
        (output_dir / ".writable").unlink()
    except OSError as error:
        raise OSError(
            f"output_dir {output_dir} cannot be written ({error.strerror}): choose another with --output_dir"
        ) from None


def move_aside(output_dir: Path, start_step: int) -> None:
    """Move what an earlier run wrote after `start_step` to output_dir/previous-N; all of it where that is 0."""
    later = [path for path in checkpoints(output_dir) if _step(path) > start_step]
    names = ["final"] if later else []
    if start_step == 0:
        later = [path for path in output_dir.glob("checkpoint-*") if path.is_dir()]
        names = ["final", "metrics.jsonl", "config.yaml", "loss.png"]
    earlier = later + [path for name in names if (path := output_dir / name).exists()]
    if earlier:
        number = next(n for n in itertools.count(1) if not (output_dir / f"previous-{n}").exists())
        (output_dir / f"previous-{number}").mkdir()
        for path in earlier:
            path.rename(output_dir / f"previous-{number}" / path.name)


def checkpoints(output_dir: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [path for path in output_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    complete = [path for path in found if (path / "trainer_state.json").exists()]
    return sorted(complete, key=_step)


def find_checkpoint(resume: str, output_dir: Path) -> Path | None:
    """The checkpoint to resume from: `auto` the newest in output_dir, if any; `none` no one; else the path given.

    Raises ValueError when the path is not a complete checkpoint."""
    if resume == "none":
        return None
    if resume == "auto":
        return (checkpoints(output_dir) or [None])[-1]
    if not Path(resume, "trainer_state.json").exists():
        raise ValueError(f"resume_from_checkpoint: {resume} is not a checkpoint (no trainer_state.json in it)")
    return Path(resume)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint's trainer_state.json. Raises ValueError, naming the file, where it is broken."""
    file = checkpoint / "trainer_state.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{file} is broken ({error}): resume from an earlier checkpoint with --resume_from_checkpoint"
        ) from None


def load_training_state(
    accelerator: "Accelerator", model: Any, optimizer: "AcceleratedOptimizer", checkpoint: Path, engine: str
) -> dict[str, Any]:
    """Put optimizer and random state back (the weights were loaded with the model) and return trainer_state.json.

    Raises ValueError when the checkpoint was written by another engine, or by another number of ZeRO processes."""
    state = read_state(checkpoint)
    ours, theirs = (engine, accelerator.num_processes), (state["engine"], state["num_processes"])
    deepspeed = accelerator.distributed_type == "DEEPSPEED"
    if deepspeed != theirs[0].startswith("zero") or (deepspeed and ours != theirs):
        raise ValueError(
            f"{checkpoint} holds the optimizer of {theirs[0]} with {theirs[1]} processes, this run is {ours[0]} with {ours[1]}: "
            f"launch it as it was, or start from its weights with --model_name_or_path {checkpoint} --output_dir ANOTHER"
        )
    if deepspeed:
        model.load_checkpoint(str(checkpoint / "deepspeed"), tag="state")
    else:
        _load_optimizer_state(model, optimizer, load_file(checkpoint / "optimizer.safetensors"))
    own = checkpoint / f"rng-{accelerator.process_index:05d}.safetensors"
    if own.exists():  # a process that joined after the save starts from its seed
        random_state = load_file(own)
        torch.set_rng_state(random_state["cpu"])
        if "cuda" in random_state and torch.cuda.is_available():
            torch.cuda.set_rng_state(random_state["cuda"])
    return state


def _optimizer_state(model: nn.Module, optimizer: "AcceleratedOptimizer") -> dict[str, torch.Tensor]:
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)  # FSDP's shards meet on the main process' CPU
    state: Any = get_optimizer_state_dict(model, optimizer.optimizer, options=options).get("state", {})
    return {f"{name}/{kind}": value.contiguous() for name, moments in state.items() for kind, value in moments.items()}


def _load_optimizer_state(model: nn.Module, optimizer: "AcceleratedOptimizer", flat: dict[str, torch.Tensor]) -> None:
    options = StateDictOptions(full_state_dict=True)
    fresh = get_optimizer_state_dict(model, optimizer.optimizer, options=options)
    state: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in flat.items():
        name, kind = key.rsplit("/", 1)
        state.setdefault(name, {})[kind] = value
    loaded: Any = {"state": state, "param_groups": fresh["param_groups"]}
    set_optimizer_state_dict(model, optimizer.optimizer, loaded, options=options)


def _random_state() -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _staging(target: Path) -> Path:
    return target.with_name(f".staging-{target.name}")


def _commit(accelerator: "Accelerator", target: Path, write: Callable[[Path], None]) -> None:
    """Every process writes its part into a staging folder, which becomes `target` when all of them could.

    `write` must not wait for another process: one that fails would leave the others waiting."""
    staging, problem = _staging(target), ""
    try:
        staging.mkdir(parents=True, exist_ok=True)
        write(staging)
    except (OSError, RuntimeError, SafetensorError) as error:  # each library has its own type for a full disk
        problem = str(error).splitlines()[0]
    failed = accelerator.reduce(torch.tensor(float(bool(problem)), device=accelerator.device), reduction="sum")
    if failed:
        if accelerator.is_main_process:
            shutil.rmtree(staging, ignore_errors=True)
        raise OSError(
            f"{target} could not be written ({problem or 'on another process'}; {_free(target.parent) / 2**30:.2f} GiB "
            "free): earlier checkpoints are untouched; make room, then start again, it resumes from the newest one"
        )
    if accelerator.is_main_process:
        replaced = target.with_name(f".staging-old-{target.name}")
        if target.exists():
            target.rename(replaced)
        staging.rename(target)
        shutil.rmtree(replaced, ignore_errors=True)
    accelerator.wait_for_everyone()


def _whole_weights(accelerator: "Accelerator", model: Any) -> dict[str, torch.Tensor]:
    """The weights of all processes together; on the main one, where ZeRO-3 or FSDP sharded them."""
    # accelerate's get_state_dict would import DeepSpeed for seconds where it is installed and not used
    sharded = accelerator.distributed_type in ("DEEPSPEED", "FSDP")
    return accelerator.get_state_dict(model) if sharded else _own(model).state_dict()


def _own(model: Any) -> "LlamaForCausalLM":
    return getattr(model, "module", model)  # DDP and DeepSpeed wrap, FSDP2 does not


def _write_model(model: Any, weights: dict[str, torch.Tensor], tokenizer: str | None, folder: Path) -> None:
    _own(model).save_pretrained(folder, state_dict=weights)
    for name in TOKENIZER_FILES if tokenizer else ():
        if (source := Path(tokenizer, name)).exists():
            shutil.copyfile(source, folder / name)


def _check_space(folder: Path, model: Any, copies: int) -> None:
    needed = copies * sum(p.numel() * p.element_size() for p in model.parameters())
    if (free := _free(folder)) < needed:
        raise OSError(f"{needed / 2**30:.2f} GiB are needed, {free / 2**30:.2f} GiB are free")
