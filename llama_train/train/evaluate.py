"""Held-out loss, and bits per byte: the figure that models with different tokenizers can be compared by.

bits per byte = sum of -log2 p over the text's tokens / its UTF-8 bytes. End-of-text tokens are predicted too and stand for no
byte. The unigram entropy of the same tokens is what a model reaches that knows only how frequent each token is."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from llama_train.train.step import counted_tokens, to_device

if TYPE_CHECKING:
    from accelerate import Accelerator

    from llama_train.data.shards import Shards


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[dict[str, Any]],
    token_bytes: np.ndarray,
    accelerator: "Accelerator",
    prefix_after: int | None = None,
) -> dict[str, float]:
    """Mean loss in nats per token and bits per byte over all batches of all processes.

    token_bytes: (vocabulary,) UTF-8 bytes each token id stands for. prefix_after: the id after which a token holds a byte
    that is not the text's: BOS, where a tokenizer puts a space before each text. Every process must have the same number of
    batches.
    Returns eval_loss, eval_bits_per_byte, eval_tokens. Raises ValueError when no token is counted."""
    was_training = model.training
    model.eval()
    table = torch.as_tensor(token_bytes.astype(np.int64), device=accelerator.device)
    totals = torch.zeros(3, dtype=torch.float64, device=accelerator.device)  # nats, tokens, bytes
    for batch in batches:
        batch = to_device(batch, accelerator.device)
        # divided by 1: the sum of the batch, and 0 (not NaN) for a process that ran out of rows
        loss = model(**batch, num_items_in_batch=1, skip_logits=True).loss
        labels = batch["labels"][:, 1:]
        counted = labels != -100
        prefixes = (batch["input_ids"][:, :-1][counted] == prefix_after).sum() if prefix_after is not None else 0
        text_bytes = table[labels[counted]].sum() - prefixes
        totals += torch.stack([loss.to(totals.dtype), counted_tokens(batch), text_bytes])
    nats, tokens, text_bytes = accelerator.reduce(totals, reduction="sum").tolist()
    model.train(was_training)
    if not tokens or not text_bytes:
        raise ValueError(f"nothing to evaluate: {tokens:.0f} tokens counted, standing for {text_bytes:.0f} bytes")
    return {
        "eval_loss": nats / tokens,
        "eval_bits_per_byte": nats / math.log(2) / text_bytes,
        "eval_tokens": int(tokens),
    }


def unigram_entropy(shards: "Shards") -> float:
    """Entropy, in nats per token, of the frequencies of the tokens themselves."""
    counts = np.zeros(shards.vocab_size, dtype=np.int64)
    for start in range(0, len(shards), 1 << 22):
        stop = min(start + (1 << 22), len(shards))
        counts += np.bincount(shards.tokens(start, stop), minlength=shards.vocab_size)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def evaluate_text(checkpoint: str, files: list[str]) -> dict[str, float]:
    """Loss and bits per byte of a Hugging Face folder's model on text files, each file one document.

    Long files are cut into pieces of the model's context (2048 tokens at most), each piece seeing only itself.
    Raises ValueError for an empty or binary file, OSError for a missing one or a missing checkpoint."""
    from llama_train.pretrained import load_pretrained

    texts = [_read_text(file) for file in files]
    tokenizer, model = load_pretrained(checkpoint, dtype=torch.float32)
    context = min(model.config.max_position_embeddings, 2048)
    nats, tokens = 0.0, 0
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        if ids[:1] != [tokenizer.bos_token_id]:
            ids = [tokenizer.bos_token_id, *ids]
        for start in range(0, len(ids) - 1, context - 1):  # pieces overlap by one, so every token is predicted once
            piece = torch.tensor([ids[start : start + context]], device=model.device)
            with torch.no_grad():
                nats += float(model(piece, labels=piece, num_items_in_batch=1, skip_logits=True).loss)
            tokens += piece.shape[1] - 1
    text_bytes = sum(len(text.encode()) for text in texts)
    return {
        "loss": nats / tokens,
        "bits_per_byte": nats / math.log(2) / text_bytes,
        "tokens": tokens,
        "bytes": text_bytes,
    }


def _read_text(file: str) -> str:
    content = Path(file).read_bytes()
    if not content.strip() or b"\0" in content:
        kind = "binary (it holds NUL bytes)" if content.strip() else "empty"
        raise ValueError(f"{file} is {kind}: evaluate needs text files")
    return content.decode("utf-8", errors="replace")
