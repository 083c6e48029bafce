"""A checkpoint is a Hugging Face model folder with the training state beside it.

    checkpoint-200/  config.json  model.safetensors  tokenizer.json ...      any transformers tool opens it
                     trainer_state.json                                      step, tokens, engine, what the data was
                     optimizer.safetensors  or  deepspeed/                   AdamW's moments, by parameter name
                     rng-00000.safetensors                                   random state, one file per process

It is written into a staging folder and renamed when complete, so a folder called checkpoint-N is never half a
checkpoint."""

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
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

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "tokenizer.model",
)


def save_model(accelerator: "Accelerator", model: Any, tokenizer: str | None, folder: Path) -> None:
    """Write weights, config and tokenizer as a Hugging Face folder. Every process must call it; the main one writes."""
    # accelerate's unwrap_model and get_state_dict would import DeepSpeed for seconds where it is installed and not used
    own = getattr(model, "module", model)  # DDP and DeepSpeed wrap, FSDP2 does not
    sharded = accelerator.distributed_type in ("DEEPSPEED", "FSDP")
    weights = accelerator.get_state_dict(model) if sharded else own.state_dict()
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        own.save_pretrained(folder, state_dict=weights)
        for name in TOKENIZER_FILES if tokenizer else ():
            if (source := Path(tokenizer, name)).exists():
                shutil.copyfile(source, folder / name)


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

    Raises OSError, on every process and in one line, when the disk is full or may not be written; what was saved before
    stays as it was."""
    target = output_dir / f"checkpoint-{state['step']}"
    staging = output_dir / f".staging-{target.name}"
    problem = ""
    try:
        _check_space(output_dir, model)
        if accelerator.distributed_type == "DEEPSPEED":
            accelerator.wait_for_everyone()
            model.save_checkpoint(str(staging / "deepspeed"), tag="state")
            optimizer_state = None
        else:
            optimizer_state = _optimizer_state(model, optimizer)
        save_model(accelerator, model, tokenizer, staging)
        if accelerator.is_main_process:
            if optimizer_state is not None:
                save_file(optimizer_state, staging / "optimizer.safetensors")
            (staging / "trainer_state.json").write_text(json.dumps(state, indent=2))
        accelerator.wait_for_everyone()
        save_file(_random_state(), staging / f"rng-{accelerator.process_index:05d}.safetensors")
    except Exception as error:  # safetensors, torch and the file system each have their own type for a full disk
        if isinstance(error, (KeyboardInterrupt, AssertionError)):
            raise
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
    failed = accelerator.reduce(torch.tensor(float(bool(problem)), device=accelerator.device), reduction="sum")
    if failed:
        if accelerator.is_main_process:
            shutil.rmtree(staging, ignore_errors=True)
        raise OSError(
            f"{target} could not be written ({problem or 'on another process'}; {_free(output_dir) / 2**30:.2f} GiB free): "
            "earlier checkpoints are untouched; make room, then start again, it resumes from the newest one"
        )
    if accelerator.is_main_process:
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
        for old in checkpoints(output_dir)[: -keep or None] if keep else []:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return target


def open_output_dir(output_dir: Path, fresh: bool) -> None:
    """Create output_dir and try to write there; with `fresh`, an earlier run in it is moved to output_dir/previous-N.

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
    earlier = [*output_dir.glob("checkpoint-*"), *output_dir.glob("final"), *output_dir.glob("metrics.jsonl")]
    if fresh and earlier:
        previous = output_dir / f"previous-{len(list(output_dir.glob('previous-*'))) + 1}"
        previous.mkdir()
        for path in earlier:
            path.rename(previous / path.name)


def checkpoints(output_dir: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [path for path in output_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    complete = [path for path in found if (path / "trainer_state.json").exists()]
    return sorted(complete, key=lambda path: int(path.name.removeprefix("checkpoint-")))


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


def load_training_state(
    accelerator: "Accelerator", model: Any, optimizer: "AcceleratedOptimizer", checkpoint: Path, engine: str
) -> dict[str, Any]:
    """Put optimizer and random state back (the weights were loaded with the model) and return trainer_state.json.

    Raises ValueError when the checkpoint was written by another engine, or by another number of ZeRO processes."""
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    ours, theirs = (engine, accelerator.num_processes), (state["engine"], state["num_processes"])
    deepspeed = accelerator.distributed_type == "DEEPSPEED"
    if deepspeed != theirs[0].startswith("zero") or (deepspeed and ours != theirs):
        raise ValueError(
            f"{checkpoint} holds the optimizer of {theirs[0]} with {theirs[1]} processes, this run is {ours[0]} with {ours[1]}: "
            f"launch it as it was, or start anew from its weights with --model_name_or_path {checkpoint}"
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


def _check_space(output_dir: Path, model: nn.Module) -> None:
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    if (free := _free(output_dir)) < 3 * weights:  # weights and AdamW's two moments, in fp32
        raise OSError(f"a checkpoint takes about {3 * weights / 2**30:.2f} GiB, {free / 2**30:.2f} GiB are free")
