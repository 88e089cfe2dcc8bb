"""The replay buffer of AC-ODM."""

from __future__ import annotations

import numpy as np
import pytest

from acodm_core.acodm.replay import Replay, Transition


def buffer(capacity: int) -> Replay:
    return Replay(capacity, state=2, action=3, reward=3)


def transition(i: int) -> Transition:
    return Transition(np.full(2, i), np.full(3, i + 0.25), np.full(3, i + 0.5), np.full(2, i + 1))


def sample(replay: Replay, size: int) -> tuple[np.ndarray, ...]:
    """States, actions, rewards and next states, after a look at the room beside the last."""
    (before, after), rewards = replay.sample(size, np.random.default_rng(0))
    assert before.shape == after.shape == (size, 5) and not after[:, 2:].any()
    return before[:, :2], before[:, 2:], rewards, after[:, :2]


def test_replay_keeps_transitions_together() -> None:
    replay = buffer(10)
    for i in range(7):
        replay.add(transition(i))
    states, actions, rewards, following = sample(replay, 500)
    assert set(states[:, 0]) == set(range(7)), "all of them, and no empty row"
    for row in range(500):
        i = states[row, 0]
        assert (actions[row] == i + 0.25).all() and (rewards[row] == i + 0.5).all() and (following[row] == i + 1).all()


def test_replay_wraps_around() -> None:
    replay = buffer(5)
    for i in range(13):
        replay.add(transition(i))
    assert len(replay) == 5
    states, actions, _, _ = sample(replay, 300)
    assert set(states[:, 0]) == {8, 9, 10, 11, 12}
    np.testing.assert_array_equal(actions[:, 0], states[:, 0] + 0.25)


def test_room_is_the_minibatchs_own() -> None:
    replay = buffer(5)
    replay.add(transition(1))
    replay.sample(3, np.random.default_rng(0)).inputs[...] = 7.0
    sample(replay, 3)


@pytest.mark.parametrize("added", [0, 3, 5, 13])
def test_replay_continues_after_a_restore(added: int) -> None:
    one, other = buffer(5), buffer(5)
    for i in range(added):
        one.add(transition(i))
    other.load_state_dict(one.state_dict())
    for i in range(added, added + 4):
        one.add(transition(i))
        other.add(transition(i))
    for mine, theirs in zip(
        one.sample(50, np.random.default_rng(1)), other.sample(50, np.random.default_rng(1)), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
