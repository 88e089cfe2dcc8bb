"""The replay buffer: a ring of transitions (s, a, r, s')."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Transition(NamedTuple):
    """What one decision led to."""

    state: np.ndarray  # (S,) before the decision
    action: np.ndarray  # (K,) the mixture that was drawn by
    reward: np.ndarray  # (K,), or (1,) where the critic values the whole mixture
    next_state: np.ndarray  # (S,) after it


class Minibatch(NamedTuple):
    """Transitions as critics are asked about them: a state and, beside it, a mixture."""

    inputs: np.ndarray  # (2, B, S + K): before the decision, with what was drawn by; after it, with room for a mixture
    reward: np.ndarray  # (B, K) or (B, 1)


class Replay:
    """Holds the last ``capacity`` transitions in float32; draws with the generator it is given."""

    def __init__(self, capacity: int, *, state: int, action: int, reward: int) -> None:
        self.capacity, self.count = capacity, 0  # count: transitions ever added
        # One table, in the order of a minibatch: a single gather makes it. Room for a mixture follows the last column.
        columns = {"reward": reward, "state": state, "action": action, "next_state": state}
        ends = np.cumsum([0, *columns.values()])
        self._rows = np.zeros((capacity, ends[-1] + action), np.float32)
        self._columns = {name: slice(*ends[i : i + 2]) for i, name in enumerate(columns)}
        self._width, self._end = state + action, ends[-1]

    def __len__(self) -> int:
        return min(self.count, self.capacity)

    def add(self, transition: Transition) -> None:
        """Add one transition, in the place of the oldest where the buffer is full."""
        state, action, reward, next_state = transition
        self._rows[self.count % self.capacity, : self._end] = np.concatenate([reward, state, action, next_state])
        self.count += 1

    def sample(self, size: int, rng: np.random.Generator) -> Minibatch:
        """``size`` transitions with replacement."""
        which = rng.uniform(0, len(self), size).astype(np.intp)  # `integers` takes three times as long
        rows = self._rows.take(which, 0)
        inputs = rows[:, -2 * self._width :].reshape(size, 2, self._width)
        return Minibatch(inputs.swapaxes(0, 1), rows[:, self._columns["reward"]])

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count} | {
            name: self._rows[: len(self), self._columns[name]].copy() for name in Transition._fields
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = int(state["count"])
        for name in Transition._fields:
            self._rows[: len(self), self._columns[name]] = state[name]
