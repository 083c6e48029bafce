"""What must be equal, one row of a table each: between tiny runs, between documents, between our model and transformers'."""

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from llama_train.data.batches import collate_packed, collate_padded
from llama_train.train.isolation import largest_leak
from llama_train.train.model_files import WEIGHTS
from llama_train.train.tracking import read_metrics

LOSS, GRADIENT, EXACT = 1e-5, 1e-5, 0.0  # nats per token; share of the gradient's norm; every bit
Tensors = dict[str, torch.Tensor]


class Row(NamedTuple):
    """The largest difference found in one comparison, and what it may be."""

    name: str
    difference: float
    bound: float

    @property
    def ok(self) -> bool:
        return self.difference <= self.bound  # False for NaN


def compare_splits(name: str, whole: Path, split: Path) -> list[Row]:
    """Two runs whose global batches hold the same rows, split differently: the loss of every step, the first gradient.

    The gradient is what AdamW was given (summed, averaged, clipped): after one step its first moment is 1 - beta1 times
    that, by every engine. Compared by parameter, |a - b| / |b| in the Euclidean norm."""
    ours, theirs = (moments(run / "checkpoint-1", "exp_avg") for run in (split, whole))
    return [
        Row(f"{name}: loss", largest_difference(losses(split), losses(whole)), LOSS),
        Row(f"{name}: gradient", largest_relative_difference(ours, theirs), GRADIENT),
    ]


def compare_resumed(whole: Path, resumed: Path, step: int, last: int) -> list[Row]:
    """A run that went on from `step` of another against that one: the losses after it, the last weights and optimizer."""
    name = f"resumed after step {step}"
    after = {place: loss for place, loss in losses(whole).items() if place > step}
    found = {place: loss for place, loss in losses(resumed).items() if place > step}
    ours, theirs = (run / f"checkpoint-{last}" for run in (resumed, whole))
    both = ("exp_avg", "exp_avg_sq")
    return [
        Row(f"{name}: loss", largest_difference(found, after), EXACT),
        Row(f"{name}: weights", largest_difference(weights(ours), weights(theirs)), EXACT),
        Row(f"{name}: optimizer", largest_difference(moments(ours, *both), moments(theirs, *both)), EXACT),
    ]


@torch.no_grad()
def compare_documents(model: Any, rows: list, packing: bool) -> list[Row]:
    """A document among others against the same alone, and against others that were changed (packed rows only).

    model: ours; rows: (input_ids, position_ids) each, as `Rows` gives them."""
    packed = collate_packed(rows)
    documents = packed["input_ids"][0].split(packed["cu_seq_lens_q"].diff().tolist())
    batch = packed if packing else collate_padded(rows)
    logits = model.eval()(**{key: value for key, value in batch.items() if key != "labels"}).logits  # (B, T, V)
    among = logits[0].split([len(ids) for ids in documents]) if packing else logits
    together, alone = {}, {}
    for place, ids in enumerate(documents):
        if len(ids) > 1:  # a last piece of one token predicts nothing
            together[place] = float(F.cross_entropy(among[place][: len(ids) - 1], ids[1:]))
            alone[place] = float(F.cross_entropy(model(ids[None]).logits[0, :-1], ids[1:]))
    found = [Row("documents together vs alone: loss", largest_difference(together, alone), LOSS)]
    if packing:
        leak = largest_leak(model, packed)
        found.append(Row("document A changed: B's logits", leak.difference if leak else 0.0, EXACT))
    return found


def compare_transformers(model: Any, checkpoint: Path, rows: list, packing: bool) -> list[Row]:
    """A checkpoint opened by transformers alone against our model of it: weights, loss and gradient of the same rows.

    transformers gets each document in a row of its own; positions are stretched over the whole context, so that a RoPE
    scaling that is lost on the way shows."""
    from transformers import AutoModelForCausalLM

    other = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    padded = collate_padded(rows)
    ours = collate_packed(rows) if packing else dict(padded)
    stretch = max(1, (model.config.max_position_embeddings - 1) // max(1, padded["position_ids"].shape[1] - 1))
    for batch in (ours, padded):
        batch["position_ids"] = batch["position_ids"] * stretch
    (loss, gradient), (their_loss, their_gradient) = _loss_and_gradient(model, ours), _loss_and_gradient(other, padded)
    name = "checkpoint opened by transformers"
    stored, opened = dict(model.named_parameters()), dict(other.named_parameters())
    return [
        Row(f"{name}: weights", largest_difference(opened, stored), EXACT),
        Row(f"{name}: loss", largest_difference({0: loss}, {0: their_loss}), LOSS),
        Row(f"{name}: gradient", largest_relative_difference(gradient, their_gradient), GRADIENT),
    ]


def _loss_and_gradient(model: Any, batch: dict[str, Any]) -> tuple[float, Tensors]:
    model.eval()  # no dropout; the loss is the same
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return float(loss.detach()), {name: parameter.grad for name, parameter in model.named_parameters()}


def losses(run: Path) -> dict[int, float]:
    """Training loss by step, from a run's metrics.jsonl."""
    return {row["step"]: row["loss"] for row in read_metrics(run) if "loss" in row}


def weights(checkpoint: Path) -> Tensors:
    """All weights of a checkpoint by name."""
    files = [file for pattern in WEIGHTS for file in sorted(checkpoint.glob(pattern))]
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def moments(checkpoint: Path, *kinds: str) -> Tensors:
    """AdamW's moments of a checkpoint, flat and whole, by `name/kind`, whichever processes wrote the parts."""
    parts: dict[str, dict[int, torch.Tensor]] = defaultdict(dict)
    for file in sorted(checkpoint.glob("optimizer-*.safetensors")):
        for key, tensor in load_file(file).items():
            name, _, start = key.rpartition("/")
            if name.rpartition("/")[2] in kinds:
                parts[name][int(start)] = tensor
    return {name: torch.cat([found[start] for start in sorted(found)]) for name, found in parts.items()}


def largest_difference(ours: dict, theirs: dict) -> float:
    """The largest |a - b| over numbers or tensors by the same keys; infinite where the keys differ or there are none."""
    if ours.keys() != theirs.keys() or not theirs:
        return torch.inf
    return _largest([(torch.as_tensor(ours[key]) - torch.as_tensor(theirs[key])).abs().max() for key in theirs])


def largest_relative_difference(ours: Tensors, theirs: Tensors) -> float:
    """The largest |a - b| / |b| over tensors by name, in the Euclidean norm; infinite where the names differ."""
    if ours.keys() != theirs.keys() or not theirs:
        return torch.inf
    return _largest([(ours[name] - theirs[name]).norm() / theirs[name].norm() for name in theirs])


def _largest(differences: list[torch.Tensor]) -> float:
    return float(torch.stack(differences).detach().max())  # torch's maximum of a NaN is NaN, Python's need not be
