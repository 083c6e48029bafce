"""The model's files are what transformers itself would have written, in one file or in several."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig

from llama_train.model.llama import LlamaForCausalLM
from llama_train.train.model_files import description, gathered, plan_files, safetensors, weight_bytes


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def model(request):
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 96,
    }
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=2, tie_word_embeddings=request.param))


def write(model, folder, limit):
    plan, parameters = plan_files(model, limit), dict(model.named_parameters())
    folder.mkdir()
    for name, text in description(model, plan).items():
        (folder / name).write_text(text)
    for name, members in plan.items():
        (folder / name).write_bytes(b"".join(safetensors({m: gathered(parameters[m], True) for m in members})))


@pytest.mark.parametrize("limit", [10**9, 10_000], ids=["one file", "several"])
def test_transformers_opens_them_and_finds_the_same_weights(model, tmp_path, limit):
    write(model, tmp_path / "ours", limit)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert type(stock).__module__.startswith("transformers.")
    theirs = stock.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in model.state_dict().items())
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) == (
        1 if limit == 10**9 else len(plan_files(model, limit))
    )
    assert limit == 10**9 or len(plan_files(model, limit)) > 3


def test_they_are_save_pretrained_s_own(model, tmp_path):
    write(model, tmp_path / "ours", 10**9)
    model.save_pretrained(tmp_path / "theirs")
    assert {path.name for path in (tmp_path / "ours").iterdir()} == {
        path.name for path in (tmp_path / "theirs").iterdir()
    }
    for name in ("config.json", "generation_config.json"):
        ours, theirs = (json.loads((tmp_path / who / name).read_text()) for who in ("ours", "theirs"))
        assert ours == theirs
    ours, theirs = (load_file(tmp_path / who / "model.safetensors") for who in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with safe_open(tmp_path / "ours" / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_no_file_is_larger_than_the_limit_unless_one_parameter_is(model):
    sizes = {name: weight_bytes(parameter) for name, parameter in model.named_parameters()}
    plan = plan_files(model, 10_000)
    assert [name for members in plan.values() for name in members] == list(sizes)
    for members in plan.values():
        assert len(members) == 1 or sum(sizes[name] for name in members) <= 10_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.int64])
def test_every_dtype_comes_back(tmp_path, dtype):
    tensors = {
        "a": torch.arange(7).to(dtype),
        "scalar": torch.tensor(3).to(dtype),
        "empty": torch.zeros(0, 4).to(dtype),
    }
    (tmp_path / "file").write_bytes(b"".join(bytes(chunk) for chunk in safetensors(tensors)))
    found = load_file(tmp_path / "file")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], tensor)
