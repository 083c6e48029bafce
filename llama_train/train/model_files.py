"""The model as the files of a Hugging Face folder, each written by one process: config, weights, their index.

Weights that ZeRO-3 or FSDP2 sharded are gathered a parameter at a time, each file's to the process that writes it."""

import copy
import json
import struct
from collections.abc import Iterator
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from llama_train.train.fragments import own, shape_of

MAX_FILE = 5 * 10**9  # bytes of weights in a file, as transformers splits them
DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.uint8: "U8", torch.int64: "I64"}
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")


def plan_files(model: Any, limit: int = MAX_FILE) -> dict[str, list[str]]:
    """File names -> the parameters in them, in the model's order, `limit` bytes a file where no parameter is larger.

    A tied matrix is stored once, under its first name, as transformers does."""
    groups: list[list[str]] = [[]]
    size = 0
    for name, parameter in own(model).named_parameters():
        weight = weight_bytes(parameter)
        if groups[-1] and size + weight > limit:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += weight
    if len(groups) == 1:
        return {"model.safetensors": groups[0]}
    return {f"model-{i:05d}-of-{len(groups):05d}.safetensors": group for i, group in enumerate(groups, 1)}


def description(model: Any, plan: dict[str, list[str]]) -> dict[str, str]:
    """config.json, generation_config.json and, for several files of weights, their index, as transformers writes them."""
    model = own(model)
    config = copy.deepcopy(model.config)
    config.architectures, config.dtype = [type(model).__name__], str(next(model.parameters()).dtype).split(".")[1]
    files = {"config.json": config.to_json_string(use_diff=True)}
    files["generation_config.json"] = model.generation_config.to_json_string(use_diff=True)
    if len(plan) > 1:
        total = sum(weight_bytes(parameter) for parameter in model.parameters())
        where = {member: name for name, members in plan.items() for member in members}
        index = {"metadata": {"total_size": total}, "weight_map": where}
        files["model.safetensors.index.json"] = json.dumps(index, indent=2) + "\n"
    return files


def weight_bytes(parameter: torch.Tensor) -> int:
    """Bytes of the whole parameter, sharded or not."""
    return torch.Size(shape_of(parameter)).numel() * parameter.element_size()


def is_sharded(model: Any) -> bool:
    """No process has the whole weights: ZeRO-3, FSDP2."""
    parameter = next(own(model).parameters())
    return hasattr(parameter, "ds_shape") or isinstance(parameter, DTensor)


def gathered(parameter: Any, mine: bool) -> torch.Tensor | None:
    """The whole parameter on the process that asks for it; a sharded one's copy on the CPU. Every process must call."""
    if hasattr(parameter, "ds_shape"):
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().to("cpu", copy=True) if mine else None
    if isinstance(parameter, DTensor):
        whole = parameter.full_tensor().detach()
        return whole.to("cpu") if mine else None
    return parameter.detach() if mine else None


def safetensors(tensors: dict[str, torch.Tensor]) -> Iterator[Any]:
    """A safetensors file in pieces: header length, header, then each tensor's bytes, brought to the CPU one by one.

    The library's own writer gives no chance to hash on the way."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        offsets = [place, place + size]
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        place += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that tensors begin at a multiple of 8
    yield struct.pack("<Q", len(text)) + text
    for tensor in tensors.values():
        yield tensor.detach().to("cpu").contiguous().view(-1).view(torch.uint8).numpy()
