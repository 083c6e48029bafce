"""SwiGLU: the formula and the biases a config may ask for."""

import torch

from llama_train.model.swiglu import LlamaMLP


def test_equals_the_formula(tiny):
    mlp = LlamaMLP(tiny())
    x = torch.randn(2, 3, 64)
    gate, up, down = (layer.weight for layer in (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
    inner = x @ gate.T
    expected = (inner / (1 + torch.exp(-inner)) * (x @ up.T)) @ down.T
    torch.testing.assert_close(mlp(x), expected, rtol=1e-5, atol=1e-6)


def test_biases_exist_only_where_the_config_asks(tiny):
    names = [name for name, _ in LlamaMLP(tiny()).named_parameters()]
    assert names == ["gate_proj.weight", "up_proj.weight", "down_proj.weight"]
    biased = LlamaMLP(tiny(mlp_bias=True))
    assert [biased.gate_proj.bias.numel(), biased.up_proj.bias.numel(), biased.down_proj.bias.numel()] == [96, 96, 64]
