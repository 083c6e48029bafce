"""Exact deduplication: of documents with the same text the first in the stream stays."""

import hashlib
from collections.abc import Iterable, Iterator

from datatrove.data import Document

from data_pipelines.account import Account


def drop_duplicates(documents: Iterable[Document], account: Account | None = None) -> Iterator[Document]:
    """The documents whose text has not come before; only sha256 digests are kept in memory."""
    seen: set[bytes] = set()
    for document in documents:
        digest = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).digest()
        if digest in seen:
            if account:
                account.take_back("duplicate")
        else:
            seen.add(digest)
            yield document
