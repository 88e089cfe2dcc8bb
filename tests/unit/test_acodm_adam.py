"""The optimiser of the agents' networks, held against torch's."""

from __future__ import annotations

import copy

import pytest
import torch

from acodm_core.acodm.adam import Adam


def vectors(*sizes: int) -> list[torch.Tensor]:
    """Vectors of these sizes, with room for their gradients."""
    found = [torch.randn(size, generator=torch.Generator().manual_seed(size)) for size in sizes]
    for value in found:
        value.grad = torch.zeros_like(value)
    return found


def push(values: list[torch.Tensor], step: int) -> None:
    """The gradients of a step; their norm is above 1 in every other one."""
    for value in values:
        value.grad.copy_(
            torch.randn(len(value), generator=torch.Generator().manual_seed(step)) * (0.01, 10.0)[step % 2]
        )


@pytest.mark.parametrize("clip", [True, False])
def test_steps_are_those_of_torchs_adam(clip: bool) -> None:
    ours, theirs = vectors(40, 7), vectors(40, 7)
    optimiser, reference = Adam(ours, 0.1, clip=clip), torch.optim.Adam(theirs, lr=0.1)
    for step in range(6):
        push(ours, step)
        push(theirs, step)
        expected = torch.nn.utils.get_total_norm([value.grad for value in theirs])
        if clip:
            torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        reference.step()
        torch.testing.assert_close(optimiser.step(), expected)
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=1e-6)


def test_continues_exactly_after_a_restore() -> None:
    ours = vectors(40, 7)
    optimiser = Adam(ours, 0.1, clip=True)
    for step in range(3):
        push(ours, step)
        optimiser.step()
    other, kept = vectors(40, 7), copy.deepcopy(optimiser.state_dict())
    for mine, copied in zip(ours, other, strict=True):
        copied.copy_(mine)
    resumed = Adam(other, 0.1, clip=True)
    resumed.load_state_dict(kept)
    for step in range(3, 6):
        for values, each in ((ours, optimiser), (other, resumed)):
            push(values, step)
            each.step()
    assert all(torch.equal(mine, copied) for mine, copied in zip(ours, other, strict=True))
    assert kept["steps"].item() == 3, "what was loaded stays as it was"
