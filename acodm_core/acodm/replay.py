"""The replay buffer: a ring of transitions (s, a, r, s')."""

from __future__ import annotations

from typing import Any

import numpy as np


class Replay:
    """Holds the last ``capacity`` transitions as float32 arrays; draws with the generator it is given."""

    def __init__(self, capacity: int, *, state: int, action: int, reward: int, next_state: int) -> None:
        self.capacity, self.count = capacity, 0  # count: transitions ever added
        widths = {"state": state, "action": action, "reward": reward, "next_state": next_state}
        self._columns = {name: np.zeros((capacity, width), np.float32) for name, width in widths.items()}

    def __len__(self) -> int:
        return min(self.count, self.capacity)

    def add(self, **transition: np.ndarray) -> None:
        """Add one transition: ``state``, ``action``, ``reward``, ``next_state``."""
        row = self.count % self.capacity
        for name, column in self._columns.items():
            column[row] = transition[name]
        self.count += 1

    def sample(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """``size`` transitions with replacement: states, actions, rewards, next states."""
        rows = rng.integers(len(self), size=size)
        return tuple(column[rows] for column in self._columns.values())

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count} | {name: column[: len(self)].copy() for name, column in self._columns.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = int(state["count"])
        for name, column in self._columns.items():
            column[: len(self)] = state[name]
