"""A mixer that learns nothing and asks for everything that a drop-in measures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from acodm_core.mixing import Mixer, Signal, Start

NEEDS = frozenset(signal for signal in Signal if signal.info.source.in_any_loop)


@dataclass
class Asking(Mixer):
    """Asks for everything that is measured here, and weighs the domains' losses."""

    needs = NEEDS

    def start(self, start: Start) -> None:
        self.started = start

    def sampling_weights(self, step: int) -> np.ndarray:
        return np.array([1 / 3, 1 / 3, 1 / 3])

    def loss_weights(self, step: int) -> np.ndarray:
        return np.array([0.5, 1.0, 2.0])
