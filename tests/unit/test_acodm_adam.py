"""The optimiser of the agents' networks, held against torch's."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from acodm_core.acodm.adam import Adam, clip

SIZES = (40, 7)


def gradients(step: int) -> list[np.ndarray]:
    """The gradients of a step; their norm is above 1 in every other one."""
    rng = np.random.default_rng(step)
    return [(rng.normal(size=size) * (0.01, 10.0)[step % 2]).astype(np.float32) for size in SIZES]


def start() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Values and room for their gradients."""
    values = [np.random.default_rng(size).normal(size=size).astype(np.float32) for size in SIZES]
    return values, [np.zeros_like(value) for value in values]


def push(optimiser: Adam, step: int) -> None:
    for grad, fresh in zip(optimiser.grads, gradients(step), strict=True):
        grad[:] = fresh
    optimiser.step()


def test_steps_are_those_of_torchs_adam() -> None:
    values, grads = start()
    theirs = [torch.from_numpy(value.copy()) for value in values]
    optimiser, reference = Adam(values, grads, 0.1), torch.optim.Adam(theirs, lr=0.1)
    for step in range(6):
        push(optimiser, step)
        for other, fresh in zip(theirs, gradients(step), strict=True):
            other.grad = torch.from_numpy(fresh)
        reference.step()
        for mine, other in zip(values, theirs, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("step", [0, 1])
def test_clipping_is_torchs(step: int) -> None:
    ours, _ = gradients(step)
    theirs = torch.zeros(len(ours), requires_grad=True)
    theirs.grad = torch.from_numpy(ours.copy())
    assert clip(ours) == pytest.approx(torch.nn.utils.clip_grad_norm_([theirs], 1.0).item())
    np.testing.assert_allclose(ours, theirs.grad, rtol=1e-5)
    assert (np.linalg.norm(ours) < 0.9) == (step == 0)


def test_continues_exactly_after_a_restore() -> None:
    optimiser = Adam(*start(), 0.1)
    for step in range(3):
        push(optimiser, step)
    kept, values = optimiser.state_dict(), [value.copy() for value in optimiser.values]
    untouched = copy.deepcopy(kept)
    resumed = Adam(values, start()[1], 0.1)
    resumed.load_state_dict(kept)
    for step in range(3, 6):
        push(optimiser, step)
        push(resumed, step)
    assert all(map(np.array_equal, optimiser.values, resumed.values))
    assert all(map(np.array_equal, kept["means"], untouched["means"])), "what was taken or loaded stays as it was"
    assert kept["steps"] == [3, 3]
