"""Which part of every parameter this process updates: one process, DDP, ZeRO-1, 2, 3 and FSDP2 in one form.

Each of them gives a process a run of a parameter's flattened elements: all of them, or a part. So the optimizer's state
is written by every process as it lies, without gathering, under the parameter's name and the run's start, and any other
engine with any number of processes finds there what it needs.

    file     optimizer-00001-of-00002.safetensors     written by process 1 of 2
    tensor   model.layers.0.mlp.up_proj.weight/exp_avg/2048     elements 2048 and on of that parameter's exp_avg
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch.distributed.tensor import DTensor, Shard

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

KINDS = ("exp_avg", "exp_avg_sq")  # AdamW's moments; its step count is the same for all parameters, and stored once


@dataclass(frozen=True)
class Fragment:
    """Elements [start, stop) of the flattened parameter `name`, at `offset` of the flattened `owner`.

    owner: what the optimizer updates and keeps its state by: the parameter itself, or an engine's flat fp32 buffer."""

    name: str
    start: int
    stop: int
    owner: torch.Tensor
    offset: int

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """This fragment's elements, (stop - start,), a view of a tensor that lies like `owner` (itself, a moment)."""
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        return local.detach().view(-1)[self.offset : self.offset + self.stop - self.start]


def own(model: Any) -> Any:
    """The model within DDP's or DeepSpeed's wrapping; FSDP2 does not wrap."""
    return getattr(model, "module", model)


def shape_of(parameter: torch.Tensor) -> tuple[int, ...]:
    """The whole parameter's shape, also where ZeRO-3 left an empty tensor in its place."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def fragments(model: Any, optimizer: "AcceleratedOptimizer", accelerator: "Accelerator") -> list[Fragment]:
    """What this process updates. Processes of DDP all hold everything: their lists are the same.

    model and optimizer are prepared by the accelerator. Raises ValueError for a sharding that is not known here."""
    named = list(own(model).named_parameters())
    if accelerator.distributed_type == "DEEPSPEED":
        zero: Any = optimizer.optimizer
        if model.zero_optimization_stage() == 3:
            return list(_zero3(named, zero, accelerator.process_index))
        return list(_zero12(named, zero))
    return [fragment for name, parameter in named if (fragment := _plain(name, parameter)).stop > fragment.start]


def _plain(name: str, parameter: torch.Tensor) -> Fragment:
    start, count = 0, parameter.numel()
    if isinstance(parameter, DTensor):  # FSDP2: process r holds rows [r c, (r + 1) c), c = ceil(rows / processes)
        if parameter.placements != (Shard(0),):
            raise ValueError(
                f"{name} is placed {parameter.placements}, checkpoints know FSDP2 over one dimension of processes only: "
                "launch without tensor or hybrid sharding"
            )
        mesh, rows = parameter.device_mesh, parameter.shape[0]
        chunk = -(-rows // mesh.size())
        start = min(mesh.get_local_rank() * chunk, rows) * (parameter.numel() // max(rows, 1))
        count = parameter.to_local().numel()
    return Fragment(name, start, start + count, parameter, 0)


def _zero12(named: list[tuple[str, Any]], zero: Any) -> Iterator[Fragment]:
    """ZeRO-1 and 2: the parameters of a group lie end to end in one buffer, of which each process updates a stretch."""
    for name, parameter in named:
        if (mapping := parameter._hp_mapping) is not None:  # None: all of it lies with other processes
            owner = zero.single_partition_of_fp32_groups[mapping.param_group_index]
            here, there = mapping.hp_fragment_address, mapping.lp_fragment_address
            yield Fragment(name, there.start, there.start + there.numel, owner, here.start)


def _zero3(named: list[tuple[str, Any]], zero: Any, rank: int) -> Iterator[Fragment]:
    """ZeRO-3: each parameter is cut into equal parts, the last one padded."""
    for name, parameter in named:
        group, offset, count = zero.grad_position[zero.get_param_id(parameter)]
        start = min(rank * count, parameter.ds_numel)
        stop = min(start + count, parameter.ds_numel)
        if stop > start:
            yield Fragment(name, start, stop, zero.fp32_partitioned_groups_flat[group], offset)


def to_write(mine: list[Fragment], accelerator: "Accelerator") -> list[Fragment]:
    """The fragments this process writes: its own, and of DDP's, which are all alike, an equal stretch of each."""
    if accelerator.distributed_type == "DEEPSPEED" or any(isinstance(f.owner, DTensor) for f in mine):
        return mine
    rank, world = accelerator.process_index, accelerator.num_processes
    cut = []
    for whole in mine:
        start, stop = (whole.stop * part // world for part in (rank, rank + 1))
        if stop > start:
            cut.append(Fragment(whole.name, start, stop, whole.owner, start))
    return cut


def optimizer_tensors(written: list[Fragment], optimizer: "AcceleratedOptimizer") -> dict[str, torch.Tensor]:
    """The moments of these fragments under the names they are stored by, views of the optimizer's own, and the step."""
    state = _base(optimizer).state
    tensors = {f"{f.name}/{kind}/{f.start}": f.of(state[f.owner][kind]) for f in written for kind in KINDS}
    return tensors | ({"step": state[written[0].owner]["step"]} if written else {})


def load_optimizer(
    mine: list[Fragment], optimizer: "AcceleratedOptimizer", files: list[Path], parameters: dict[str, int]
) -> None:
    """Fill the optimizer's state from the files of any engine and number of processes.

    parameters: name -> number of elements, to see that nothing is missing. Raises ValueError where something is."""
    stored: dict[tuple[str, str], list[tuple[int, int, str]]] = defaultdict(list)  # -> start, file, tensor's name
    handles = [safe_open(file, framework="pt") for file in files]
    step = None
    for number, handle in enumerate(handles):
        for key in handle.keys():  # noqa: SIM118  # a safetensors file has keys() and is not iterable
            if key == "step":
                step = handle.get_tensor(key)
            else:
                name, kind, start = key.rsplit("/", 2)
                stored[name, kind].append((int(start), number, key))
    if step is None:
        raise ValueError(f"{files[0].parent} holds no optimizer state" if files else "there are no optimizer files")
    state = _base(optimizer).state
    for owner in {id(f.owner): f.owner for f in mine}.values():
        # as AdamW itself would at the first step: fused, so the count lies beside the weights
        state[owner] = {kind: torch.zeros_like(owner, requires_grad=False) for kind in KINDS}
        state[owner]["step"] = step.to(owner.device, copy=True)
    for f in mine:
        for kind in KINDS:
            place, done = f.of(state[f.owner][kind]), f.start
            for start, number, key in sorted(stored[f.name, kind]):
                part = handles[number].get_slice(key)
                stop = start + part.get_shape()[0]
                if start <= done < min(stop, f.stop):
                    until = min(stop, f.stop)
                    place[done - f.start : until - f.start].copy_(part[done - start : until - start])
                    done = until
            if done != f.stop or f.stop > parameters[f.name]:
                raise ValueError(
                    f"the optimizer state of {f.name} ({kind}) is missing from element {done} of {f.stop} on"
                )


def load_weights(model: Any, mine: list[Fragment], files: list[Path], accelerator: "Accelerator") -> None:
    """Put stored weights into a model that is already prepared, on every engine: what a roll-back needs."""
    stored = {key: file for file in files for key in safe_open(file, framework="pt").keys()}  # noqa: SIM118
    by_name = {f.name: f for f in mine}
    for name, parameter in own(model).named_parameters():
        with safe_open(stored[name], framework="pt") as file:
            whole = file.get_tensor(name)
        if (f := by_name.get(name)) is not None:
            f.of(f.owner).copy_(whole.flatten()[f.start : f.stop])
        if accelerator.distributed_type == "DEEPSPEED":  # what computes is a copy of what is updated
            if model.zero_optimization_stage() == 3:
                import deepspeed

                with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
                    if accelerator.is_main_process:
                        parameter.data.copy_(whole)
            else:
                parameter.data.copy_(whole)


def _base(optimizer: "AcceleratedOptimizer") -> torch.optim.Optimizer:
    """torch's own optimizer within accelerate's and DeepSpeed's wrapping."""
    inner: Any = optimizer.optimizer
    return getattr(inner, "optimizer", inner)
