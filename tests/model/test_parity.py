"""Our Llama and transformers' with the same weights: equal logits, gradients and greedy tokens; mistakes are seen.

Texts are 200 tokens longer than the trained context and weights have a standard deviation of 0.2: at the usual 0.02 a
missing RoPE scaling moves logits by 3e-6 only.
"""

import pytest
import torch
from transformers import DynamicCache
from transformers.models.llama import modeling_llama

KINDS = ["default", "linear", "dynamic", "yarn", "llama3"]
TIME = 64 + 200
every_kind = pytest.mark.parametrize("rope", KINDS)
every_head_count = pytest.mark.parametrize("kv_heads", [4, 2, 1], ids=["mha", "gqa", "mqa"])
tied_or_not = pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])


def bound(logits):
    return 1e-5 * max(1.0, logits.abs().max().item())


def assert_equal_logits(ours, theirs):
    assert (ours - theirs).abs().max() <= bound(theirs)


@every_kind
@every_head_count
@tied_or_not
def test_logits_and_gradients(tiny, pair, tokens, rope, kv_heads, tied):
    config = tiny(rope, num_key_value_heads=kv_heads, tie_word_embeddings=tied)
    ours, theirs = pair(config)
    ids = tokens(2, TIME)
    mine, true = ours(ids, labels=ids), theirs(ids, labels=ids)
    assert_equal_logits(mine.logits, true.logits)
    torch.testing.assert_close(mine.loss, true.loss, rtol=1e-6, atol=0)
    mine.loss.backward()
    true.loss.backward()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (a.grad - b.grad).abs().max() <= 2e-5 * b.grad.abs().max(), name


@every_kind
@tied_or_not
def test_gradients_at_the_usual_weights(tiny, pair, tokens, rope, tied):
    ours, theirs = pair(tiny(rope, initializer_range=0.02, tie_word_embeddings=tied))
    ids = tokens(2, TIME)
    for model in (ours, theirs):
        model(ids, labels=ids).loss.backward()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (a.grad - b.grad).abs().max() <= 1e-5 * b.grad.abs().max(), name


@every_kind
@every_head_count
def test_cached_logits(tiny, pair, tokens, rope, kv_heads):
    ours, theirs = pair(tiny(rope, num_key_value_heads=kv_heads))
    ids = tokens(2, TIME)
    caches = [DynamicCache(), DynamicCache()]
    with torch.no_grad():
        for chunk in ids.split([50, 100, 1, 1, 112], dim=1):
            mine, true = (
                model(chunk, past_key_values=cache, use_cache=True).logits
                for model, cache in zip((ours, theirs), caches, strict=True)
            )
            assert_equal_logits(mine, true)
        if rope != "dynamic":  # whose frequencies depend on the longest text seen so far
            assert_equal_logits(mine, ours(ids).logits[:, -112:])


@every_kind
@every_head_count
@tied_or_not
def test_greedy_tokens(tiny, pair, tokens, rope, kv_heads, tied):
    ours, theirs = pair(tiny(rope, num_key_value_heads=kv_heads, tie_word_embeddings=tied))
    prompt = tokens(2, 56)
    for use_cache in (True, False):
        mine, true = (
            m.generate(prompt, max_new_tokens=16, do_sample=False, use_cache=use_cache, pad_token_id=0)
            for m in (ours, theirs)
        )
        assert torch.equal(mine, true)


def test_left_padded_logits_of_real_tokens(tiny, pair, tokens):
    ours, theirs = pair(tiny())
    ids, mask = tokens(2, 40), torch.ones(2, 40, dtype=torch.long)
    mask[0, :13] = 0
    with torch.no_grad():
        mine, true = (m(ids, attention_mask=mask).logits[mask.bool()] for m in (ours, theirs))
        assert_equal_logits(mine, true)
        assert (ours(ids).logits[mask.bool()] - true).abs().max() > 100 * bound(true)


def test_biases(tiny, pair, tokens):
    ours, theirs = pair(tiny(attention_bias=True, mlp_bias=True))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.nn.init.normal_(a, std=0.2)
        b.data.copy_(a)
    assert_equal_logits(ours(tokens(1, 50)).logits, theirs(tokens(1, 50)).logits)


def test_an_explicit_head_width(tiny, pair, tokens):
    ours, theirs = pair(tiny(head_dim=24))
    assert_equal_logits(ours(tokens(1, 50)).logits, theirs(tokens(1, 50)).logits)


def test_attention_weights_and_hidden_states(tiny, pair, tokens):
    config = tiny(attn_implementation="eager")
    ours, theirs = pair(config)
    mine, true = (m(tokens(2, 50), output_attentions=True, output_hidden_states=True) for m in (ours, theirs))
    for a, b in zip(mine.attentions + mine.hidden_states, true.attentions + true.hidden_states, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-5)


def test_packed_documents_as_transformers_isolates_them(tiny, pair, tokens):
    ours, theirs = pair(tiny())
    ids = tokens(1, 150)
    positions = torch.cat([torch.arange(n) for n in (40, 1, 64, 45)])[None]
    with torch.no_grad():
        true = theirs(ids, position_ids=positions, use_cache=False).logits
        assert_equal_logits(ours(ids, position_ids=positions).logits, true)
        leaked = ours(ids, position_ids=positions, cu_seq_lens_q=torch.tensor([0, 41, 105, 150])).logits
        assert (leaked - true).abs().max() > 100 * bound(true)


@pytest.mark.parametrize("rope", KINDS[1:])
def test_a_dropped_scaling_is_caught(tiny, pair, tokens, rope):
    config = tiny(rope)
    ours, _ = pair(config)
    plain = tiny(rope_parameters={"rope_type": "default", "rope_theta": config.rope_parameters["rope_theta"]})
    assert_mistake_is_seen(ours, plain, tokens)


def test_a_wrong_theta_is_caught(tiny, pair, tokens):
    ours, _ = pair(tiny())
    assert_mistake_is_seen(ours, tiny(rope_parameters={"rope_type": "default", "rope_theta": 500000.0}), tokens)


def assert_mistake_is_seen(ours, wrong_config, tokens):
    wrong = modeling_llama.LlamaForCausalLM(wrong_config).eval()
    wrong.load_state_dict(ours.state_dict(), strict=True)
    with torch.no_grad():
        true, off = ours(tokens(1, TIME)).logits, wrong(tokens(1, TIME)).logits
    assert (off - true).abs().max() >= 100 * bound(true)
