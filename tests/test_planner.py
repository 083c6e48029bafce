"""The plan against published figures, formulas and the shards; every family row is dry-run."""

import dataclasses
import json
from pathlib import Path

import pytest

from llama_train.families import FAMILIES
from llama_train.planner import Plan, flops_per_token, notes, plan, render
from llama_train.settings import load_settings

SIZES = "--hidden_size 64 --intermediate_size 176 --num_hidden_layers 2 --num_attention_heads 4 --vocab_size 512"


def plan_of(*words: str, processes: int = 1) -> Plan:
    return plan(load_settings(list(words)), processes)


def small(words: str, processes: int = 1) -> Plan:
    return plan_of(*SIZES.split(), *words.split(), processes=processes)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_row_is_planned_without_data(name: str) -> None:
    family = FAMILIES[name]
    run = plan_of("--model", name, "--dry_run")
    text = render(run)
    assert run.parameters == family.published_parameters
    assert f"{family.published_parameters:,}" in text
    assert 0 <= run.tokens - family.max_train_tokens < run.tokens_per_step
    assert run.schedule["peak"] == (family.learning_rate or 3e-4)
    assert not [note for note in notes(run) if "this run" in note]  # nothing published is left without being told to
    for fact in family.training.not_followed:
        assert f"published and not followed: {fact}" in text


def test_llama_1_batch_and_steps_are_the_papers() -> None:
    run = plan_of("--model", "llama1-7b")
    assert (run.tokens_per_step, run.accumulation, run.rows_per_step) == (2**22, 2048, 2048)
    assert run.steps == 238_419  # 1.0T tokens in batches of 4,194,304
    assert plan_of("--model", "llama1-7b", processes=64).accumulation == 32


def test_flops_per_token_are_the_known_ones() -> None:
    """8B at 8192: 57.9 GFLOP by A (torchtitan logs: 407.35 TFLOP/s at 7,034 tokens/s), 51.5 by B (Megatron-Bridge)."""
    settings = load_settings(["--model", "llama3-8b"])
    assert flops_per_token(settings, 8192, causal=False) == pytest.approx(407.35e12 / 7034, rel=1e-3)
    assert flops_per_token(settings, 8192) == pytest.approx(725e12 / 14079, rel=1e-3)
    assert plan(settings, 1).flops_per_token == flops_per_token(settings, 8192)


def test_memory_is_sixteen_bytes_a_parameter() -> None:
    assert f"memory            {16 * 8_030_261_248 / 2**30:.1f} GiB" in render(plan_of("--model", "llama3-8b"))


def test_accumulation_follows_from_the_batch() -> None:
    words = "--max_steps 10 --max_length 128 --per_device_train_batch_size 4 --global_batch_tokens"
    assert small(f"{words} 4096", processes=2).accumulation == 4
    with pytest.raises(ValueError, match=r"4000\) is not a multiple of 2 processes .* = 1024; the nearest .* is 4096"):
        small(f"{words} 4000", processes=2)
    with pytest.raises(ValueError, match="the nearest multiple is 1024"):
        small(f"{words} 100", processes=2)


def test_tokens_are_rounded_up_to_whole_steps() -> None:
    assert small("--max_train_tokens 1025 --max_length 128 --per_device_train_batch_size 8").steps == 2
    assert small("--max_train_tokens 1024 --max_length 128 --per_device_train_batch_size 8").steps == 1


def shards(folder: Path, tokens: int, vocab_size: int = 512) -> str:
    (folder / "manifest.json").write_text(json.dumps({"tokens": tokens, "vocab_size": vocab_size}))
    return f"--dataset_path {folder} --max_length 11 --per_device_train_batch_size 4"


def test_epochs_are_counted_in_rows_that_overlap_by_one_token(tmp_path: Path) -> None:
    where = shards(tmp_path, 401)  # 40 rows of 11 tokens, each predicting 10
    assert (small(where).rows, small(where).steps, small(where).epochs) == (40, 10, 1.0)
    assert small(f"{where} --num_train_epochs 2.5").steps == 25
    assert small(f"{where} --max_steps 5").epochs == 0.5
    assert small(shards(tmp_path, 400)).rows == 39  # the last row is one token short


def test_the_rows_are_those_the_data_gives(tiny_shards: Path) -> None:
    from llama_train.data.packing import Rows
    from llama_train.data.shards import Shards

    for length in (8, 64, 128):
        words = f"--dataset_path {tiny_shards} --max_length {length} --max_steps 100 --warmup_steps 0"
        assert small(words).rows == len(Rows(Shards(tiny_shards), length))


def test_epochs_without_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"num_train_epochs \(1.0\) cannot be counted .*there are no token shards"):
        small(f"--dataset_path {tmp_path}")
    with pytest.raises(ValueError, match="shorter than one row"):
        small(shards(tmp_path, 5))


def test_warm_up_and_decay_must_fit_into_the_run() -> None:
    with pytest.raises(ValueError, match=r"warmup_steps \(2000\) do not fit into a run of 100 steps"):
        plan_of("--model", "llama2-7b", "--max_steps", "100")
    with pytest.raises(ValueError, match=r"warmup_steps \(60\) and decay_steps \(50\) do not fit into a run of 100"):
        small("--max_steps 100 --lr_scheduler_type wsd --warmup_steps 60 --decay_steps 0.5")
    assert small("--max_steps 100 --lr_scheduler_type wsd --warmup_steps 50 --decay_steps 0.5").decay_steps == 50


def test_what_a_run_changes_is_said_beside_what_was_published() -> None:
    words = "--model llama2-7b --learning_rate 1e-4 --vocab_size 8192 --max_train_tokens 1e10"
    text = render(plan_of(*words.split(), "--global_batch_tokens", "2097152"))
    assert "note: learning_rate: published 0.0003, this run 0.0001" in text
    assert "note: vocab_size: published 32,000, this run 8,192" in text
    assert "note: batch tokens: published 4,194,304, this run 2,097,152" in text
    assert "note: tokens: published 2,000,000,000,000, this run 10,001,317,888" in text
    assert "adam_beta1: published" not in text


def test_what_was_never_published_is_said() -> None:
    text = render(plan_of("--model", "llama3-8b"))
    assert "no published figure known for llama3-8b, so yours or the house's: adam_beta1, adam_beta2" in text
    assert "the batch grew: 4M tokens" in render(plan_of("--model", "llama3.1-405b"))


def test_shards_of_another_vocabulary_are_noted(tmp_path: Path) -> None:
    words = shards(tmp_path, 401, vocab_size=300)
    assert "note: the shards have 300 token ids, the model 512" in render(small(words))


def test_learning_rate_landmarks() -> None:
    text = render(small("--max_steps 100 --warmup_steps 10 --learning_rate 1e-3 --min_lr_ratio 0"))
    assert "0 at step 0 (first)" in text and "0.001 at step 10 (end of warm-up)" in text
    assert "at step 50 (half-way)" in text and "at step 99 (last)" in text


def test_a_plan_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        small("--max_steps 100").steps = 1  # type: ignore[misc]
