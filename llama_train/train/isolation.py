"""Whether the documents of a packed row see each other: change every other one, and look at the rest, bit by bit.

What lets documents leak makes no noise: the loss even falls, since a token may look at more text. An all-ones attention
mask does it in transformers, a border off by one does it anywhere."""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator

LOOKED_AT = 32  # documents, of which the first and the last token: with 128k ids their logits take 33 MB in fp32


class Leak(NamedTuple):
    """Tokens [start, stop) of a batch, one document, whose logits moved by up to `difference` with its neighbours."""

    start: int
    stop: int
    difference: float


@torch.no_grad()
def largest_leak(model: Any, batch: dict[str, Any]) -> Leak | None:
    """The document of a packed batch that other documents' tokens change most; None where none does.

    Two forwards in evaluation mode, also where there is a single document: sharded engines need the same number of every
    process. The first, third, ... documents get other tokens; of up to 32 of those between them the logits of the first
    and the last token must keep every bit. Borders are taken from `position_ids` (1, T), which the attention may not
    have used. The model's mode and the random state stay as they are."""
    ids, positions = batch["input_ids"], batch["position_ids"]
    starts = (positions[0] == 0).nonzero().flatten()  # (S,)
    stops = torch.cat([starts[1:], starts.new_tensor([ids.shape[1]])])
    between = torch.arange(1, len(starts), 2, device=ids.device)
    between = between[torch.linspace(0, len(between) - 1, min(len(between), LOOKED_AT)).long()]
    kept = torch.stack([starts[between], stops[between] - 1], dim=1).flatten()

    changed = (positions[0] == 0).cumsum(0) % 2 == 1  # (T,)
    others = torch.where(changed, (ids + 1) % getattr(model, "module", model).config.vocab_size, ids)
    inputs = {key: value for key, value in batch.items() if key != "labels"} | {"logits_to_keep": kept}
    was_training = model.training
    model.eval()
    before, after = (model(**inputs | {"input_ids": tokens}).logits for tokens in (ids, others))  # (1, 2 S', V)
    model.train(was_training)
    moved = (before.view(torch.uint8) != after.view(torch.uint8)).any(-1).view(-1, 2).any(-1)  # (S',) NaN equals itself
    if not moved.any():
        return None
    differences = (before.float() - after.float()).abs().amax(-1).view(-1, 2).amax(-1)
    worst = int(differences.nan_to_num(torch.inf).where(moved, -1).argmax())
    place = between[worst]
    return Leak(int(starts[place]), int(stops[place]), float(differences[worst]))


def check_isolation(model: Any, batch: dict[str, Any], accelerator: "Accelerator") -> None:
    """Raise ValueError, on every process, where changing one document moves the logits of another by a single bit.

    model: prepared by the accelerator. batch: this process' first micro-batch, packed (`collate_packed`), on its device.
    Every process must call it."""
    leak = largest_leak(model, batch)
    found = accelerator.reduce(torch.tensor(float(leak is not None), device=accelerator.device), reduction="sum")
    if leak:
        problem = (
            f"the document at tokens {leak.start} to {leak.stop} of the first micro-batch changed its logits by up to "
            f"{leak.difference:.3g} when only the documents around it were changed"
        )
    elif found:
        problem = (
            f"{found:.0f} of {accelerator.num_processes} processes, not this one, saw it in their first micro-batch"
        )
    else:
        return
    raise ValueError(f"packed documents see each other: {problem}; nothing was trained: set packing: false")
