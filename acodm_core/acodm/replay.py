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
    """Holds the last ``capacity`` transitions as float32 arrays; draws with the generator it is given."""

    def __init__(self, capacity: int, *, state: int, action: int, reward: int) -> None:
        self.capacity, self.count = capacity, 0  # count: transitions ever added
        widths = Transition(state, action, reward, state)._asdict()
        self._columns = {name: np.zeros((capacity, width), np.float32) for name, width in widths.items()}

    def __len__(self) -> int:
        return min(self.count, self.capacity)

    def add(self, transition: Transition) -> None:
        """Add one transition, in the place of the oldest where the buffer is full."""
        for column, value in zip(self._columns.values(), transition, strict=True):
            column[self.count % self.capacity] = value
        self.count += 1

    def sample(self, size: int, rng: np.random.Generator) -> Transition:
        """``size`` transitions with replacement."""
        rows = rng.integers(len(self), size=size)
        return Transition(*(column[rows] for column in self._columns.values()))

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count} | {name: column[: len(self)].copy() for name, column in self._columns.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = int(state["count"])
        for name, column in self._columns.items():
            column[: len(self)] = state[name]
