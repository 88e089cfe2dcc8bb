"""DoReMi's proxy stage: weights that a reference model finds hardest to justify."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acodm_core.mixing import Mixer, Signal, Start, StepStats, save_weights, softmax


@dataclass
class Doremi(Mixer):
    """Group DRO on the losses in excess of a reference model's; the average of its weights is what a target then draws by.

    Idea:
        Worth more is a domain on which a model of this size could still be better (the reference was), not one that is hard.
    Update:
        e_i = mean over the step's tokens of domain i of max(0, loss - loss of the reference)
        a <- (1 - c) a exp(eta e) / sum_j a_j exp(eta e_j) + c / K;    weights.json: the mean of a over all steps
        drawn uniformly; tokens of domain i weigh a_i in the loss
    Source:
        arXiv 2305.10429, Algorithm 1: eta = 1, c = 1e-3. Release at 7cde52d, trainer.py, update_domain_weights.
    Differences:
        A step's loss is weighted with a from before the step, not with the a that its own excess gives. A domain that a
        step misses keeps its last score, as in the release. One that was never drawn has the mean score of the others: the
        release's start value, ln(vocabulary) (``unseen`` gives it), hands nearly all weight, and for good, to the domains
        that a small first batch happens to miss. eta and c are step sizes, and the same for runs of any length (paper: 200,000
        steps).
    """

    step_size: float = 1.0  # eta
    smoothing: float = 1e-3  # c
    unseen: float | None = None  # nats, the score of a domain not drawn yet; None: the mean of the others

    needs = frozenset({Signal.EXCESS_LOSS})
    cite = "xie2023doremi"

    def __post_init__(self) -> None:
        if not (self.step_size >= 0 and 0 < self.smoothing <= 1):
            got = f"{self.step_size} and {self.smoothing}"
            raise ValueError(f"step_size must not be negative and smoothing must lie in (0, 1], got {got}")

    def required_inputs(self) -> tuple[str, ...]:
        return ("reference",)

    def start(self, start: Start) -> None:
        k = len(start.domains)
        self._domains, self._uniform_K = start.domains, np.full(k, 1 / k)
        self.score_ = np.full(k, np.nan if self.unseen is None else self.unseen)
        self.weight_, self.average_ = self._uniform_K.copy(), self._uniform_K.copy()

    def sampling_weights(self, step: int) -> np.ndarray:
        return self._uniform_K

    def loss_weights(self, step: int) -> np.ndarray:
        return self.weight_

    def observe(self, stats: StepStats) -> None:
        excess_K = stats[Signal.EXCESS_LOSS]
        self.score_ = np.where(np.isnan(excess_K), self.score_, excess_K)
        score_K = np.where(np.isnan(self.score_), np.nanmean(self.score_), self.score_)
        ascended_K = softmax(np.log(self.weight_) + self.step_size * score_K)
        self.weight_ = (1 - self.smoothing) * ascended_K + self.smoothing * self._uniform_K
        self.average_ = self.average_ + (self.weight_ - self.average_) / (stats.step + 1)

    def diagnostics(self) -> dict[str, float]:
        return {"mean_excess": float(np.nanmean(self.score_))} if np.isfinite(self.score_).any() else {}

    def save(self, folder: Path) -> None:
        save_weights(folder, self._domains, self.average_)
