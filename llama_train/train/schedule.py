"""The learning rate as a pure function of the step: warm-up, then cosine, linear, constant or stable-then-decay."""

import math


def learning_rate(
    step: int,
    *,
    total_steps: int,
    peak: float,
    kind: str = "cosine",
    warmup_steps: int = 0,
    min_ratio: float = 0.1,
    decay_steps: int = 0,
) -> float:
    """The learning rate of the update made after `step` updates; `min_ratio * peak` from `total_steps` on.

    All kinds rise linearly from 0 to `peak` over `warmup_steps`. Then
      cosine    falls along half a cosine (Loshchilov & Hutter 2017),
      linear    falls along a line,
      constant  stays (and ignores `min_ratio`),
      wsd       stays, and falls as 1 - sqrt over the last `decay_steps` (Haegele et al. 2024, arXiv 2405.18392).
    The values are transformers' schedules of the same names, so a run that moves here keeps its curve.
    Raises ValueError for another kind.
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    if kind == "constant":
        return peak
    start = total_steps - decay_steps if kind == "wsd" else warmup_steps
    progress = min(1.0, max(0.0, (step - start) / max(1, total_steps - start)))
    if kind == "cosine":
        height = 0.5 * (1.0 + math.cos(math.pi * progress))
    elif kind == "linear":
        height = 1.0 - progress
    elif kind == "wsd":
        height = 1.0 - math.sqrt(progress)
    else:
        raise ValueError(f"lr_scheduler_type '{kind}' is not one of cosine, linear, constant, wsd")
    return peak * (min_ratio + (1.0 - min_ratio) * height)


def count_steps(value: int | float, total_steps: int) -> int:
    """Steps meant by `value`: itself from 1 on; below 1 that share of `total_steps`, rounded up as in transformers."""
    return int(value) if value >= 1 else math.ceil(value * total_steps)
