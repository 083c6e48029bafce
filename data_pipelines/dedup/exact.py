"""Exact deduplication: of documents with the same text the first in the stream stays."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator

from datatrove.data import Document


def drop_duplicates(documents: Iterable[Document], dropped: Counter[str] | None = None) -> Iterator[Document]:
    """The documents whose text has not come before; only sha256 digests are kept in memory."""
    dropped = Counter() if dropped is None else dropped
    seen: set[bytes] = set()
    for document in documents:
        digest = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).digest()
        if digest in seen:
            dropped["duplicate"] += 1
        else:
            seen.add(digest)
            yield document
