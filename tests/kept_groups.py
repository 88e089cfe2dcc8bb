"""A mixer that keeps what it was shown, started behind two groups of three domains."""

from __future__ import annotations

import numpy as np

from acodm_core.mixers.grouped import Grouped
from acodm_core.mixing import Adapters, Mixer, Signal, Start, StepStats


class Keeper(Mixer):
    """``seen`` is the last step that it was shown."""

    def __init__(self, *needs: Signal) -> None:
        self.needs = frozenset(needs)

    def start(self, start: Start) -> None:
        pass

    def sampling_weights(self, step: int) -> np.ndarray:
        return np.full(2, 0.5)

    def adapters(self) -> Adapters:
        return Adapters(np.array([[0.9, 0.1], [0.0, 1.0]]), np.eye(2), 3)

    def observe(self, stats: StepStats) -> None:
        self.seen = stats


def behind_groups(*needs: Signal) -> tuple[Keeper, Grouped]:
    """A Keeper, and the mixer that shows it left = (a, b) and right = (c): 100, 300 and 600 tokens."""
    inner = Keeper(*needs)
    mixer = Grouped(inner, {"left": ("a", "b"), "right": ("c",)})
    tokens_K = np.array([100.0, 300.0, 600.0])
    mixer.start(
        Start(
            domains=("a", "b", "c"),
            prior=tokens_K / 1000,
            tokens_available=tokens_K,
            total_steps=10,
            rng=np.random.default_rng(0),
        )
    )
    return inner, mixer
