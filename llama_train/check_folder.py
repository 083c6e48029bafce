"""`llama-train check FOLDER`: a checkpoint, or all of a run's, read byte by byte and number by number."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from llama_train.train.checkpoint import checkpoints
from llama_train.train.manifest import NAME, read_manifest, verify
from llama_train.train.model_files import WEIGHTS


def check_folder(folder: Path) -> None:
    """Print what is in a checkpoint, or of a run's output_dir which checkpoints are good and which a resume would take.

    Changes nothing. Raises ValueError naming what is damaged, or where nothing can be verified."""
    found = checkpoints(folder)
    if not found and (folder / "config.yaml").is_file():
        raise ValueError(f"{folder} is a run that has not saved a checkpoint yet: there is nothing to verify")
    if not found:
        if problems := checkpoint_problems(folder):
            raise ValueError(f"{folder}: {'; '.join(problems)}")
        print(f"{folder}: good\n{_contents(folder)}")
        return
    final = folder / "final"
    damaged = []
    for place in [*found, final] if final.exists() else found:
        problems = checkpoint_problems(place)
        print(f"{place.name}: " + ("DAMAGED: " + "; ".join(problems) if problems else f"good\n{_contents(place)}"))
        damaged += [place] if problems else []
    good = [place for place in found if place not in damaged]
    print(f"a resume takes: {good[-1].name if good else 'none of them'}")
    if set_aside := sorted(place.name for place in folder.glob("quarantine/*")):
        print(f"set aside by earlier resumes, in quarantine: {', '.join(set_aside)}")
    if damaged:
        raise ValueError(f"{folder}: damaged: {', '.join(place.name for place in damaged)}")


def checkpoint_problems(folder: Path) -> list[str]:
    """What is wrong with a checkpoint, one line each; none: every byte is as it was written, and it opens as a model."""
    if not (folder / NAME).is_file():
        return [f"nothing can be verified, it has no {NAME}, which checkpoint-N and final of a run have"]
    return verify(folder) or model_problems(folder)


def model_problems(folder: Path) -> list[str]:
    """Weights that config.json does not know, or misses, or knows in another shape; tensors with a NaN or an infinity.

    One tensor is in memory at a time, and the model is built without any, so that the largest opens anywhere."""
    from transformers import LlamaConfig

    from llama_train.model.llama import LlamaForCausalLM

    config = LlamaConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    wanted = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    weight_files = [file for pattern in WEIGHTS for file in sorted(folder.glob(pattern))]
    found: dict[str, list[int]] = {}
    problems = []
    for file in weight_files + sorted(folder.glob("optimizer-*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # a safetensors file has keys() and is not iterable
                tensor = tensors.get_tensor(name)
                if file in weight_files:
                    found[name] = list(tensor.shape)
                if not tensor.isfinite().all():
                    problems.append(f"{file.name}: {name} is not finite")
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            problems.append(f"{name}: {found.get(name, 'missing')}, config.json says {wanted.get(name, 'none')}")
    return problems


def _contents(folder: Path) -> str:
    manifest = read_manifest(folder)
    files: dict[str, Any] = manifest["files"]
    size = sum(entry["bytes"] for entry in files.values())
    state = folder / "trainer_state.json"
    seen = json.loads(state.read_text(encoding="utf-8"))["num_input_tokens_seen"] if state.exists() else None
    processes = f"{manifest['num_processes']} process{'es' if manifest['num_processes'] > 1 else ''}"
    tokens = f", {seen:,} tokens seen" if seen is not None else ""
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    return (
        f"  step {manifest['step']:,}{tokens}; saved by {manifest['engine']}, {processes}; {len(files)} files, "
        f"{size:,} bytes\n  {versions}"
    )
