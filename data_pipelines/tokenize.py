"""Tokenise: documents become token shards, each one <|begin_of_text|> text <|end_of_text|>."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document

from llama_train.data.shards import ShardWriter
from llama_train.tokenizers.llama3 import BOS, EOS, fingerprint, split_safely, token_bytes

BATCH_CHARS = 4_000_000  # encoded at once: enough to keep every core busy, little to hold


def write_shards(
    documents: Iterable[Document], tokenizer_folder: Path, out: Path, total_bytes: int, progress: bool = True
) -> dict[str, Any]:
    """Encode `documents` (`total_bytes` of UTF-8, for the progress bar) into shards at `out`; returns the manifest.

    A special token's name inside a text is encoded as the letters it is made of, never as the token.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    identity = {"sha256": fingerprint(tokenizer_folder), "bos_token_id": bos, "eos_token_id": eos}
    lengths = token_bytes(tokenizer)
    bar = progress_bar(f"tokens ({out.name})", total_bytes, progress)
    with bar, ShardWriter(out, len(lengths), identity, lengths) as writer:
        for batch in _batches(documents):
            pieces = [list(split_safely(document.text)) for document in batch]
            encoded = iter(tokenizer.encode_batch_fast([p for ps in pieces for p in ps], add_special_tokens=False))
            for document, parts in zip(batch, pieces, strict=True):
                ids = np.concatenate([[bos], *(next(encoded).ids for _ in parts), [eos]])
                size = len(document.text.encode())
                writer.add(ids.astype(np.int64), size)
                bar.update(size)
    return writer.manifest


def progress_bar(name: str, total_bytes: int | None, progress: bool) -> Any:
    """MB/s and time left on stderr, while it lasts; nothing where stderr is a file."""
    from tqdm import tqdm

    return tqdm(
        total=total_bytes, desc=name, unit="B", unit_scale=True, leave=False, disable=None if progress else True
    )


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    chars = 0
    for document in documents:
        batch.append(document)
        chars += len(document.text)
        if chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch
