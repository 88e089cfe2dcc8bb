"""The per-domain split of the backward pass against one autograd pass a domain."""

import numpy as np
import pytest
import torch
from tiny_model import SHAPES, batch, separate_gram, train_step

from acodm_core.data.sampler import Batch
from acodm_core.lm.kernels.fused_loss import token_losses
from acodm_core.mixing import Signal


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("micro_batch", [8, 4, 2])
def test_the_gram_equals_the_one_from_separate_backward_passes(kind, micro_batch):
    mine = train_step(kind, micro_batch=micro_batch)
    expected = separate_gram(mine.model, SHAPES[kind][1], batch())
    found = mine.step(batch(), 0, {Signal.GRAD_GRAM}).signals[Signal.GRAD_GRAM]
    assert np.isnan(found[1]).all() and np.isnan(found[:, 1]).all()
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    present = np.isfinite(expected)
    assert np.abs((found - expected) / scale)[present].max() < 1e-5


@pytest.mark.parametrize("kind", SHAPES)
def test_measuring_the_gram_changes_no_weight_beyond_rounding(kind):
    plain, probed = train_step(kind, needs=frozenset()), train_step(kind)
    for step in range(3):
        plain.step(batch(seed=step), step, frozenset())
        probed.step(batch(seed=step), step, {Signal.GRAD_GRAM})
    for a, b in zip(plain.model.parameters(), probed.model.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=3e-5)


def test_a_probed_layer_that_is_not_armed_computes_exactly_the_plain_step():
    plain, probed = train_step("gpt_neox", needs=frozenset()), train_step("gpt_neox")
    for step in range(3):
        plain.step(batch(seed=step), step, frozenset())
        probed.step(batch(seed=step), step, frozenset())
    for a, b in zip(plain.model.parameters(), probed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_loss_weights_scale_each_domain_back_to_the_gradient_of_its_own_mean_loss():
    """Weighing a domain's loss changes the update, not what its own gradient is."""
    expected = separate_gram(train_step("gpt_neox").model, SHAPES["gpt_neox"][1], batch())
    omega = np.array([0.5, 1.0, 2.0, 0.1])
    found = train_step("gpt_neox").step(batch(), 0, {Signal.GRAD_GRAM}, omega).signals[Signal.GRAD_GRAM]
    present = np.isfinite(expected)
    assert np.allclose(found[present], expected[present], rtol=1e-4, atol=1e-7)


def test_permuting_domains_permutes_the_gram():
    order = [2, 0, 3, 1]
    drawn = batch((3, 1, 3, 1))
    rows = np.split(drawn.tokens_BS, np.cumsum(drawn.counts_K)[:-1])
    moved = Batch(np.concatenate([rows[k] for k in order]), drawn.counts_K[order])
    one = train_step("gpt_neox").step(drawn, 0, {Signal.GRAD_GRAM}).signals[Signal.GRAD_GRAM]
    two = train_step("gpt_neox").step(moved, 0, {Signal.GRAD_GRAM}).signals[Signal.GRAD_GRAM]
    assert np.allclose(one[np.ix_(order, order)], two, rtol=1e-4, atol=1e-8)


def test_half_precision_gram_is_close_to_the_exact_one():
    exact = separate_gram(train_step("gpt_neox").model, SHAPES["gpt_neox"][1], batch())
    found = train_step("gpt_neox", precision="bfloat16").step(batch(), 0, {Signal.GRAD_GRAM}).signals[Signal.GRAD_GRAM]
    present = np.isfinite(exact)
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    assert np.abs((found - exact) / scale)[present].max() < 0.03


def test_gradient_accumulation_gives_the_same_update_and_losses():
    whole, split = train_step("gpt_neox", needs=frozenset()), train_step("gpt_neox", needs=frozenset(), micro_batch=2)
    one = whole.step(batch(), 0, frozenset())
    two = split.step(batch(), 0, frozenset())
    assert np.allclose(one.signals[Signal.LOSS], two.signals[Signal.LOSS], equal_nan=True, rtol=1e-6)
    assert one.grad_norm == pytest.approx(two.grad_norm, rel=1e-5)


def test_losses_are_means_over_each_domains_tokens_and_absent_domains_are_nan():
    mine = train_step("gpt_neox", needs=frozenset())
    drawn = batch()
    losses = token_losses(mine.model, torch.from_numpy(drawn.tokens_BS)).numpy()
    found = mine.step(drawn, 0, frozenset()).signals[Signal.LOSS]
    assert np.allclose(found[[0, 2, 3]], [losses[:3].mean(), losses[3:7].mean(), losses[7:].mean()], rtol=1e-5)
    assert np.isnan(found[1])
