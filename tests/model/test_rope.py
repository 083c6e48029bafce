"""RoPE: frequencies of every published kind, fp32 tables, relative positions only."""

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding as TheirRotaryEmbedding

from llama_train.model.llama import LlamaForCausalLM
from llama_train.model.rope import LlamaRotaryEmbedding, rotate

KINDS = ["default", "linear", "dynamic", "yarn", "llama3"]


def tables(module, length, dtype=torch.float):
    cos, sin = module(torch.zeros(1, dtype=dtype), torch.arange(length)[None])
    return torch.stack((cos, sin))[..., :8]  # transformers repeats the H/2 = 8 columns


@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_transformers_tables(tiny, kind):
    config = tiny(kind)
    ours, theirs = LlamaRotaryEmbedding(config), TheirRotaryEmbedding(config)
    for length in (64, 264, 100, 32):  # dynamic NTK grows, stays, goes back
        assert torch.equal(tables(ours, length), tables(theirs, length)), length


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_dropped_scaling_is_seen(tiny, kind):
    scaled, plain = (
        LlamaRotaryEmbedding(tiny(kind)),
        LlamaRotaryEmbedding(
            tiny(rope_parameters={"rope_type": "default", "rope_theta": tiny(kind).rope_parameters["rope_theta"]})
        ),
    )
    assert (tables(scaled, 264) - tables(plain, 264)).abs().max() > 0.1


def test_the_old_spelling_of_a_config_gives_the_same_tables(tiny):
    new = tiny("llama3")
    scaling = dict(new.rope_parameters)
    theta = scaling.pop("rope_theta")
    old = LlamaConfig(
        **{k: v for k, v in new.to_dict().items() if k != "rope_parameters"}, rope_theta=theta, rope_scaling=scaling
    )
    assert torch.equal(tables(LlamaRotaryEmbedding(new), 264), tables(LlamaRotaryEmbedding(old), 264))


def test_an_unknown_kind_is_refused_by_name(tiny):
    config = tiny()
    config.rope_parameters["rope_type"] = "spiral"
    with pytest.raises(ValueError, match="'spiral' is unknown: use default, linear"):
        LlamaRotaryEmbedding(config)


def test_tables_stay_fp32_in_a_bf16_model_under_autocast_and_from_the_meta_device(tiny, tmp_path):
    config = tiny("llama3")
    exact = tables(LlamaRotaryEmbedding(config), 264)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    loaded = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)  # built on the meta device
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tables(loaded.model.rotary_emb, 264, torch.bfloat16), exact)
    with torch.device("meta"):
        empty = LlamaForCausalLM(config)
    assert torch.equal(tables(empty.to_empty(device="cpu").bfloat16().model.rotary_emb, 264), exact)


def test_tables_first_made_in_inference_mode_serve_training(tiny):
    rope = LlamaRotaryEmbedding(tiny())
    with torch.inference_mode():
        tables(rope, 10)
    assert not rope.inv_freq.is_inference()


def test_rotation_depends_on_distance_only_and_keeps_length(tiny):
    rope = LlamaRotaryEmbedding(tiny())
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 16)

    def score(i, j):
        return (rotate(query, *rope(query, torch.tensor([[i]]))) * rotate(key, *rope(key, torch.tensor([[j]])))).sum()

    torch.testing.assert_close(score(30, 20), score(11, 1), rtol=1e-5, atol=1e-5)
    assert (score(30, 20) - score(30, 21)).abs() > 1e-3
    torch.testing.assert_close(rotate(query, *rope(query, torch.tensor([[50]]))).norm(), query.norm())
