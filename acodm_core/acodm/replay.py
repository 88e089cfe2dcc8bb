"""The replay buffer: a ring of transitions (s, a, r, s')."""

from __future__ import annotations

from typing import Any

import numpy as np

from acodm_core.acodm.interface import Transition


class Replay:
    """Holds the last ``capacity`` transitions in float32; draws with the generator it is given."""

    def __init__(self, capacity: int, *, state: int, action: int, reward: int) -> None:
        self.capacity, self.count = capacity, 0  # count: transitions ever added
        self.rows = Transition(*(np.zeros((capacity, width), np.float32) for width in (state, action, reward, state)))

    def __len__(self) -> int:
        return min(self.count, self.capacity)

    def add(self, transition: Transition) -> None:
        """Add one transition, in the place of the oldest where the buffer is full."""
        for rows, value in zip(self.rows, transition, strict=True):
            rows[self.count % self.capacity] = value
        self.count += 1

    def sample(self, size: int, rng: np.random.Generator) -> Transition:
        """``size`` transitions with replacement."""
        drawn = rng.integers(len(self), size=size)
        return Transition(*(rows[drawn] for rows in self.rows))

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "rows": [rows[: len(self)] for rows in self.rows]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = int(state["count"])
        for rows, saved in zip(self.rows, state["rows"], strict=True):
            rows[: len(self)] = saved
