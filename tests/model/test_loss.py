"""The chunked loss: torch's own cross-entropy on full logits, without the logits."""

import pytest
import torch
import torch.nn.functional as F

from llama_train.model.loss import LMHead


def reference(hidden, weight, labels):
    return F.cross_entropy((hidden @ weight.T).float(), labels, ignore_index=-100, reduction="sum")


@pytest.fixture
def case():
    """A head, hidden states and labels, a third of which do not count; 1500 tokens are several chunks."""
    torch.manual_seed(0)
    head = LMHead(32, 40000)
    hidden = torch.randn(1500, 32, requires_grad=True)
    labels = torch.randint(0, 40000, (1500,))
    labels[::3] = -100
    return head, hidden, labels


def test_loss_and_gradients_equal_cross_entropy(case):
    head, hidden, labels = case
    mine, true = head(hidden, labels), reference(hidden, head.weight, labels)
    torch.testing.assert_close(mine, true, rtol=1e-6, atol=0)
    for a, b in zip(*(torch.autograd.grad(2 * x, (hidden, head.weight)) for x in (mine, true)), strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_a_label_one_token_off_is_seen(case):
    head, hidden, labels = case
    assert abs(head(hidden, labels.roll(1)) - reference(hidden, head.weight, labels)) > 1


def test_no_logits_are_ever_built_whole(case):
    head, hidden, labels = case
    biggest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal biggest
            out = func(*args, **(kwargs or {}))
            biggest = max(biggest, out.numel() if isinstance(out, torch.Tensor) else 0)
            return out

    with Watch():
        head(hidden, labels).backward()
    assert biggest < 1500 * 40000 / 1.5  # a chunk of the 1000 counted tokens, or the weight


def test_under_autocast_the_loss_is_fp32_and_close(case):
    head, hidden, labels = case
    with torch.autocast("cpu", torch.bfloat16):
        loss = head(hidden, labels)
    grads = torch.autograd.grad(loss, (hidden, head.weight))
    true = reference(hidden, head.weight, labels)
    assert loss.dtype == torch.float32
    assert abs(loss - true) < 1e-4 * true
    for a, b in zip(grads, torch.autograd.grad(true, (hidden, head.weight)), strict=True):
        assert a.dtype == torch.float32 and (a - b).norm() < 1e-2 * b.norm()


def test_a_frozen_head_gets_no_gradient_and_the_hidden_states_theirs(case):
    head, hidden, labels = case
    head.weight.requires_grad_(False)
    head(hidden, labels).backward()
    assert head.weight.grad is None and hidden.grad.abs().sum() > 0


def test_without_gradients_the_loss_is_the_same(case):
    head, hidden, labels = case
    with torch.no_grad():
        loss = head(hidden, labels)
    assert not loss.requires_grad and torch.equal(loss, head(hidden, labels).detach())


def test_no_counted_label_gives_zero(case):
    head, hidden, labels = case
    loss = head(hidden, torch.full_like(labels, -100))
    loss.backward()
    assert loss == 0 and hidden.grad.abs().sum() == 0


def test_a_second_backward_says_what_to_do(case):
    head, hidden, labels = case
    loss = head(hidden, labels)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="run the forward again"):
        loss.backward()
