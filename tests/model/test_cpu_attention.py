"""Block-wise causal attention on CPU against torch's own kernel."""

import pytest
import torch
import torch.nn.functional as F

from llama_train.model.cpu_attention import causal_attention


def states(time, heads, kv_heads, dtype=torch.float):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, h, time, 16, generator=generator).to(dtype).requires_grad_() for h in (heads, kv_heads, kv_heads)
    ]


def reference(query, key, value, offsets):
    pieces = [
        F.scaled_dot_product_attention(
            *(x[:, :, start:end] for x in (query, key, value)), is_causal=True, enable_gqa=True
        )
        for start, end in zip(offsets, offsets[1:], strict=False)
    ]
    return torch.cat(pieces, 2).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize(
    "offsets",
    [[0, 1], [0, 100], [0, 300], [0, 600], [0, 1, 129, 300], [0, 5, 5, 520]],
    ids=lambda offsets: "-".join(map(str, offsets)),
)
def test_output_and_gradients_equal_torch(kv_heads, offsets):
    inputs = states(offsets[-1], 4, kv_heads)
    mine, true = causal_attention(*inputs, 16**-0.5, offsets), reference(*inputs, offsets)
    torch.testing.assert_close(mine, true, rtol=1e-5, atol=2e-6)
    upstream = torch.randn_like(true)
    grads = [torch.autograd.grad((out * upstream).sum(), inputs) for out in (mine, true)]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_bf16_is_as_close_to_the_truth_as_torchs_kernel():
    half = states(300, 4, 2, torch.bfloat16)
    truth = reference(*(x.float() for x in half), [0, 300])
    mine = (causal_attention(*half, 0.25, [0, 300]).float() - truth).norm()
    torchs = (reference(*half, [0, 300]).float() - truth).norm()
    assert mine < 2 * torchs


def test_autocast_around_it_changes_nothing():
    inputs = states(200, 4, 2)
    with torch.autocast("cpu", torch.bfloat16):
        inside = causal_attention(*inputs, 0.25, [0, 200])
    assert torch.equal(inside, causal_attention(*inputs, 0.25, [0, 200]))
