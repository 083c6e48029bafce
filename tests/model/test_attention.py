"""Packed documents never see each other, whatever else is asked for, and plain rows are never cut."""

import pytest
import torch
from transformers import DynamicCache

from llama_train.model.llama import LlamaForCausalLM

LENGTHS = [40, 1, 64, 45]
BOUNDS = torch.tensor([0, 40, 41, 105, 150], dtype=torch.int32)
POSITIONS = torch.cat([torch.arange(n) for n in LENGTHS])[None]
PACKED = {"position_ids": POSITIONS}
GIVEN = {
    "position_ids": POSITIONS,
    "cu_seq_lens_q": BOUNDS,
    "cu_seq_lens_k": BOUNDS,
    "max_length_q": 64,
    "max_length_k": 64,
}


@pytest.fixture
def model(tiny):
    torch.manual_seed(0)
    return LlamaForCausalLM(tiny()).eval()


@pytest.fixture
def ids(tokens):
    return tokens(1, 150)


def changed(ids):
    """The same row with another first document."""
    other = ids.clone()
    other[:, :40] = (ids[:, :40] + 1) % 128
    return other


@pytest.mark.parametrize("told", [PACKED, GIVEN], ids=["found", "given"])
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["fp32", "autocast"])
def test_another_document_changes_no_bit(model, ids, told, mode, dtype):
    model.train(mode == "train")
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        first, second = model(ids, **told).logits, model(changed(ids), **told).logits
    assert torch.equal(first[:, 40:], second[:, 40:])
    assert not torch.equal(first[:, :40], second[:, :40])


def test_each_document_has_the_logits_it_has_alone(model, ids):
    packed = model(ids, **GIVEN).logits
    for document, logits in zip(ids.split(LENGTHS, 1), packed.split(LENGTHS, 1), strict=True):
        torch.testing.assert_close(logits, model(document).logits, rtol=1e-5, atol=1e-5)


def test_no_gradient_crosses_a_boundary(model, ids):
    embeddings = model.model.embed_tokens(ids).detach().requires_grad_()
    labels = ids.clone()
    labels[:, :106] = -100  # only the last document is predicted
    model.train()(inputs_embeds=embeddings, labels=labels, **GIVEN).loss.backward()
    assert torch.count_nonzero(embeddings.grad[:, :105]) == 0
    assert torch.count_nonzero(embeddings.grad[:, 105:-1].abs().sum(-1)) == 44


@pytest.mark.parametrize(
    "extra",
    [
        {"attention_mask": torch.ones(1, 150, dtype=torch.long)},
        {"use_cache": True},
        {"attention_mask": torch.ones(1, 150, dtype=torch.long), "use_cache": True},
        {"cu_seq_lens_q": BOUNDS},
        {"cu_seq_lens_k": BOUNDS},
    ],
    ids=lambda extra: "+".join(extra),
)
def test_nothing_switches_isolation_off(model, ids, extra):
    assert torch.equal(model(ids, **PACKED, **extra).logits, model(ids, **PACKED).logits)


def test_boundaries_alone_imply_the_positions(model, ids):
    assert torch.equal(model(ids, cu_seq_lens_q=BOUNDS).logits, model(ids, **GIVEN).logits)


def test_rows_of_a_batch_may_be_packed(model, tokens):
    ids = tokens(2, 60)
    positions = torch.stack((torch.cat((torch.arange(20), torch.arange(40))), torch.arange(60)))
    logits = model(ids, position_ids=positions).logits
    torch.testing.assert_close(logits[0, 20:], model(ids[:1, 20:]).logits[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits[1], model(ids[1:]).logits[0], rtol=1e-5, atol=1e-5)


def test_padding_behind_packed_documents_is_left_alone(model, ids):
    mask = torch.ones(1, 150, dtype=torch.long)
    mask[:, 105:] = 0
    positions = POSITIONS.clone()
    positions[:, 105:] = 0
    padded = model(ids, attention_mask=mask, position_ids=positions).logits[:, :105]
    torch.testing.assert_close(padded, model(ids, **PACKED).logits[:, :105], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("extra", [{}, {"output_attentions": True}], ids=["kernel", "weights"])
def test_packed_weights_and_eager_attention_are_isolated_too(tiny, model, ids, extra):
    eager = LlamaForCausalLM(tiny(attn_implementation="eager")).eval()
    eager.load_state_dict(model.state_dict())
    outputs = eager(ids, **GIVEN, **extra)
    torch.testing.assert_close(outputs.logits, model(ids, **GIVEN).logits, rtol=1e-5, atol=1e-5)
    if extra:
        assert outputs.attentions[0][:, :, 41:, :41].abs().max() == 0


def test_packed_documents_return_no_cache_and_take_none(model, ids):
    assert model(ids, use_cache=True, **PACKED).past_key_values is None
    cache = model(ids, use_cache=True).past_key_values
    for told in (GIVEN, {"cu_seq_lens_q": BOUNDS}):
        with pytest.raises(ValueError, match="cannot use a KV cache"):
            model(ids, past_key_values=cache, **told)
    with pytest.raises(ValueError, match="cannot use a KV cache"):
        model(ids, past_key_values=DynamicCache(), **PACKED)


@pytest.mark.parametrize(
    "extra",
    [
        {"attention_mask": torch.ones(1, 150, dtype=torch.long)},
        {"use_cache": False},
        {"position_ids": torch.arange(150)[None]},
    ],
    ids=lambda extra: "+".join(extra),
)
def test_a_plain_row_keeps_every_bit(model, ids, extra):
    assert torch.equal(model(ids, **extra).logits, model(ids).logits)


@pytest.mark.parametrize("pad_position", [0, 1])
def test_left_padded_prompts_are_not_cut(model, tokens, pad_position):
    ids, mask = tokens(1, 20), torch.tensor([[0] * 7 + [1] * 13])
    positions = torch.tensor([[pad_position] * 7 + list(range(13))])
    logits = model(ids, attention_mask=mask, position_ids=positions).logits[:, 7:]
    torch.testing.assert_close(logits, model(ids[:, 7:]).logits, rtol=1e-5, atol=1e-5)


def test_attention_dropout_is_honoured_in_training_only(tiny, ids):
    torch.manual_seed(0)
    model = LlamaForCausalLM(tiny(attention_dropout=0.5))
    for told in ({}, GIVEN):
        model.train()
        assert not torch.equal(model(ids, **told).logits, model(ids, **told).logits)
        model.eval()
        assert torch.equal(model(ids, **told).logits, model(ids, **told).logits)


@pytest.mark.gpu
def test_the_varlen_kernel_isolates_documents(model, ids):
    model, ids = model.cuda(), ids.cuda()
    told = {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in GIVEN.items()}
    with torch.autocast("cuda", torch.bfloat16), torch.no_grad():
        first, second = model(ids, **told).logits, model(changed(ids), **told).logits
    assert torch.equal(first[:, 40:], second[:, 40:])
    with torch.no_grad():
        exact = model(ids, **told).logits  # fp32: one document after the other
    assert (first - exact).norm() < 0.05 * exact.norm()
