"""Packing: the concatenated documents cut into rows of equal length, and the order of the rows in an epoch.

Row i of context T covers tokens [i (T-1), i (T-1) + T) of the stream. Neighbours share one token, the last target of
one and the first input of the other, so every token is a target exactly once, except the first token of a document:
nothing comes before it. T row length, n rows.
"""

from functools import lru_cache

import numpy as np

from llama_train.data.shards import Shards


class Rows:
    """The rows of a folder of shards: `rows[i]` -> (input_ids, position_ids), both int64 (T,).

    Positions restart at 0 at the row's start and wherever a document starts. `partial=True` appends the shorter last
    row, so that an evaluation sees every token; training leaves it out, all its rows being alike.

    Raises ValueError where the shards are shorter than one row (`partial`: than two tokens).
    """

    def __init__(self, shards: Shards, max_length: int, partial: bool = False) -> None:
        if max_length < 2:
            raise ValueError(f"max_length {max_length} leaves nothing to predict: a row needs at least 2 tokens")
        self.shards, self.max_length = shards, max_length
        full, rest = divmod(len(shards) - 1, max_length - 1)
        self.count = full + (partial and rest > 0)
        if not self.count:
            raise ValueError(
                f"context longer than the rows: {shards.path} has {len(shards)} tokens, max_length is {max_length}; "
                "lower max_length or add text"
            )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= i < self.count:
            raise IndexError(f"row {i} of {self.count}")
        start = i * (self.max_length - 1)
        stop = min(start + self.max_length, len(self.shards))
        begins = self.shards.document_starts(start + 1, stop) - start
        begins = np.concatenate([[0], begins, [stop - start]])
        positions = np.arange(stop - start) - np.repeat(begins[:-1], np.diff(begins))
        return self.shards.tokens(start, stop), positions


@lru_cache(maxsize=2)  # an epoch's order and the next one's: batches run on over the border
def row_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `n` rows in an epoch, int64 (n,): a permutation from (seed, epoch) and nothing else.

    Raw Philox words, sorted: NumPy promises the words to stay the same in later versions, but not its `permutation`.
    """
    order = np.argsort(np.random.Philox(key=[seed, epoch]).random_raw(n), kind="stable")
    order.flags.writeable = False
    return order
