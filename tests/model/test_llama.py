"""Our Llama behaves as any transformers causal LM: saving, loading, generating, checkpointing, resizing."""

import copy
import inspect
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig
from transformers.models.llama import modeling_llama

from llama_train.model.llama import LlamaForCausalLM, LlamaModel


@pytest.fixture
def model(tiny):
    torch.manual_seed(0)
    return LlamaForCausalLM(tiny(pad_token_id=0)).eval()


@pytest.fixture
def ids(tokens):
    return tokens(2, 24).clamp(min=3)


def grads(model):
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("tied", [False, True])
def test_stock_transformers_opens_a_sharded_checkpoint(tiny, tmp_path, ids, tied):
    model = LlamaForCausalLM(tiny(tie_word_embeddings=tied)).eval()
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "llama" and config["architectures"] == ["LlamaForCausalLM"]
    assert "auto_map" not in config
    stock = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(stock) is modeling_llama.LlamaForCausalLM
    mine, theirs = model(ids).logits, stock(ids).logits
    assert (mine - theirs).abs().max() <= 1e-5 * max(1, theirs.abs().max())


def test_a_stock_checkpoint_opens_here(tiny, tmp_path, ids):
    stock = modeling_llama.LlamaForCausalLM(tiny()).eval()
    stock.save_pretrained(tmp_path)
    loaded, report = LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    torch.testing.assert_close(loaded.eval()(ids).logits, stock(ids).logits, rtol=1e-5, atol=1e-5)
    half = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16, device_map="cpu")
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


def test_weights_start_at_the_configured_deviation(tiny):
    model = LlamaForCausalLM(tiny(initializer_range=0.05))
    for name, weight in model.named_parameters():
        if "norm" in name:
            assert (weight == 1).all()
        else:
            assert 0.045 < weight.std() < 0.055, name


def test_the_loss_is_the_sum_over_counted_labels_over_num_items(model, ids):
    labels = ids.clone()
    labels[:, ::4] = -100
    out = model(ids, labels=labels)
    true = torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    counted = (labels[:, 1:] != -100).sum()
    torch.testing.assert_close(out.loss, true / counted)
    for items in (100, torch.tensor(100)):
        torch.testing.assert_close(model(ids, labels=labels, num_items_in_batch=items).loss, true / 100)


def test_labels_shifted_by_the_caller_win(model, ids):
    shifted = torch.nn.functional.pad(ids[:, 1:], (0, 1), value=-100)
    assert torch.equal(model(ids, labels=ids * 0, shift_labels=shifted).loss, model(ids, labels=ids).loss)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("skip", "skipped"), [(None, None), (True, True), (False, False)])
def test_logits_are_skipped_in_training_unless_asked_for(model, ids, training, skip, skipped):
    model.train(training)
    expected = training if skipped is None else skipped
    assert (model(ids, labels=ids, skip_logits=skip).logits is None) == expected
    assert model(ids, skip_logits=skip).logits is not None


def test_logits_to_keep(model, ids):
    every = model(ids).logits
    torch.testing.assert_close(model(ids, logits_to_keep=3).logits, every[:, -3:])
    torch.testing.assert_close(model(ids, logits_to_keep=torch.tensor([0, 5])).logits, every[:, [0, 5]])


def test_return_dict_false_is_a_tuple_and_embeddings_equal_ids(model, ids):
    logits = model(ids, use_cache=False, return_dict=False)
    assert isinstance(logits, tuple) and len(logits) == 1
    assert torch.equal(logits[0], model(inputs_embeds=model.get_input_embeddings()(ids)).logits)
    for wrong in ({}, {"input_ids": ids, "inputs_embeds": model.get_input_embeddings()(ids)}):
        with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
            model(**wrong)


def test_hidden_states_end_after_the_norm(model, ids):
    out = model.model(ids, output_hidden_states=True)
    assert len(out.hidden_states) == 3 and torch.equal(out.hidden_states[-1], out.last_hidden_state)


def test_a_training_step_keeps_no_cache_unless_asked(model, ids):
    assert isinstance(model(ids).past_key_values, DynamicCache)
    assert model.train()(ids).past_key_values is None
    assert model(ids, use_cache=True).past_key_values.get_seq_length() == 24


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(model, ids, reentrant):
    model.train()
    model(ids, labels=ids).loss.backward()
    plain = grads(model)
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    assert model.model.gradient_checkpointing is True
    if reentrant:
        model.enable_input_require_grads()
    model(ids, labels=ids).loss.backward()
    assert all(torch.equal(a, b) for a, b in zip(plain, grads(model), strict=True))


def test_resizing_the_vocabulary_keeps_the_chunked_head(model, ids):
    before = model(ids).logits
    model.resize_token_embeddings(150)
    after = model.train()(ids, labels=ids)
    assert after.logits is None and after.loss.isfinite()
    assert torch.equal(model.eval()(ids).logits[..., :128], before)
    assert model.lm_head.weight.shape[0] == model.config.vocab_size == 150


@pytest.mark.parametrize(
    "how",
    [
        {"do_sample": False},
        {"do_sample": True, "top_k": 20},
        {"num_beams": 3},
        {"do_sample": False, "cache_implementation": "static"},
        {"do_sample": False, "prompt_lookup_num_tokens": 2},
    ],
    ids=["greedy", "sampling", "beams", "static", "assisted"],
)
def test_generate_gives_transformers_tokens(model, ids, how):
    stock = modeling_llama.LlamaForCausalLM(copy.deepcopy(model.config)).eval()
    stock.load_state_dict(model.state_dict())
    prompt, mask = ids.clone(), torch.ones_like(ids)
    prompt[0, :9], mask[0, :9] = 0, 0  # left padding
    if "prompt_lookup_num_tokens" in how:  # takes one text at a time
        prompt, mask = prompt[1:], mask[1:]
    texts = []
    for m in (model, stock):
        torch.manual_seed(0)
        texts.append(m.generate(prompt, attention_mask=mask, max_new_tokens=12, disable_compile=True, **how))
    assert torch.equal(*texts)


def test_lora_on_every_layer_and_the_head_trains_to_the_same_loss(model, ids):
    peft = pytest.importorskip("peft")
    labels, expected = ids, model(ids, labels=ids).loss
    for targets in ("all-linear", ["q_proj", "lm_head"]):
        lora = peft.LoraConfig(target_modules=targets, task_type="CAUSAL_LM")
        adapted = peft.get_peft_model(copy.deepcopy(model), lora)
        loss = adapted(input_ids=ids, labels=labels).loss
        torch.testing.assert_close(loss, expected)
        loss.backward()
        assert all((p.grad is not None) == p.requires_grad for p in adapted.parameters())


def test_the_forward_speaks_transformers_argument_names():
    theirs = inspect.signature(modeling_llama.LlamaForCausalLM.forward).parameters
    assert set(theirs) <= set(inspect.signature(LlamaForCausalLM.forward).parameters)
    theirs = inspect.signature(modeling_llama.LlamaModel.forward).parameters
    assert set(theirs) <= set(inspect.signature(LlamaModel.forward).parameters)


def test_a_batch_without_a_counted_token_has_no_loss_to_be_proud_of():
    ids = torch.randint(0, 90, (1, 8))
    labels = torch.full_like(ids, -100)
    config = LlamaConfig(
        vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4
    )
    model = LlamaForCausalLM(config)
    assert model(ids, labels=labels).loss.isnan(), "transformers' answer too; 0 would look like a perfect model"
    assert model(ids, labels=labels, num_items_in_batch=7).loss == 0, "one micro-batch of a step that counts elsewhere"
