"""The learning rate against transformers' own schedules, step by step, and against the formulas."""

import math
from collections.abc import Callable

import pytest

from llama_train.train.schedule import count_steps, learning_rate

PEAK, TOTAL, WARMUP, DECAY = 3e-4, 120, 15, 30


def theirs(make: Callable, **arguments: object) -> list[float]:
    """What a transformers schedule gives at each of TOTAL steps."""
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    schedule = make(optimizer, **arguments)
    rates = []
    for _ in range(TOTAL):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


def ours(kind: str, min_ratio: float, total: int = TOTAL, warmup: int = WARMUP, decay: int = 0) -> list[float]:
    figures = {"total_steps": total, "peak": PEAK, "min_ratio": min_ratio}
    return [learning_rate(step, kind=kind, warmup_steps=warmup, decay_steps=decay, **figures) for step in range(TOTAL)]


def test_schedules_equal_transformers() -> None:
    from transformers import optimization as hf

    warm = {"num_warmup_steps": WARMUP}
    full = warm | {"num_training_steps": TOTAL}
    cosine = hf.get_cosine_with_min_lr_schedule_with_warmup
    wsd = theirs(hf.get_wsd_schedule, **full, num_decay_steps=DECAY, decay_type="1-sqrt")
    assert ours("cosine", 0.1) == pytest.approx(theirs(cosine, **full, min_lr_rate=0.1), rel=1e-12)
    assert ours("cosine", 0.0) == pytest.approx(theirs(hf.get_cosine_schedule_with_warmup, **full), abs=1e-18)
    assert ours("linear", 0.0) == pytest.approx(theirs(hf.get_linear_schedule_with_warmup, **full), rel=1e-12)
    assert ours("constant", 0.1) == pytest.approx(theirs(hf.get_constant_schedule_with_warmup, **warm), rel=1e-12)
    assert ours("wsd", 0.0, decay=DECAY) == pytest.approx(wsd, rel=1e-12, abs=1e-18)


def test_a_wrong_length_would_be_noticed() -> None:
    assert ours("cosine", 0.1, total=TOTAL + 1) != pytest.approx(ours("cosine", 0.1), rel=1e-3)
    assert ours("wsd", 0.0, decay=DECAY + 1) != pytest.approx(ours("wsd", 0.0, decay=DECAY), rel=1e-3)


def test_landmarks_of_llama_2() -> None:
    figures = {"total_steps": 500_000, "peak": 1.5e-4, "kind": "cosine", "warmup_steps": 2000, "min_ratio": 0.1}
    assert learning_rate(0, **figures) == 0
    assert learning_rate(1000, **figures) == pytest.approx(0.75e-4)
    assert learning_rate(2000, **figures) == pytest.approx(1.5e-4)
    assert learning_rate(251_000, **figures) == pytest.approx(1.5e-4 * 0.55)  # half-way: the mean of peak and floor
    assert learning_rate(500_000, **figures) == pytest.approx(1.5e-5)
    assert learning_rate(600_000, **figures) == pytest.approx(1.5e-5)  # stays there


def test_wsd_falls_as_one_minus_square_root() -> None:
    quarter = TOTAL - DECAY + DECAY // 4
    share = 1 - math.sqrt(DECAY // 4 / DECAY)
    assert ours("wsd", 0.0, decay=DECAY)[quarter] == pytest.approx(PEAK * share)
    assert ours("wsd", 0.0, decay=DECAY)[TOTAL - DECAY] == PEAK


def test_without_warm_up_the_first_step_has_the_peak() -> None:
    assert ours("cosine", 0.1, warmup=0)[0] == PEAK


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'polynomial' is not one of cosine, linear, constant, wsd"):
        learning_rate(5, total_steps=10, peak=1.0, kind="polynomial")


def test_steps_below_one_are_a_share() -> None:
    assert [count_steps(value, 600) for value in (2000, 1, 0.02, 0.0201, 0)] == [2000, 1, 12, 13, 0]
