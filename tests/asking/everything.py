"""A mixer that asks for every signal and records all that it is shown."""

from dataclasses import dataclass

import numpy as np

from acodm_core.mixing import Adapters, Mixer, Signal, Start, StepStats

FEW = {Signal.ADAPTER_LOSS, Signal.EMBEDDING}  # the slow ones, asked for once


@dataclass
class Everything(Mixer):
    """Draw a mixture that turns with the step, weigh domains unequally, ask for all signals.

    Idea:
        The trainer measures for it all that it can measure.
    Update:
        p_i ~ 2 + sin(i + t).
    Source:
        Ours.
    Differences:
        None.
    """

    needs = frozenset(Signal)
    weigh: bool = True

    def required_inputs(self) -> tuple[str, ...]:
        return ("reference",)

    def start(self, start: Start) -> None:
        self.k_, self.seen_ = len(start.domains), {}

    def adapters(self) -> Adapters:
        return Adapters(np.eye(self.k_), np.full((2, self.k_), 1 / self.k_), steps=2, rank=2)

    def wants(self, step: int) -> frozenset[Signal]:
        return self.needs if step == 3 else self.needs - FEW

    def sampling_weights(self, step: int) -> np.ndarray:
        mixture_K = 2 + np.sin(np.arange(self.k_) + step)
        return mixture_K / mixture_K.sum()

    def loss_weights(self, step: int) -> np.ndarray | None:
        return 1 + np.arange(self.k_) / self.k_ if self.weigh else None

    def observe(self, stats: StepStats) -> None:
        self.seen_ = {f"seen_{name}": summary(value) for name, value in stats.items()}

    def diagnostics(self) -> dict[str, float]:
        return self.seen_


def summary(array: np.ndarray) -> float:
    """One number that depends on every entry's size and place, and does not cancel; absent entries add nothing."""
    flat = np.abs(np.asarray(array, dtype=np.float64).ravel())
    return float(np.nansum(flat * (1 + np.arange(len(flat)) / len(flat))))
