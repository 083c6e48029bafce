"""The language-model head and its cross-entropy, computed in chunks so that the full logits never exist.

At 4096 tokens and 128k vocabulary the fp32 logits and their gradient alone take 4 GB. Here a chunk of tokens meets the
head's weight, its loss and its gradients are made at once, and its logits are thrown away (the idea: Wijmans et al.
2024, arXiv:2411.09009; our form keeps torch's own kernels).
Shapes: T counted tokens of the whole batch, D width, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import nn

IGNORED = -100  # the label of tokens that do not count, as everywhere in torch and transformers


class LMHead(nn.Linear):
    """Hidden states to logits; or, given labels, straight to their summed loss.

    The loss lives in this forward because DeepSpeed ZeRO-3 and FSDP gather a module's weight around that module's own
    forward only. There is never a bias.
    """

    def __init__(self, hidden_size: int, vocab_size: int, **factory) -> None:
        super().__init__(hidden_size, vocab_size, bias=False, **factory)

    def forward(self, hidden: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (..., V) of `hidden` (..., D), or with `labels` (...) the fp32 sum of -log p over labels that count.

        `labels` are the targets of exactly these positions: whoever calls has shifted them.
        """
        if labels is None:
            return super().forward(hidden)
        hidden, labels = hidden.flatten(0, -2), labels.flatten()
        counted = (labels != IGNORED).nonzero().flatten()
        if counted.numel() < labels.numel():
            hidden, labels = hidden[counted], labels[counted]
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        return _ChunkedCrossEntropy.apply(hidden, self.weight, labels, dtype, torch.is_grad_enabled())


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of `hidden @ weight.T`; both gradients are made in the forward, while a chunk is at hand."""

    @staticmethod
    def forward(ctx, hidden, weight, labels, dtype, with_grad):
        tokens, vocab = len(labels), weight.shape[0]
        grad_hidden = torch.empty_like(hidden) if with_grad and ctx.needs_input_grad[0] else None
        grad_weight = torch.empty_like(weight) if with_grad and ctx.needs_input_grad[1] else None
        total = torch.zeros((), dtype=torch.float, device=hidden.device)
        chunk = min(1024, max(256, 2**25 // vocab))  # 2**25 logits: 64 MiB in bf16
        with torch.autocast(hidden.device.type, enabled=False):
            cast_weight = weight.to(dtype)
            for first in range(0, tokens, chunk):
                rows = slice(first, first + chunk)
                states = hidden[rows].to(dtype)
                logits = states @ cast_weight.T  # (chunk, V)
                total += _loss_and_gradient_(logits, labels[rows], with_grad)
                if grad_hidden is not None:
                    grad_hidden[rows] = logits @ cast_weight
                if grad_weight is not None:
                    _add_product_(grad_weight, logits, states, first == 0)
        if grad_weight is not None and tokens == 0:
            grad_weight.zero_()
        ctx.grads = grad_hidden, grad_weight
        return total

    @staticmethod
    def backward(ctx, grad):
        if ctx.grads is None:
            raise RuntimeError("The chunked loss keeps its gradients for one backward pass: run the forward again.")
        (grad_hidden, grad_weight), ctx.grads = ctx.grads, None
        # in place: a copy of grad_weight would double the peak
        return (
            None if grad_hidden is None else grad_hidden.mul_(grad),
            None if grad_weight is None else grad_weight.mul_(grad),
            None,
            None,
            None,
        )


def _loss_and_gradient_(logits: torch.Tensor, labels: torch.Tensor, with_grad: bool) -> torch.Tensor:
    """Summed loss in fp32; `logits` (chunk, V) are overwritten by the loss' gradient, softmax(logits) - one_hot."""
    # on CPU a few rows at a time: 2**17 fp32 numbers stay in the cache, and no fp32 copy of the chunk exists
    rows = max(1, 2**17 // logits.shape[1]) if logits.device.type == "cpu" else len(logits)
    total = torch.zeros((), dtype=torch.float, device=logits.device)
    for part, targets in zip(logits.split(rows), labels.split(rows), strict=True):
        log_p = F.log_softmax(part.float(), dim=-1)
        targets = targets[:, None]
        total -= log_p.gather(1, targets).sum()
        if with_grad:
            part.copy_(log_p.exp_().scatter_add_(1, targets, log_p.new_full((1, 1), -1.0).expand(targets.shape)))
    return total


def _add_product_(total: torch.Tensor, grad_logits: torch.Tensor, states: torch.Tensor, is_first: bool) -> None:
    """`total` (V, D) += `grad_logits` (chunk, V) transposed times `states` (chunk, D), or = where it is the first."""
    if total.dtype == states.dtype:
        total.addmm_(grad_logits.T, states, beta=0 if is_first else 1)
        return
    # half-precision products into an fp32 sum, a slice of the vocabulary at a time to keep the temporary small
    for part, columns in zip(total.split(8192), grad_logits.split(8192, dim=1), strict=True):
        product = columns.T @ states
        part.copy_(product) if is_first else part.add_(product)
