"""RoPE: rotary position embeddings, positions told by rotating pairs of query and key channels (arXiv:2104.09864).

Channel i is paired with channel i + H/2 (the half-split order of Hugging Face weights; Meta's own files pair 2i with
2i + 1 and their q/k rows are permuted on conversion). A pair at position p is turned by the angle p * inv_freq[i].
Shapes: B batch, T time, N heads, H channels per head.
"""

from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

SCALED_ROPE_TYPES = ("linear", "dynamic", "yarn", "llama3")  # what stretches a context, by transformers' names


class LlamaRotaryEmbedding(nn.Module):
    """cos and sin tables of the positions asked for, always in fp32.

    The frequencies are neither parameter nor buffer, and are computed at the first use: so a cast of the model to bf16,
    a model built on the meta device and DeepSpeed ZeRO-3 (which casts what is made while a model is built) leave them
    exact.

    Raises:
        ValueError: `rope_type` is none of default, linear, dynamic, yarn, llama3.
    """

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        rope: dict[str, Any] = dict(config.rope_parameters or {})  # LlamaConfig folds rope_theta and rope_scaling in
        self.rope_type, self.theta = rope["rope_type"], rope["rope_theta"]
        if self.rope_type not in ("default", *SCALED_ROPE_TYPES):
            raise ValueError(f"rope_type {self.rope_type!r} is unknown: use default, {', '.join(SCALED_ROPE_TYPES)}.")
        self.inv_freq: torch.Tensor | None = None  # (H/2,)
        self.attention_scaling = 1.0  # yarn also scales the tables
        # dynamic NTK: the length that inv_freq was computed for
        self.context: int | torch.Tensor = config.max_position_embeddings

    @torch.no_grad()
    def forward(self, hidden: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin for `position_ids` (B, T), each (B, T, H/2) in fp32 on the device of `hidden`."""
        inv_freq = self._frequencies(position_ids, hidden.device)
        angles = position_ids[..., None].float() * inv_freq
        return angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling

    def _frequencies(self, position_ids: torch.Tensor, device: torch.device) -> torch.Tensor:
        if self.rope_type == "dynamic":
            self._follow_length(position_ids)
        if self.inv_freq is not None and self.inv_freq.device == device:
            return self.inv_freq
        if self.rope_type == "default":
            channels = self.config.head_dim or 0
            steps = torch.arange(0, channels, 2, dtype=torch.int64, device=device).float() / channels
            inv_freq, scaling = 1.0 / self.theta**steps, 1.0
        else:
            length = self.context if self.rope_type == "dynamic" else None
            inv_freq, scaling = ROPE_INIT_FUNCTIONS[self.rope_type](self.config, device, seq_len=length)
        self.attention_scaling = scaling
        if not torch.compiler.is_compiling():  # a tensor made inside a CUDA graph must not outlive its replay
            with torch.inference_mode(False):  # nor be barred from a later training step
                self.inv_freq = inv_freq.clone()
        return inv_freq

    def _follow_length(self, position_ids: torch.Tensor) -> None:
        """Dynamic NTK: frequencies grow with the longest text seen, and go back once a text fits the trained context.

        In between (a shorter text that is still too long) they stay, as in transformers, so that cached keys and new
        queries keep the same rotation.
        """
        trained, length = self.config.max_position_embeddings, position_ids.max() + 1
        if length > self.context:
            # a tensor on purpose: transformers computes the new base from it in fp32, not in Python's double
            self.context, self.inv_freq = length, None
        elif length < trained < self.context:
            self.context, self.inv_freq = trained, None


def rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn the channel pairs of `states` (B, T, N, H) by the angles in cos, sin (B, T, H/2); the dtype stays."""
    return _Rotate.apply(states, cos.unsqueeze(-2), sin.unsqueeze(-2))  # (B, T, 1, H/2): the same for every head


class _Rotate(torch.autograd.Function):
    """Written out because the gradient of a turn is the turn back: nothing but the tables is saved."""

    @staticmethod
    def forward(ctx, states, cos, sin):
        ctx.save_for_backward(cos, sin)
        return _turn(states, cos, sin)

    @staticmethod
    def backward(ctx, grad):
        cos, sin = ctx.saved_tensors
        return _turn(grad, cos, -sin), None, None


def _turn(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = states.float().chunk(2, dim=-1)
    turned = torch.empty(states.shape, dtype=states.dtype, device=states.device)
    half = states.shape[-1] // 2
    turned[..., :half] = (first * cos).addcmul_(second, sin, value=-1)
    turned[..., half:] = (second * cos).addcmul_(first, sin)
    return turned
