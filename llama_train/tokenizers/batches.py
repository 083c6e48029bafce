"""Texts, or what holds one, in batches: enough to keep every core busy, little to hold in memory."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

BATCH_CHARS, BATCH_ITEMS = 4_000_000, 10_000


def batches(items: Iterable[T], text_of: Callable[[T], str]) -> Iterator[list[T]]:
    """Lists of items in their order, each as soon as its texts have `BATCH_CHARS` or there are `BATCH_ITEMS` of them."""
    batch: list[T] = []
    chars = 0
    for item in items:
        batch.append(item)
        chars += len(text_of(item))
        if chars >= BATCH_CHARS or len(batch) >= BATCH_ITEMS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch
