"""The token loss against torch's own cross-entropy."""

import pytest
import torch
import torch.nn.functional as F

from acodm_core.lm import loss


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_losses_and_gradients_equal_torchs(rows, monkeypatch):
    monkeypatch.setattr(loss, "ROWS", rows)
    torch.manual_seed(0)
    logits, target, weight = torch.randn(40, 13) * 3, torch.randint(0, 13, (40,)), torch.rand(40)
    one, two = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    # The gradient is written into the logits' memory, so they must not be a leaf, as they never are in a model.
    found, expected = loss._TokenLoss.apply(one * 1.0, target), F.cross_entropy(two, target, reduction="none")
    assert torch.allclose(found, expected, atol=1e-6)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    assert torch.allclose(one.grad, two.grad, atol=1e-6)


def test_half_precision_logits_keep_a_float32_loss():
    torch.manual_seed(0)
    logits, target = torch.randn(64, 101).bfloat16(), torch.randint(0, 101, (64,))
    found = loss._TokenLoss.apply(logits.clone(), target)
    assert found.dtype == torch.float32
    assert torch.allclose(found, F.cross_entropy(logits.float(), target, reduction="none"), atol=1e-5)


def test_a_second_backward_pass_fails_instead_of_reading_what_was_overwritten():
    logits = torch.randn(8, 5, requires_grad=True)
    total = loss._TokenLoss.apply(logits * 1.0, torch.zeros(8, dtype=torch.int64)).sum()
    total.backward(retain_graph=True)
    with pytest.raises((AttributeError, RuntimeError)):
        total.backward()


def test_huge_logits_stay_finite():
    logits = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    found = loss._TokenLoss.apply(logits * 1.0, torch.tensor([1]))
    found.sum().backward()
    assert torch.isfinite(found).all() and torch.isfinite(logits.grad).all()
