"""What a training process keeps in memory: its share of weights, gradients and Adam, and the activations of a micro-batch.

Torch-free arithmetic. It leaves out what passes: a kernel's workspace, communication buffers, an allocator's gaps.
"""

from typing import Any

from llama_train.families import count_matmul_parameters

# Bytes of one parameter's fp32 weight, gradient and two Adam moments: what every process keeps, and what they share.
# ZeRO-1 and 2 update a copy of their part of the weights, even if it is fp32 (DeepSpeed 0.19, stage_1_and_2.py).
STATE = {"single": (16, 0), "ddp": (16, 0), "zero1": (8, 12), "zero2": (4, 16), "zero3": (0, 16), "fsdp2": (0, 16)}


def state_bytes(parameters: int, engine: str = "single", processes: int = 1) -> int:
    """Weights, gradients and optimizer of one of `processes` processes."""
    kept, shared = STATE[engine]
    return parameters * kept + parameters * shared // processes


def activation_bytes(settings: Any, tokens: int, checkpointing: bool) -> int:
    """What a forward and backward pass of a micro-batch of `tokens` tokens takes at its peak, on any engine.

    settings: resolved. Within 5 % of what was measured on CPU with rows of 2048 tokens and 2 to 8
    layers. Attention's probabilities are not in it: no kernel keeps them for long rows."""
    width, queries = settings.hidden_size, settings.num_attention_heads * settings.head_dim
    keys = 2 * settings.num_key_value_heads * settings.head_dim  # and values
    size = 2 if settings.bf16 else 4  # bytes; the residual stream, which the norms keep, stays fp32
    norms = 2 * (4 + size) * width
    layer = norms + size * (2 * queries + keys + 4 * settings.intermediate_size)  # of one token
    layers = settings.num_hidden_layers
    # checkpointing keeps each layer's input, and computes one layer's activations again at a time
    token = 4 * width * layers + layer if checkpointing else layer * layers
    token += (4 + size + 4) * width  # the last norm, what goes into the head, and the gradient of that
    token += 4 * width + size * settings.intermediate_size  # what the backward pass of a layer takes beside it
    # autocast keeps a copy of every weight; of checkpointed layers only as long as one is computed
    casts = 2 * count_matmul_parameters(settings) if settings.bf16 and not checkpointing else 0
    return token * tokens + casts + 4 * settings.vocab_size * width  # the head's gradient, made in the forward pass
