"""The held-out split: which text is kept from training, decided by the hash of the text itself.

The unit is a document, or a block of a long one: else a book or two could make up all of the held-out text, or none of
it. Blocks with the smallest hashes are held out until there is enough, so the choice does not depend on names or order,
and a corpus that grows keeps most of its held-out text.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from datatrove.data import Document

SHARE, MOST_BYTES = 0.025, 4_000_000  # held out where nothing else is asked for
BLOCKS, LARGEST_BLOCK, SMALLEST_BLOCK = 40, 64_000, 2_000  # characters; small corpora are cut finer
LINE_END = re.compile(r"\n+")


class Heldout:
    """Chooses from `documents`, whose text has `total_bytes`; `split` then divides them.

    heldout_bytes: how much to hold out; None: 2.5 % of the text, at most 4 MB. Raises ValueError where that is half of
    the text or more, or where the text is a single block.
    """

    def __init__(self, documents: Iterable[Document], total_bytes: int, heldout_bytes: int | None = None) -> None:
        wanted = min(int(total_bytes * SHARE), MOST_BYTES) if heldout_bytes is None else heldout_bytes
        if wanted * 2 > total_bytes:
            raise ValueError(f"heldout_bytes {wanted} is more than half of the text ({total_bytes} bytes): lower it")
        self.block = max(SMALLEST_BLOCK, min(LARGEST_BLOCK, total_bytes // BLOCKS))
        sizes = {_digest(text): len(text.encode()) for document in documents for text in self._blocks(document.text)}
        if len(sizes) < 2:
            raise ValueError(f"{total_bytes} bytes of text are too little to hold any of it out: add text")
        self.chosen: set[bytes] = set()
        held = 0
        for digest in sorted(sizes):
            self.chosen.add(digest)
            held += sizes[digest]
            if held >= wanted or len(self.chosen) == len(sizes) - 1:
                break

    def split(self, document: Document) -> Iterator[tuple[bool, Document]]:
        """(held out?, document): the document whole, or, cut where the answer changes, its parts (`id@0`, `id@1`, ...)."""
        groups = groupby(self._blocks(document.text), key=lambda text: _digest(text) in self.chosen)
        parts = [(held, "".join(texts)) for held, texts in groups]
        for i, (held, text) in enumerate(parts):
            name = document.id if len(parts) == 1 else f"{document.id}@{i}"
            yield held, Document(text=text, id=name, metadata=document.metadata)

    def _blocks(self, text: str) -> Iterator[str]:
        """The text in blocks of about `self.block` characters, cut at line ends; shorter ones whole."""
        start = 0
        while len(text) - start > 2 * self.block:
            cut = LINE_END.search(text, start + self.block)
            if cut is None:
                break
            yield text[start : cut.end()]
            start = cut.end()
        if start < len(text):
            yield text[start:]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
