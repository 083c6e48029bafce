"""Causal attention for CPU training: query blocks against the causal prefix, as plain matrix products.

torch's fused CPU kernel takes 2.5 times as long at 512 tokens in bf16. A block of queries needs only the keys up to its
own end, so half of the score matrix is never computed, and the query heads that share a key/value head become more rows
of one product, so keys and values are never repeated.
Shapes: B batch, T time, N query heads, K key/value heads, G = N / K, H channels per head, L queries of a block,
S keys that a block sees, C = B*K independent products.
"""

from collections.abc import Iterator

import torch

BLOCK = 128  # queries per product
LONGEST_SAVED = 512  # documents up to this length keep their probabilities for the backward pass: G*N*T*T/2 numbers


def causal_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, offsets: list[int]
) -> torch.Tensor:
    """Softmax attention in which a token sees itself and what came before it in its own document.

    Args:
        query: (B, N, T, H). key, value: (B, K, T, H).
        scaling: factor on the scores, H**-0.5.
        offsets: document boundaries along T, the same in every row; [0, T] for plain rows.

    Returns:
        (B, T, N*H)
    """
    batch, heads, time, channels = query.shape
    groups = heads // key.shape[1]
    query = query.unflatten(1, (-1, groups)).transpose(2, 3).reshape(-1, time * groups, channels)  # (C, T*G, H)
    key, value = (states.reshape(-1, time, channels) for states in (key, value))  # (C, T, H)
    out = _CausalAttention.apply(query, key, value, scaling, offsets)
    return out.view(batch, -1, time, groups, channels).transpose(1, 2).reshape(batch, time, heads * channels)


def _blocks(offsets: list[int]) -> Iterator[tuple[int, int, int]]:
    """(document start, first query, query end) of every block."""
    for start, end in zip(offsets, offsets[1:], strict=False):
        for first in range(start, end, BLOCK):
            yield start, first, min(first + BLOCK, end)


def _future(groups: int, device: torch.device) -> torch.Tensor:
    """True where a key of a block lies behind the query: (BLOCK*G, BLOCK), each query's row G times."""
    return torch.ones(BLOCK, BLOCK, dtype=torch.bool, device=device).triu_(1).repeat_interleave(groups, 0)


def _probabilities(query: torch.Tensor, key: torch.Tensor, scaling: float, future: torch.Tensor) -> torch.Tensor:
    """Causal softmax of a block: (C, L*G, H), (C, S, H) -> (C, L*G, S); the last L keys are the block's own."""
    scores = torch.baddbmm(query.new_empty(1), query, key.mT, beta=0, alpha=scaling)
    rows = query.shape[1]
    own = rows * BLOCK // len(future)  # L
    scores[..., -own:].masked_fill_(future[:rows, :own], float("-inf"))
    return torch.softmax(scores, dim=-1)


class _CausalAttention(torch.autograd.Function):
    # Autocast is off inside: the operands come in the dtype to compute in, and it would turn the softmax to fp32.

    @staticmethod
    def forward(ctx, query, key, value, scaling, offsets):
        groups = query.shape[1] // key.shape[1]
        longest = max(end - start for start, end in zip(offsets, offsets[1:], strict=False))
        keep = any(ctx.needs_input_grad) and longest <= LONGEST_SAVED
        out, saved, future = torch.empty_like(query), [], _future(groups, query.device)
        with torch.autocast(query.device.type, enabled=False):
            for start, first, end in _blocks(offsets):
                rows = slice(first * groups, end * groups)
                probabilities = _probabilities(query[:, rows], key[:, start:end], scaling, future)
                out[:, rows] = torch.bmm(probabilities, value[:, start:end])
                if keep:
                    saved.append(probabilities)
        ctx.save_for_backward(query, key, value, *saved)
        ctx.scaling, ctx.offsets = scaling, offsets
        return out

    @staticmethod
    def backward(ctx, grad_out):
        query, key, value, *saved = ctx.saved_tensors
        groups = query.shape[1] // key.shape[1]
        grad_out = grad_out.contiguous()
        grad_query, future = torch.empty_like(query), _future(groups, query.device)
        # several blocks add to one key: in fp32, whatever the operands are
        grad_key, grad_value = torch.zeros_like(key, dtype=torch.float), torch.zeros_like(value, dtype=torch.float)
        with torch.autocast(query.device.type, enabled=False):
            for i, (start, first, end) in enumerate(_blocks(ctx.offsets)):
                rows, seen = slice(first * groups, end * groups), slice(start, end)
                block, grad = query[:, rows], grad_out[:, rows]
                p = saved[i] if saved else _probabilities(block, key[:, seen], ctx.scaling, future)
                grad_value[:, seen] += torch.bmm(p.mT, grad)
                grad_p = torch.bmm(grad, value[:, seen].mT)
                grad_scores = torch.ops.aten._softmax_backward_data(grad_p, p, -1, p.dtype)
                grad_query[:, rows] = torch.baddbmm(
                    p.new_empty(1), grad_scores, key[:, seen], beta=0, alpha=ctx.scaling
                )
                grad_key[:, seen] += torch.bmm(grad_scores.mT, block)
        return grad_query, grad_key.mul_(ctx.scaling).to(key.dtype), grad_value.to(value.dtype), None, None
