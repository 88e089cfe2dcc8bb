"""The replay buffer: a ring of transitions (s, a, r, s')."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Transition(NamedTuple):
    """What one decision led to; in a minibatch each entry has one row more in front."""

    state: np.ndarray  # (S,) before the decision
    action: np.ndarray  # (K,) the mixture that was drawn by
    reward: np.ndarray  # (K,), or (1,) where the critic values the whole mixture
    next_state: np.ndarray  # (S,) after it


class Replay:
    """Holds the last ``capacity`` transitions in float32; draws with the generator it is given."""

    def __init__(self, capacity: int, *, state: int, action: int, reward: int) -> None:
        self.capacity, self.count = capacity, 0  # count: transitions ever added
        widths = Transition(state, action, reward, state)._asdict()
        ends = np.cumsum([0, *widths.values()])
        self._rows = np.zeros((capacity, ends[-1]), np.float32)  # one table: a minibatch is gathered at once
        self._columns = {name: slice(*ends[i : i + 2]) for i, name in enumerate(widths)}

    def __len__(self) -> int:
        return min(self.count, self.capacity)

    def add(self, transition: Transition) -> None:
        """Add one transition, in the place of the oldest where the buffer is full."""
        row = self._rows[self.count % self.capacity]
        for column, value in zip(self._columns.values(), transition, strict=True):
            row[column] = value
        self.count += 1

    def sample(self, size: int, rng: np.random.Generator) -> Transition:
        """``size`` transitions with replacement."""
        rows = self._rows[rng.integers(len(self), size=size)]
        return Transition(*(rows[:, column] for column in self._columns.values()))

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count} | {
            name: self._rows[: len(self), column].copy() for name, column in self._columns.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = int(state["count"])
        for name, column in self._columns.items():
            self._rows[: len(self), column] = state[name]
