"""AdamW, fused, with weight decay on matrices only."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from llama_train.train.fragments import shape_of

if TYPE_CHECKING:
    from llama_train.settings import PretrainSettings


def adamw(model: nn.Module, settings: "PretrainSettings") -> torch.optim.AdamW:
    """AdamW as the LLaMA papers set it; the fused kernel is 5 to 10 times faster than the loop over tensors on CPU too.

    Matrices (embeddings included) decay; norm scales and biases, being vectors, do not. The learning rate is the peak:
    the loop sets each step's own."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # by the whole parameter's shape: a model loaded under ZeRO-3 has only flat shards of one dimension
    matrices = [parameter for parameter in trained if len(shape_of(parameter)) >= 2]
    vectors = [parameter for parameter in trained if len(shape_of(parameter)) < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=True,
    )
