"""RMSNorm: the formula, its gradient, its dtypes."""

import pytest
import torch

from llama_train.model.rms_norm import LlamaRMSNorm


def reference(x, weight, eps):
    x = x.double()
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight.double()


@pytest.fixture
def norm():
    torch.manual_seed(0)
    norm = LlamaRMSNorm(48, eps=1e-3)
    torch.nn.init.normal_(norm.weight)
    return norm


def test_equals_the_formula_and_sees_a_missing_eps(norm):
    x = torch.randn(2, 5, 48) * 0.1
    torch.testing.assert_close(norm(x).double(), reference(x, norm.weight, 1e-3), rtol=1e-6, atol=1e-6)
    assert (norm(x) - reference(x, norm.weight, 0.0)).abs().max() > 1e-3


def test_gradients_equal_those_of_the_formula(norm):
    x = torch.randn(2, 5, 48, requires_grad=True)
    upstream = torch.randn(2, 5, 48)
    mine = torch.autograd.grad((norm(x) * upstream).sum(), (x, norm.weight))
    true = torch.autograd.grad((reference(x, norm.weight, 1e-3) * upstream).sum(), (x, norm.weight))
    for a, b in zip(mine, true, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_a_bf16_input_is_normed_in_fp32(norm):
    x = (torch.randn(4, 48) * 1e-3).bfloat16()
    out = norm(x)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, reference(x, norm.weight, 1e-3).bfloat16())


def test_under_autocast_the_output_is_bf16_and_the_gradient_fp32(norm):
    x = torch.randn(4, 48, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = norm(x)
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    assert x.grad.dtype == norm.weight.grad.dtype == torch.float32
