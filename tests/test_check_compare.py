"""Each row of the table: nothing to see in a sound run, and the mistake it is there for."""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import save_file
from torch import nn

from llama_train.check_compare import (
    Row,
    compare_documents,
    compare_resumed,
    compare_splits,
    compare_transformers,
    largest_difference,
    largest_relative_difference,
    moments,
)
from llama_train.check_shrunk import ROWS, STEPS, shrink
from llama_train.data.packing import Rows
from llama_train.data.shards import Shards
from llama_train.model.llama import LlamaForCausalLM
from llama_train.settings import PretrainSettings, load_settings, settings_to_yaml
from recipes.pretrain import main

HALF = STEPS // 2


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> PretrainSettings:
    """Llama 3.1 8B in small: grouped queries and a RoPE scaling."""
    return shrink(load_settings(["--model", "llama3.1-8b", "--dry_run"]), tmp_path_factory.mktemp("tiny"))


def train(tiny: PretrainSettings, out: Path, rows: int, accumulation: int, **changes) -> Path:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    split = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulation}
    out.with_suffix(".yaml").write_text(settings_to_yaml(replace(tiny, output_dir=str(out), **split, **changes)))
    main([str(out.with_suffix(".yaml"))])
    return out


@pytest.fixture(scope="module")
def whole(tiny: PretrainSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with its batch at once."""
    return train(tiny, tmp_path_factory.mktemp("runs") / "whole", ROWS, 1)


@pytest.fixture
def rows(tiny: PretrainSettings) -> list:
    stored = Rows(Shards(str(tiny.dataset_path)), tiny.max_length or 0)
    return [stored[i] for i in range(ROWS)]


@pytest.fixture
def model(whole: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(whole / f"checkpoint-{STEPS}")


def breaches(rows: list[Row]) -> list[str]:
    return [row.name.rpartition(": ")[2] for row in rows if not row.ok]


# --- runs ---


def test_accumulated_rows_are_as_good_as_the_batch_at_once(tiny, whole, tmp_path):
    assert breaches(compare_splits("accumulated", whole, train(tiny, tmp_path / "run", 1, ROWS))) == []


def test_an_average_of_averages_is_caught(tiny, whole, tmp_path, monkeypatch):
    """Each micro-batch divided by its own tokens: transformers#34191."""
    forward = LlamaForCausalLM.forward

    def mean(self, *args, num_items_in_batch=None, **kwargs):
        outputs = forward(self, *args, **kwargs)
        if outputs.loss is not None:
            outputs.loss = outputs.loss / ROWS
        return outputs

    monkeypatch.setattr(LlamaForCausalLM, "forward", mean)
    found = compare_splits("accumulated", whole, train(tiny, tmp_path / "run", 1, ROWS))
    assert breaches(found) == ["loss", "gradient"]


def test_another_batch_and_another_order_are_caught(tiny, whole, tmp_path):
    smaller = train(tiny, tmp_path / "smaller", 1, ROWS // 2)
    assert breaches(compare_splits("half the rows", whole, smaller)) == ["loss", "gradient"]
    shuffled = train(replace(tiny, seed=7, model_name_or_path=str(whole / "final")), tmp_path / "shuffled", ROWS, 1)
    same = train(replace(tiny, model_name_or_path=str(whole / "final")), tmp_path / "same", ROWS, 1)
    assert breaches(compare_splits("another order", same, shuffled)) == ["loss", "gradient"]


@pytest.fixture
def resume(tiny: PretrainSettings, whole: Path, tmp_path: Path):
    return lambda: train(tiny, tmp_path / "run", ROWS, 1, resume_from_checkpoint=str(whole / f"checkpoint-{HALF}"))


def test_a_resumed_run_is_the_unbroken_one(whole, resume):
    assert breaches(compare_resumed(whole, resume(), HALF, STEPS)) == []


def test_moments_that_are_not_loaded_are_caught(whole, resume, monkeypatch):
    monkeypatch.setattr("llama_train.train.checkpoint.load_optimizer", lambda *_: None)
    assert breaches(compare_resumed(whole, resume(), HALF, STEPS)) == ["loss", "weights", "optimizer"]


def test_a_run_that_begins_its_data_again_is_caught(whole, resume, monkeypatch):
    from llama_train.train import run

    batches = run.train_batches
    monkeypatch.setattr(run, "train_batches", lambda *args, **kw: batches(*args, **(kw | {"start_batch": 0})))
    assert breaches(compare_resumed(whole, resume(), HALF, STEPS)) == ["loss", "weights", "optimizer"]


# --- documents ---


def without(model: LlamaForCausalLM, *keys: str) -> nn.Module:
    """The same model, called without some of its inputs."""

    class Forgetful(LlamaForCausalLM):
        def forward(self, *args, **inputs):
            return super().forward(*args, **{key: value for key, value in inputs.items() if key not in keys})

    forgetful = Forgetful(model.config)
    forgetful.load_state_dict(model.state_dict())
    return forgetful


@pytest.mark.parametrize("packing", [True, False])
def test_documents_are_alone_among_others(model, rows, packing):
    found = compare_documents(model, rows, packing)
    assert breaches(found) == [] and len(found) == 1 + packing


def test_documents_that_see_each_other_are_caught(model, rows):
    leaky = without(model, "cu_seq_lens_q", "cu_seq_lens_k", "position_ids")
    assert breaches(compare_documents(leaky, rows, True)) == ["loss", "B's logits"]


def test_text_taken_for_padding_is_caught(model, rows):
    class Shifted(LlamaForCausalLM):
        def forward(self, *args, attention_mask=None, **inputs):
            mask = None if attention_mask is None else attention_mask.flip(1)
            return super().forward(*args, attention_mask=mask, **inputs)

    shifted = Shifted(model.config)
    shifted.load_state_dict(model.state_dict())
    assert breaches(compare_documents(shifted, rows, False)) == ["loss"]


# --- transformers ---


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole / f"checkpoint-{STEPS}", tmp_path / "copied")


@pytest.mark.parametrize("packing", [True, False])
def test_transformers_opens_the_same_model(model, copied, rows, packing):
    assert breaches(compare_transformers(model, copied, rows, packing)) == []


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "default", "rope_theta": 5e5},
        {"rope_theta": 1e4},
        {"factor": 4.0},
        {"original_max_position_embeddings": 4096},
    ],
    ids=lambda rope: "-".join(rope),
)
def test_a_lost_rope_setting_is_caught(model, copied, rows, rope):
    config = json.loads((copied / "config.json").read_text())
    config["rope_parameters"] |= rope
    (copied / "config.json").write_text(json.dumps(config))
    assert breaches(compare_transformers(model, copied, rows, True)) == ["loss", "gradient"]


def test_another_weight_is_caught(model, copied, rows):
    with torch.no_grad():
        model.model.norm.weight[3] += 1e-6
    assert breaches(compare_transformers(model, copied, rows, True)) == ["weights"]


# --- arithmetic ---


@pytest.mark.parametrize(("difference", "ok"), [(0.0, True), (1e-5, True), (1.1e-5, False)])
def test_a_bound_may_be_reached_and_not_passed(difference, ok):
    assert Row("x", difference, 1e-5).ok is ok
    assert not Row("x", math.nan, math.inf).ok


def test_what_cannot_be_compared_differs():
    one = {"a": torch.ones(2), "b": torch.ones(3)}
    assert largest_difference(one, one) == largest_relative_difference(one, one) == 0.0
    assert largest_difference(one, {"a": one["a"]}) == largest_relative_difference(one, {"a": one["a"]}) == math.inf
    assert largest_difference({}, {}) == largest_relative_difference({}, {}) == math.inf
    for place in ("a", "b"):
        spoilt = one | {place: one[place] * math.nan}
        assert math.isnan(largest_difference(spoilt, one)) and math.isnan(largest_relative_difference(spoilt, one))


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Path]:
    flat = torch.arange(20.0)
    save_file(
        {"w/exp_avg/12": flat[12:].clone(), "w/exp_avg_sq/12": flat[12:] ** 2}, tmp_path / "optimizer-0.safetensors"
    )
    save_file(
        {"w/exp_avg/0": flat[:12].clone(), "w/exp_avg_sq/0": flat[:12] ** 2, "step": torch.tensor(3.0)},
        tmp_path / "optimizer-1.safetensors",
    )
    yield tmp_path


def test_moments_are_put_together_from_all_processes(parts):
    found = moments(parts, "exp_avg")
    assert found.keys() == {"w/exp_avg"} and torch.equal(found["w/exp_avg"], torch.arange(20.0))
    assert moments(parts, "exp_avg", "exp_avg_sq").keys() == {"w/exp_avg", "w/exp_avg_sq"}
