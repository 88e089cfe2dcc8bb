"""The replay buffer of AC-ODM."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from acodm_core.acodm.interface import Transition
from acodm_core.acodm.replay import Replay


def buffer(capacity: int, added: int) -> Replay:
    replay = Replay(capacity, state=2, action=3, reward=3)
    for i in range(added):
        replay.add(transition(i))
    return replay


def transition(i: int) -> Transition:
    return Transition(np.full(2, i), np.full(3, i + 0.25), np.full(3, i + 0.5), np.full(2, i + 1))


@pytest.mark.parametrize(("capacity", "added", "kept"), [(10, 7, range(7)), (5, 13, range(8, 13))])
def test_keeps_the_last_transitions_each_together(capacity: int, added: int, kept: range) -> None:
    replay = buffer(capacity, added)
    drawn = replay.sample(500, np.random.default_rng(0))
    assert len(replay) == len(kept) and set(drawn.state[:, 0]) == set(kept), "all of them, and no empty row"
    for parts in zip(*drawn, strict=True):
        for mine, expected in zip(parts, transition(parts[0][0]), strict=True):
            np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("added", [0, 3, 5, 13])
def test_continues_after_a_restore(added: int) -> None:
    one, other = buffer(5, added), buffer(5, 0)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for i in range(added, added + 4):
        one.add(transition(i))
        other.add(transition(i))
    samples = (replay.sample(50, np.random.default_rng(1)) for replay in (one, other))
    for mine, theirs in zip(*samples, strict=True):
        np.testing.assert_array_equal(mine, theirs)
