"""Every row of the family: its count by formula, by transformers and by our model, and what was published about it."""

import dataclasses

import pytest

from llama_train.families import FAMILIES, LICENCES, count_parameters, find_family

PUBLISHED = {
    "llama1-7b": 6_738_415_616,
    "llama1-13b": 13_015_864_320,
    "llama1-33b": 32_528_943_616,
    "llama1-65b": 65_285_660_672,
    "llama2-7b": 6_738_415_616,
    "llama2-13b": 13_015_864_320,
    "llama2-34b": 33_743_970_304,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3.1-8b": 8_030_261_248,
    "llama3.1-70b": 70_553_706_496,
    "llama3.1-405b": 405_853_388_800,
    "llama3.2-1b": 1_235_814_400,
    "llama3.2-3b": 3_212_749_824,
}


def count_on_meta(model_class: type, config: object) -> int:
    """Parameters of the real module, without memory for them; tied ones once."""
    import torch

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in model_class(config).parameters())


def test_the_table_has_every_published_model() -> None:
    assert {name: family.published_parameters for name, family in FAMILIES.items()} == PUBLISHED


@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_agree_between_formula_transformers_and_our_model(name: str) -> None:
    import transformers

    from llama_train.model.llama import LlamaForCausalLM

    config = FAMILIES[name].config()
    assert FAMILIES[name].parameters == PUBLISHED[name]
    assert count_on_meta(transformers.LlamaForCausalLM, config) == PUBLISHED[name]
    assert count_on_meta(LlamaForCausalLM, config) == PUBLISHED[name]
    assert count_parameters(config) == PUBLISHED[name]


@pytest.mark.parametrize("field", ["num_key_value_heads", "intermediate_size", "num_hidden_layers", "vocab_size"])
def test_a_wrong_size_would_be_noticed(field: str) -> None:
    family = FAMILIES["llama3-8b"]
    assert dataclasses.replace(family, **{field: getattr(family, field) - 1}).parameters != PUBLISHED["llama3-8b"]


def test_a_forgotten_tie_would_be_noticed() -> None:
    untied = dataclasses.replace(FAMILIES["llama3.2-1b"], tie_word_embeddings=False)
    assert untied.parameters != PUBLISHED["llama3.2-1b"]


def test_rope_of_each_generation() -> None:
    assert FAMILIES["llama1-7b"].config().rope_parameters == {"rope_theta": 10_000.0, "rope_type": "default"}
    assert FAMILIES["llama3-8b"].config().rope_parameters == {"rope_theta": 500_000.0, "rope_type": "default"}
    scaled = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    for name, factor in (("llama3.1-405b", 8.0), ("llama3.2-3b", 32.0)):
        rope = FAMILIES[name].config().rope_parameters
        assert rope == {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": factor, **scaled}


def test_config_is_transformers_own_and_takes_overrides() -> None:
    config = FAMILIES["llama2-70b"].config(hidden_size=512, num_attention_heads=16, attention_dropout=0.1)
    assert config.model_type == "llama"
    assert (config.head_dim, config.num_key_value_heads, config.attention_dropout) == (32, 8, 0.1)
    for name, ids in (("llama2-70b", (1, 2)), ("llama3-8b", (128000, 128001))):
        config = FAMILIES[name].config()
        assert (config.bos_token_id, config.eos_token_id) == ids


def test_published_training_figures() -> None:
    first, second = FAMILIES["llama1-65b"].training, FAMILIES["llama2-7b"].training
    assert (first.learning_rate, first.max_train_tokens, first.max_length) == (1.5e-4, 1_400_000_000_000, 2048)
    assert (second.learning_rate, second.max_train_tokens, second.adam_epsilon) == (3e-4, 2_000_000_000_000, 1e-5)
    for training in (first, second):
        assert (training.adam_beta1, training.adam_beta2, training.weight_decay) == (0.9, 0.95, 0.1)
        assert (training.warmup_steps, training.min_lr_ratio, training.max_grad_norm) == (2000, 0.1, 1.0)
    large = FAMILIES["llama3.1-405b"].training
    assert large.learning_rate is not None and large.min_lr_ratio is not None
    assert large.learning_rate * large.min_lr_ratio == pytest.approx(8e-7)
    assert large.warmup_steps == 8000


def test_what_nobody_published_is_none() -> None:
    assert FAMILIES["llama1-7b"].training.adam_epsilon is None
    assert FAMILIES["llama3-8b"].training.warmup_steps is None
    assert FAMILIES["llama3.2-1b"].training.learning_rate is None


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no 'llama2-7B'; the nearest is 'llama2-7b'"):
        find_family("llama2-7B")
    with pytest.raises(ValueError, match="nearest is 'llama3.1-405b'"):
        find_family("llama-3.1-405b")


def test_every_generation_has_licence_facts() -> None:
    assert {family.generation for family in FAMILIES.values()} == set(LICENCES)
    assert FAMILIES["llama1-7b"].licence.code == "GPL-3"
    assert "Llama 3" in FAMILIES["llama3-70b"].licence.naming
