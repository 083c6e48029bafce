"""Packed documents: several texts laid end to end, none of which may attend to another (Llama 3, arXiv:2407.21783).

Where they begin is told by `cu_seq_lens` (cumulative lengths, [0, len(a), len(a) + len(b), ...]) over the flattened
batch, or found from position ids that restart. Shapes: B batch, T time.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F


class Documents(NamedTuple):
    """Document boundaries inside the flattened batch of B*T tokens.

    offsets: the boundaries as Python numbers, where the documents are attended one by one; None for the varlen kernel.
    cu_seq_lens: the same as int32 (documents + 1,), on the tokens' device.
    max_length: tokens in the longest document.
    """

    offsets: list[int] | None
    cu_seq_lens: torch.Tensor
    max_length: int


def given_documents(cu_seq_lens: torch.Tensor, max_length: int | None, tokens: int, on_host: bool) -> Documents:
    """Documents from the caller's boundaries; reads them back from the device only if it must.

    Raises:
        ValueError: the boundaries do not run from 0 to `tokens` in rising order (checked where they are on the host).
    """
    if not on_host and max_length is not None:
        return Documents(None, cu_seq_lens, int(max_length))
    offsets = cu_seq_lens.tolist()
    if offsets[0] != 0 or offsets[-1] != tokens or offsets != sorted(offsets):
        raise ValueError(
            f"cu_seq_lens must rise from 0 to the {tokens} tokens of the batch, got {offsets[0]}..{offsets[-1]}."
        )
    longest = max(end - start for start, end in zip(offsets, offsets[1:], strict=False))
    return Documents(offsets if on_host else None, cu_seq_lens, longest)


def find_documents(position_ids: torch.Tensor, attention_mask: torch.Tensor | None, on_host: bool) -> Documents | None:
    """Documents from `position_ids` (B, T) that restart, or None if every row is one text.

    A restart is a real token whose position is not above every earlier real position of its row. Padding (0 in the
    `attention_mask` (B, T)) never makes one, so left-padded prompts stay whole; where a row is packed, each run of
    padding becomes a document of its own. One read from the device, a second if there are documents.
    """
    real = torch.ones_like(position_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    highest = position_ids.masked_fill(~real, -1).cummax(dim=1).values
    if not (real[:, 1:] & (position_ids[:, 1:] <= highest[:, :-1])).any():
        return None
    starts = torch.ones_like(real)  # each row starts a document
    starts[:, 1:] = (position_ids[:, 1:] <= position_ids[:, :-1]) | (real[:, 1:] != real[:, :-1])
    first_tokens = starts.flatten().nonzero().flatten().int()
    cu_seq_lens = F.pad(first_tokens, (0, 1), value=starts.numel())
    return given_documents(cu_seq_lens, None, starts.numel(), on_host)


def restarting_positions(cu_seq_lens: torch.Tensor, tokens: int) -> torch.Tensor:
    """Positions (tokens,) that count from 0 in each document, made on the device without reading it."""
    starts, ends = cu_seq_lens[:-1].long(), cu_seq_lens[1:].long()
    positions = torch.arange(tokens, device=cu_seq_lens.device)
    return positions - starts.repeat_interleave(ends - starts, output_size=tokens)
