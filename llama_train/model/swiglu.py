"""SwiGLU: the feed-forward layer, a SiLU-gated projection times a plain one (Shazeer 2020, arXiv:2002.05202).

Three matrices where a classic feed-forward has two, so Llama 1 shrank the inner width to 2/3 of 4 D to keep the size.
Shapes: B batch, T time, D width, F inner width (`intermediate_size`).
"""

import torch
from torch import nn
from transformers import LlamaConfig
from transformers.activations import ACT2FN


class LlamaMLP(nn.Module):
    """`down(act(gate(x)) * up(x))` with act = SiLU in every published Llama (`hidden_act` in the config)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        width, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(width, inner, bias=bias)
        self.up_proj = nn.Linear(width, inner, bias=bias)
        self.down_proj = nn.Linear(inner, width, bias=bias)
        self.act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.down_proj(self.act_fn(self.gate_proj(hidden)) * self.up_proj(hidden))
