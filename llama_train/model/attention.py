"""Grouped-query causal self-attention with rotary positions and a KV cache, and the choice of its kernel.

One code path for the three kinds: multi-head attention (K = N), grouped-query (1 < K < N; Ainslie et al. 2023,
arXiv:2305.13245) and multi-query (K = 1; Shazeer 2019, arXiv:1911.02150).
Shapes: B batch, T time, S keys (T plus what the cache holds), N query heads, K key/value heads, H channels per head,
D width.
"""

import inspect
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Cache, LlamaConfig

from llama_train.model.cpu_attention import causal_attention
from llama_train.model.documents import Documents
from llama_train.model.rope import rotate


class LlamaAttention(nn.Module):
    """Project to queries, keys and values, rotate, attend, project back.

    Args:
        config: heads (`num_attention_heads`, `num_key_value_heads`, `head_dim`), `attention_bias`, `attention_dropout`.
        layer_idx: this layer's slot in the KV cache.
    """

    def __init__(self, config: LlamaConfig, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        assert config.head_dim and config.num_key_value_heads  # LlamaConfig fills in what was left out
        self.head_dim = config.head_dim
        width, bias = config.hidden_size, config.attention_bias
        query_width, key_width = config.num_attention_heads * self.head_dim, config.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(width, query_width, bias=bias)
        self.k_proj = nn.Linear(width, key_width, bias=bias)
        self.v_proj = nn.Linear(width, key_width, bias=bias)
        self.o_proj = nn.Linear(query_width, width, bias=bias)

    def forward(
        self,
        hidden: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
        documents: Documents | None,
        past_key_values: Cache | None,
        output_attentions: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(B, T, D) -> (B, T, D), and the attention weights (B, N, T, S) if asked for.

        `mask` is None (causal), or (B, 1, T, S): True or 0 where a query may look, False or a large negative number
        where not.
        """
        per_head = (*hidden.shape[:-1], -1, self.head_dim)
        query = rotate(self.q_proj(hidden).view(per_head), *position_embeddings).transpose(1, 2)  # (B, N, T, H)
        key = rotate(self.k_proj(hidden).view(per_head), *position_embeddings).transpose(1, 2)  # (B, K, T, H)
        value = self.v_proj(hidden).view(per_head).transpose(1, 2)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)  # (B, K, S, H)
        if mask is None and key.shape[2] > query.shape[2] > 1:
            # the first tokens of a static cache: the slots behind them are still empty
            key, value = key[:, :, : query.shape[2]], value[:, :, : query.shape[2]]

        dropout = float(self.config.attention_dropout or 0) if self.training else 0.0
        weights = None
        if output_attentions or (self.config._attn_implementation == "eager" and documents is None):
            out, weights = _attend_with_weights(query, key, value, mask, documents, dropout)
        elif documents is not None:
            out = _attend_documents(query, key, value, documents, dropout)
        else:
            out = _attend(query, key, value, mask, dropout)
        return self.o_proj(out), weights


def _attend(query, key, value, mask, dropout: float) -> torch.Tensor:
    """(B, N, T, H), (B, K, S, H) twice -> (B, T, N*H), every row one text."""
    causal = mask is None and query.shape[2] > 1
    if causal and dropout == 0.0 and query.device.type == "cpu":
        return causal_attention(query, key, value, query.shape[-1] ** -0.5, [0, query.shape[2]])
    share = mask is None and query.shape[1] != key.shape[1]  # the fused kernels share heads only where there is no mask
    if not share:
        key, value = _repeat_heads(key, value, query.shape[1])
    out = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal, enable_gqa=share
    )
    return out.transpose(1, 2).flatten(2)


def _attend_documents(query, key, value, documents: Documents, dropout: float) -> torch.Tensor:
    """The same for packed documents: the varlen kernel where it runs, else one document after the other."""
    batch, heads, time, channels = query.shape
    # rows are laid end to end: (1, heads, B*T, H)
    query, key, value = (x.transpose(0, 1).flatten(1, 2).unsqueeze(0) for x in (query, key, value))
    if documents.offsets is None:
        return _varlen(query[0], key[0], value[0], documents).view(batch, time, heads * channels)
    if dropout == 0.0 and query.device.type == "cpu":
        out = causal_attention(query, key, value, channels**-0.5, documents.offsets)
    else:
        lengths = [end - start for start, end in zip(documents.offsets, documents.offsets[1:], strict=False)]
        pieces = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
        out = torch.cat([_attend(q, k, v, None, dropout) for q, k, v in pieces if q.shape[2]], dim=1)
    return out.view(batch, time, heads * channels)


def runs_varlen(device: torch.device, dtype: torch.dtype, dropout: bool) -> bool:
    """Whether torch's varlen kernel can take packed documents: CUDA, half precision, no attention dropout."""
    return device.type == "cuda" and dtype in (torch.bfloat16, torch.float16) and not dropout


@cache
def _varlen_options() -> tuple[dict, bool]:
    """How the installed torch spells causal (2.11 to 2.13 differ), and whether it shares key/value heads itself."""
    from torch.nn.attention.varlen import varlen_attn

    names = inspect.signature(varlen_attn).parameters
    causal = {"window_size": (-1, 0)} if "window_size" in names else {"is_causal": True}
    return causal, "enable_gqa" in names


def _varlen(query, key, value, documents: Documents):
    """(N, T, H), (K, T, H) twice -> (T, N, H)."""
    from torch.nn.attention.varlen import varlen_attn

    options, shares_heads = _varlen_options()
    if shares_heads:
        options = {**options, "enable_gqa": query.shape[0] != key.shape[0]}
    else:
        key, value = (x[0] for x in _repeat_heads(key[None], value[None], query.shape[0]))
    query, key, value = (x.transpose(0, 1).contiguous() for x in (query, key, value))
    bounds, longest = documents.cu_seq_lens, documents.max_length
    return varlen_attn(query, key, value, bounds, bounds, longest, longest, **options)


def _attend_with_weights(query, key, value, mask, documents, dropout) -> tuple[torch.Tensor, torch.Tensor]:
    """The textbook formula: (B, T, N*H) and the probabilities (B, N, T, S)."""
    batch, heads, time, channels = query.shape
    key, value = _repeat_heads(key, value, heads)
    scores = query @ key.mT * channels**-0.5
    if mask is None and time > 1:
        mask = torch.ones(time, key.shape[2], dtype=torch.bool, device=query.device).tril_()
        if documents is not None:  # dense, but so are the weights that were asked for
            tokens = torch.arange(batch * time, device=query.device)
            which = torch.bucketize(tokens, documents.cu_seq_lens[1:].contiguous(), right=True).view(batch, 1, time)
            mask = mask & (which.mT == which).unsqueeze(1)  # (B, 1, T, T)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float).to(value.dtype)
    out = F.dropout(weights, dropout) @ value
    return out.transpose(1, 2).flatten(2), weights


def _repeat_heads(key, value, heads: int):
    """(B, K, S, H) -> (B, N, S, H) twice: every key/value head beside each of its query heads."""
    groups = heads // key.shape[1]
    return (key, value) if groups == 1 else (key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1))
