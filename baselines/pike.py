"""PiKE: more of the domains with slope, less of those whose gradients are noise."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from acodm_core.mixing import Mixer, Signal, Start, StepStats, softmax


@dataclass
class Pike(Mixer):
    """Weigh domains by the squared norms of their gradients against their noise; inner products are never looked at.

    Idea:
        Where domains' gradients seldom conflict, the loss falls by each one's squared gradient, less what its noise costs.
    Update:
        With g the domain's gradient, sigma^2 its variance and b the batch, every ``every`` of the run
        ``practical``:  w_i <- N(w_i exp(slope |g_i|^2 - noise sigma_i^2)), both statistics over their mean over domains
        ``conceptual``: w = argmin over the simplex of sum_i w_i lambda_i + w_i^2 kappa_i / 2,
                        lambda_i = -|g_i|^2 + step_size sigma_i^2 / (2 b), kappa_i = step_size |g_i|^2
        With ``balance`` tau (Balanced-PiKE), on y_i L_i, y = softmax(tau L): |g_i|^2 and sigma_i^2 times y_i^2, losses times y_i.
    Source:
        arXiv 2502.06244; the practical and the conceptual algorithm, without conflict or alignment (beta = gamma = 1).
        No public code.
    Differences:
        zeta_1, zeta_2, their scale and the interval are in an appendix that we lack: ``slope`` is zeta_1, ``noise`` zeta_2 / 2b,
        ``step_size`` eta L, and the values, the division by means, the memory and the uniform part are ours. So is the bookkeeping
        of Balanced-PiKE. Statistics come from the probed layers and the steps at which weights change; a domain of under two
        sequences there keeps its last. Domains are drawn by w, not rounded to whole sequences.
    """

    rule: Literal["practical", "conceptual"] = "practical"
    slope: float = 0.1
    noise: float = 0.05
    step_size: float = 1.0
    balance: float = 0.0  # tau; 0 is PiKE, 3 the best of Balanced-PiKE in the paper
    every: float = 0.01  # share of the steps between updates
    memory: float = 0.9  # of the statistics, an update
    uniform_fraction: float = 0.2  # part of the mixture spread evenly

    needs = frozenset({Signal.GRAD_SELF, Signal.GRAD_NOISE, Signal.LOSS})
    cite = "li2025pike"

    def __post_init__(self) -> None:
        if not (0 <= self.uniform_fraction < 1 and 0 <= self.memory < 1 and 0 < self.every <= 1):
            got = f"{self.uniform_fraction}, {self.memory} and {self.every}"
            raise ValueError(f"uniform_fraction and memory must lie in [0, 1), every in (0, 1], got {got}")
        if not (self.slope >= 0 and self.noise >= 0 and self.balance >= 0 and self.step_size > 0):
            got = f"{self.slope}, {self.noise}, {self.balance} and {self.step_size}"
            raise ValueError(f"slope, noise and balance must not be negative and step_size positive, got {got}")

    def start(self, start: Start) -> None:
        k = len(start.domains)
        if self.rule == "conceptual" and not start.tokens_per_step > 0:
            raise ValueError("the conceptual rule weighs noise by the batch: Start.tokens_per_step is missing")
        self.every_, self.batch_ = max(1, round(self.every * start.total_steps)), start.tokens_per_step
        self.seen_ = np.full((3, k), np.nan)  # squared gradient, noise, loss: averages over updates
        self.logits_ = np.zeros(k)
        self.dual_ = np.ones(k)  # y
        self.mixture_ = np.full(k, 1 / k)

    def sampling_weights(self, step: int) -> np.ndarray:
        return self.mixture_

    def wants(self, step: int) -> frozenset[Signal]:
        return self.needs if (step + 1) % self.every_ == 0 else frozenset()

    def loss_weights(self, step: int) -> np.ndarray | None:
        return self.dual_ if self.balance else None

    def observe(self, stats: StepStats) -> None:
        if not self.wants(stats.step):
            return
        new = np.array([stats[signal] for signal in (Signal.GRAD_SELF, Signal.GRAD_NOISE, Signal.LOSS)])
        kept = np.where(np.isnan(self.seen_), new, self.memory * self.seen_ + (1 - self.memory) * new)
        self.seen_ = np.where(np.isnan(new), self.seen_, kept)
        known = np.isfinite(self.seen_).any(axis=1, keepdims=True)
        if not known.all():
            return
        seen = np.where(np.isnan(self.seen_), np.nanmean(self.seen_, axis=1, keepdims=True), self.seen_)
        square_K, noise_K, loss_K = np.maximum(seen, 0.0)  # a squared norm without its noise may come out negative
        if self.balance:
            self.dual_ = softmax(self.balance * loss_K)
            square_K, noise_K = square_K * self.dual_**2, noise_K * self.dual_**2
        if not square_K.any():
            return
        follow = self._practical if self.rule == "practical" else self._conceptual
        weights_K = follow(square_K, noise_K)
        self.mixture_ = (1 - self.uniform_fraction) * weights_K + self.uniform_fraction / len(weights_K)

    def _practical(self, square_K: np.ndarray, noise_K: np.ndarray) -> np.ndarray:
        gain_K = self.slope * square_K / square_K.mean() - self.noise * noise_K / (noise_K.mean() or 1.0)
        self.logits_ = self.logits_ + gain_K - (self.logits_ + gain_K).max()
        return softmax(self.logits_)

    def _conceptual(self, square_K: np.ndarray, noise_K: np.ndarray) -> np.ndarray:
        square_K, noise_K = np.maximum(square_K / square_K.max(), 1e-9), noise_K / square_K.max() / self.batch_
        return minimise(self.step_size * noise_K / 2 - square_K, self.step_size * square_K)


def minimise(lambda_K: np.ndarray, kappa_K: np.ndarray) -> np.ndarray:
    """(K,) argmin over the simplex of lambda . w + kappa . w^2 / 2, kappa > 0: w_i = max(0, level - lambda_i) / kappa_i."""
    order = np.argsort(lambda_K)
    inverse_K = 1 / kappa_K[order]
    # The level at which the first 1, 2, ... would fill up to one: too high as long as one that belongs is left out, too high
    # again once one that does not is counted in.
    level_K = (1 + np.cumsum(lambda_K[order] * inverse_K)) / np.cumsum(inverse_K)
    weights_K = np.maximum(level_K.min() - lambda_K, 0.0) / kappa_K
    return weights_K / weights_K.sum()
