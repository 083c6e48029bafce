"""Tokenise: documents become token shards, each one <bos> text <eos>, for Llama 2's tokenizer as for Llama 3's."""

from collections.abc import Iterable
from os.path import commonprefix
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document

from llama_train.data.shards import ShardWriter
from llama_train.tokenizers.batches import batches
from llama_train.tokenizers.encode import Encoder
from llama_train.tokenizers.folder import bos_eos, fingerprint, kind, open_tokenizer, token_bytes


def write_shards(
    documents: Iterable[Document], tokenizer_folder: Path, out: Path, total_bytes: int, progress: bool = True
) -> dict[str, Any]:
    """Encode `documents` (`total_bytes` of UTF-8, for the progress bar) into shards at `out`; returns the manifest.

    A special token's name inside a text is encoded as the letters it is made of, never as the token; what is returned
    has besides the manifest `documents_with_special_names`, the number of documents in which one stands. Raises
    ValueError for text that holds half a surrogate pair, and as `open_tokenizer` and `ShardWriter` do.
    """
    tokenizer = open_tokenizer(tokenizer_folder)
    encoder = Encoder(tokenizer)
    bos, eos = bos_eos(tokenizer)
    first, last = np.array([bos], dtype=np.uint32), np.array([eos], dtype=np.uint32)
    identity: dict[str, Any] = {"sha256": fingerprint(tokenizer_folder), "bos_token_id": bos, "eos_token_id": eos}
    if kind(tokenizer) == "llama2":
        identity["dummy_prefix"] = True  # the first token of a document holds a space that is not the document's
    lengths = token_bytes(tokenizer)
    names = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    start = commonprefix(names)  # in most texts not even this is found, and then none of 256 names is looked for
    naming = 0
    bar = progress_bar(f"tokens ({out.name})", total_bytes, progress)
    with bar, ShardWriter(out, len(lengths), identity, lengths) as writer:
        for batch in batches(documents, lambda document: document.text):
            size = 0
            for document, ids in zip(batch, encoder.encode_batch([one.text for one in batch]), strict=True):
                text = document.text
                naming += start in text and any(name in text for name in names)
                own = len(text) if text.isascii() else len(text.encode())
                writer.add(np.concatenate([first, ids, last]), own)
                size += own
            bar.update(size)
    return writer.manifest | {"documents_with_special_names": naming}


def progress_bar(name: str, total_bytes: int | None, progress: bool) -> Any:
    """MB/s and time left on stderr, while it lasts; nothing where stderr is a file."""
    from tqdm import tqdm

    return tqdm(
        total=total_bytes, desc=name, unit="B", unit_scale=True, leave=False, disable=None if progress else True
    )
