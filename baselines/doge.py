"""DoGE's proxy stage: weights for the domains whose gradients help all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from acodm_core.mixing import Mixer, Signal, Start, StepStats, save_weights, softmax


@dataclass
class Doge(Mixer):
    """Mirror ascent on how far each domain's gradient goes along the target's; the average weights are a target's mixture.

    Idea:
        Learn from the domain whose step lowers the loss that counts, all domains' or that of given ones.
    Update:
        g_i, and the gradient g of the objective loss, each clipped to norm 5;
        s_i = <g_i, g> / (mean_j |g_j| + 1e-6), cut to [0, 5]
        a <- a exp(lr s / mu) / sum_j a_j exp(lr s_j / mu), then (1 - c) a + c / K;    weights.json: the mean of a
        drawn uniformly; tokens of domain i weigh a_i in the loss
        ``released``: g = sum_j w_j g_j, w the objective weights: uniform w is the release's universal configuration,
        whose target is the mean loss of a domain "mix"; w on one domain is its out-of-domain one
        ``sum``:      g = K sum_j w_j g_j of clipped g_j: the sum over all domains where w is uniform, K times as strong
    Source:
        arXiv 2310.15393, Algorithm 1. Release at 88400e9, trainer.py, update_domain_weights_distributed, and config/doge.json:
        mu = 0.01, cut at 5, clipped at 5, c = 0 (mu is 0.05 in the class). ``sum`` is that function's rule for targets that are
        the training domains themselves.
    Differences:
        c = 1e-3: gradients are measured through the weighted loss and would vanish with a weight. They are those of the
        probed layers, not of all. A step's loss is weighted with a from before the step. g is made of the step's own gradients,
        where the release's "mix" has samples of its own, so a domain's sampling noise counts in its favour. A domain that a step
        misses keeps its last score (the release: its stale gradient); one never drawn has the mean of the others.
        Out-of-domain targets are drawn and weighted, too. mu and c are step sizes, and the same for runs of any length.
    """

    rule: Literal["released", "sum"] = "released"
    mu: float = 0.01
    smoothing: float = 1e-3  # c
    clip: float = 5.0  # largest norm of a domain's gradient
    cap: float = 5.0  # largest score

    needs = frozenset({Signal.GRAD_GRAM, Signal.LEARNING_RATE})
    cite = "fan2024doge"

    def __post_init__(self) -> None:
        if not (self.mu > 0 and self.clip > 0 and self.cap > 0 and 0 <= self.smoothing <= 1):
            got = f"{self.mu}, {self.clip}, {self.cap} and {self.smoothing}"
            raise ValueError(f"mu, clip and cap must be positive and smoothing lie in [0, 1], got {got}")

    def start(self, start: Start) -> None:
        k = len(start.domains)
        self._domains, self._target_K, self._uniform_K = start.domains, start.objective_weights, np.full(k, 1 / k)
        self.score_ = np.full(k, np.nan)
        self.weight_, self.average_ = self._uniform_K.copy(), self._uniform_K.copy()

    def sampling_weights(self, step: int) -> np.ndarray:
        return self._uniform_K

    def loss_weights(self, step: int) -> np.ndarray:
        return self.weight_

    def observe(self, stats: StepStats) -> None:
        score_K = self._scores(stats[Signal.GRAD_GRAM])
        self.score_ = np.where(np.isnan(score_K), self.score_, score_K)
        if np.isfinite(self.score_).any():
            score_K = np.where(np.isnan(self.score_), np.nanmean(self.score_), self.score_)
            logit_K = np.log(np.maximum(self.weight_, 1e-300))
            ascended_K = softmax(logit_K + stats[Signal.LEARNING_RATE] / self.mu * score_K)
            self.weight_ = (1 - self.smoothing) * ascended_K + self.smoothing * self._uniform_K
        self.average_ = self.average_ + (self.weight_ - self.average_) / (stats.step + 1)

    def _scores(self, gram_KK: np.ndarray) -> np.ndarray:
        """(K,) how far each domain's gradient goes along the target's; NaN for absent domains, or if the targets' are."""
        norm_K = np.sqrt(np.diag(gram_KK))
        present_K = np.isfinite(norm_K)
        objective_K = self._target_K * present_K
        if not objective_K.any():
            return np.full(len(norm_K), np.nan)
        objective_K, gram_KK = objective_K / objective_K.sum(), np.nan_to_num(gram_KK)
        shrink_K = self.clip / np.fmax(norm_K, self.clip)
        if self.rule == "sum":
            objective_K = len(norm_K) * objective_K * shrink_K
        else:
            objective_K = objective_K * self.clip / np.sqrt(max(objective_K @ gram_KK @ objective_K, self.clip**2))
        score_K = shrink_K * (gram_KK @ objective_K) / (np.nanmean(norm_K * shrink_K) + 1e-6)
        return np.where(present_K, np.clip(score_K, 0.0, self.cap), np.nan)

    def save(self, folder: Path) -> None:
        save_weights(folder, self._domains, self.average_)
