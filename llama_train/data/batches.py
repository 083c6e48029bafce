"""Batches: which rows a rank trains on at a step, and the tensors they become.

Packed, B rows of T tokens lie end to end as one row (1, B T), so that the documents in them are the only borders;
`cu_seq_lens` says where they are. Unpacked, each document piece has a padded row of its own.
B rows per micro-batch, T row length, S document pieces, L longest piece.
"""

import itertools
from collections.abc import Container, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from llama_train.data.packing import Rows, row_order

IGNORE = -100  # torch's and transformers' mark for "not a target"
Row = tuple[np.ndarray, np.ndarray]  # input_ids, position_ids
Batch = dict[str, Any]


def collate_packed(rows: Sequence[Row]) -> Batch:
    """Rows end to end: input_ids, position_ids, labels (1, B T) int64, and the borders flash attention asks for.

    Labels are the inputs (the model shifts them), except where a piece starts: no token predicts that one.
    cu_seq_lens_q = cu_seq_lens_k: int32 (S + 1,) from 0 to B T; max_length_q = max_length_k = L.
    """
    input_ids = torch.from_numpy(np.concatenate([ids for ids, _ in rows]))[None]  # (1, B T)
    position_ids = torch.from_numpy(np.concatenate([positions for _, positions in rows]))[None]
    starts = (position_ids[0] == 0).nonzero().flatten()  # (S,)
    borders = torch.cat([starts, torch.tensor([input_ids.shape[1]])]).to(torch.int32)
    longest = int(borders.diff().max())
    return {
        "input_ids": input_ids,
        "position_ids": position_ids,
        "labels": input_ids.masked_fill(position_ids == 0, IGNORE),
        "cu_seq_lens_q": borders,
        "cu_seq_lens_k": borders,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def collate_padded(rows: Sequence[Row]) -> Batch:
    """The same pieces one a row, padded on the right: input_ids, attention_mask, position_ids, labels (S, L) int64."""
    packed = collate_packed(rows)
    lengths = packed["cu_seq_lens_q"].diff().tolist()

    def pad(flat: torch.Tensor, value: int) -> torch.Tensor:
        return pad_sequence(flat[0].split(lengths), batch_first=True, padding_value=value)  # (S, L)

    return {
        "input_ids": pad(packed["input_ids"], 0),
        "attention_mask": pad(torch.ones_like(packed["input_ids"]), 0),
        "position_ids": pad(packed["position_ids"], 0),
        "labels": pad(packed["labels"], IGNORE),
    }


def rows_at(first: int, count: int, n: int, seed: int) -> list[int]:
    """Rows `first` to `first + count` of the endless sequence of epochs, each an order of its own of the `n` rows."""
    epochs, places = np.divmod(np.arange(first, first + count), n)
    return [int(row_order(n, seed, epoch)[place]) for epoch, place in zip(epochs.tolist(), places, strict=True)]


def train_batches(
    rows: Rows,
    *,
    seed: int,
    per_device_batch_size: int,
    accumulation: int = 1,
    rank: int = 0,
    world: int = 1,
    start_batch: int = 0,
    skip: Container[int] = (),
    num_workers: int = 0,
    packing: bool = True,
    pin_memory: bool = False,
) -> Iterator[list[Batch]]:
    """For each global batch from `start_batch` on that is not in `skip`, without end: this rank's `accumulation`
    micro-batches of it.

    Micro-batch m of rank r takes rows [(m world + r) B, + B) of the step's global batch, so the global batch holds the
    same rows for every world size with the same B x accumulation x world. Where an epoch ends, the batch runs on into
    the next one's order. Any batch is reached at once and has the same rows, whatever `num_workers`.
    """
    size = per_device_batch_size

    def micro_batches() -> Iterator[list[int]]:
        for batch in itertools.count(start_batch):
            if batch not in skip:
                for micro in range(batch * accumulation, (batch + 1) * accumulation):
                    yield rows_at((micro * world + rank) * size, size, len(rows), seed)

    loader: DataLoader[Row] = DataLoader(
        rows,  # type: ignore[arg-type]  # map-style: it has len and [], which is all a DataLoader asks
        batch_sampler=micro_batches(),  # type: ignore[arg-type]
        collate_fn=collate_packed if packing else collate_padded,
        num_workers=num_workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else the loader draws from the global one and moves every dropout after it
    )
    batches = iter(loader)
    while True:
        yield [next(batches) for _ in range(accumulation)]


def eval_batches(
    rows: Rows, *, batch_size: int, rank: int = 0, world: int = 1, max_rows: int | None = None, packing: bool = True
) -> Iterator[Batch]:
    """Each row (of `max_rows` evenly spread ones) on exactly one rank, the same number of batches on every rank.

    A rank that has run out of rows gets a batch without targets (all labels -100), so that collectives still match.
    """
    count = min(len(rows), max_rows or len(rows))
    chosen = np.arange(count) * len(rows) // count
    collate = collate_packed if packing else collate_padded
    for first in range(0, count, batch_size * world):
        mine = chosen[first + rank * batch_size :][:batch_size]
        batch = collate([rows[int(i)] for i in (mine if len(mine) else chosen[:1])])
        yield batch if len(mine) else batch | {"labels": torch.full_like(batch["labels"], IGNORE)}
