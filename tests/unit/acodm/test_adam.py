"""The optimiser of the agents' networks, held against torch's."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from acodm_core.acodm.adam import PIECE, Adam, clip, pieces

SHAPE = (2, 20)


def gradient(step: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """The gradient of a step; its norm is above 1 in every other one."""
    return (np.random.default_rng(step).normal(size=shape) * (0.01, 10.0)[step % 2]).astype(np.float32)


def values(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [SHAPE, (1, 2 * PIECE + 5)])
def test_steps_are_those_of_torchs_adam(shape: tuple[int, ...]) -> None:
    mine, optimiser = values(shape), Adam(shape, 0.1)
    theirs = torch.from_numpy(mine.copy())
    reference = torch.optim.Adam([theirs], lr=0.1)
    for step in range(6):
        optimiser.step(mine, gradient(step, shape))
        theirs.grad = torch.from_numpy(gradient(step, shape))
        reference.step()
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_a_single_number_goes_as_an_array_of_one_goes() -> None:
    value, array, alone, together = 0.5, np.array([0.5], np.float32), Adam((), 0.1), Adam((1,), 0.1)
    for step in range(6):
        slope = gradient(step, (1,))
        value = alone.moved(value, float(slope[0]))
        together.step(array, slope)
        assert value == pytest.approx(array[0], rel=1e-5)
        kept, alone = alone.state_dict(), Adam((), 0.1)
        alone.load_state_dict(kept)
    assert abs(value - 0.5) > 0.1


def test_pieces_are_views_of_all_there_is() -> None:
    one, other = np.zeros((2, PIECE)), np.ones((1, 2 * PIECE))
    for mine, theirs in pieces(one, other):
        assert mine.size == theirs.size <= PIECE
        mine += theirs
    assert (one == 1).all()


@pytest.mark.parametrize("step", [0, 1])
def test_clipping_is_torchs(step: int) -> None:
    ours = gradient(step)
    theirs = torch.zeros(SHAPE, requires_grad=True)
    theirs.grad = torch.from_numpy(ours.copy())
    assert clip(ours) == pytest.approx(torch.nn.utils.clip_grad_norm_([theirs], 1.0).item())
    np.testing.assert_allclose(ours, theirs.grad, rtol=1e-5)
    assert (np.linalg.norm(ours) < 0.9) == (step == 0)


def test_continues_exactly_after_a_restore() -> None:
    optimiser, one = Adam(SHAPE, 0.1), values()
    for step in range(3):
        optimiser.step(one, gradient(step))
    kept, other = optimiser.state_dict(), one.copy()
    untouched = copy.deepcopy(kept)
    resumed = Adam(SHAPE, 0.1)
    resumed.load_state_dict(kept)
    for step in range(3, 6):
        optimiser.step(one, gradient(step))
        resumed.step(other, gradient(step))
    assert np.array_equal(one, other)
    assert kept["steps"] == 3 and all(np.array_equal(kept[name], untouched[name]) for name in ("sum", "squares"))
