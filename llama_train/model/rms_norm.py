"""RMSNorm: divide each token's vector by its root mean square, then scale each channel by a learned weight.

Unlike LayerNorm it subtracts no mean and adds no bias (Zhang and Sennrich 2019, arXiv:1910.07467).
Shapes: D width; "..." is any number of leading dimensions, usually B batch, T time.
"""

import torch
import torch.nn.functional as F
from torch import nn


class LlamaRMSNorm(nn.Module):
    """`weight * x / sqrt(mean(x^2) + eps)`, computed in fp32 whatever the input's dtype.

    Args:
        hidden_size: D.
        eps: added to the mean square; Llama 1 used 1e-6, every later generation 1e-5.
    """

    def __init__(self, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.eps = eps

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., D), in the autocast dtype where autocast is on, else in the input's.

        Under autocast the output only feeds matrix products, which would each cast it again.
        """
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        if device == "cpu":
            return _RMSNormOnCPU.apply(hidden, self.weight, self.eps, dtype)
        return F.rms_norm(hidden.float(), self.weight.shape, self.weight.float(), self.eps).to(dtype)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, eps={self.eps}"


class _RMSNormOnCPU(torch.autograd.Function):
    """The formula with its gradient written out: torch 2.13's own backward is a chain of small kernels on CPU."""

    @staticmethod
    def forward(ctx, hidden, weight, eps, dtype):
        x = hidden.float()
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True).add_(eps))  # (..., 1)
        normed = x * scale
        ctx.save_for_backward(normed, weight, scale)
        ctx.dtype = hidden.dtype
        return (normed * weight).to(dtype)

    @staticmethod
    def backward(ctx, grad):
        normed, weight, scale = ctx.saved_tensors
        grad = grad.float()
        product = grad * normed
        grad_weight = product.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        inner = product.mul_(weight).mean(-1, keepdim=True)  # (..., 1)
        grad_hidden = (grad * weight).addcmul_(normed, inner, value=-1).mul_(scale)
        return grad_hidden.to(ctx.dtype), grad_weight, None, None
