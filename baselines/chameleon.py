"""CHAMELEON's proxy stage: weights from how alike the domains look to a small model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from acodm_core.mixing import Mixer, Signal, Start, StepStats, save_weights, softmax

DOMAINS = 7  # of the release's corpus, for which its temperature is


@dataclass
class Chameleon(Mixer):
    """Embeds every domain once, at the end of a uniform run; the less unique its embedding, the more a target draws of it.

    Idea:
        A domain whose embedding lies where others' do holds what all have in common; learning that helps them, too.
    Update:
        x_i the domain's embedding, X the rows x_i, O = X X^T centred in rows and columns
        S_i = [O (O + K ridge I)^-1]_ii, the kernel ridge leverage score, then S <- S / sum S
        weights.json: softmax(1 / (temperature S));    drawn uniformly
    Source:
        arXiv 2505.24844. Release at 598a6c5, compute_chameleon_weights.py: ridge = 10, temperature = 5. ``rule: paper`` leaves
        O as it is and the scores as they are, and has no temperature, that is 1.
    Differences:
        Without ``temperature`` it is 5 K / 7: scores that sum to 1 are 1 / K in the mean, so that the release's 5, made for 7
        domains, would give 22 three times the logits. Embeddings are of the validation split's last sequences, about sixteen
        batches in all; the release has 2048 random windows a domain, decodes and re-encodes them, and averages over their
        padding, too. The ridge counts in units of the embeddings, which differ from proxy to proxy: with ``normalise`` their
        mean squared norm is made 1 first. Only the weights for pre-training are here, not those for fine-tuning.
    """

    ridge: float = 10.0
    temperature: float | None = None
    rule: Literal["released", "paper"] = "released"
    normalise: bool = False

    needs = frozenset({Signal.EMBEDDING})
    cite = "xie2025chameleon"

    def __post_init__(self) -> None:
        if not (self.ridge > 0 and (self.temperature is None or self.temperature > 0)):
            raise ValueError(f"ridge and temperature must be positive, got {self.ridge} and {self.temperature}")

    def start(self, start: Start) -> None:
        k = len(start.domains)
        self._domains, self._last, self._uniform_K = start.domains, start.total_steps - 1, np.full(k, 1 / k)
        self.score_, self.weight_ = self._uniform_K.copy(), self._uniform_K.copy()

    def sampling_weights(self, step: int) -> np.ndarray:
        return self._uniform_K

    def wants(self, step: int) -> frozenset[Signal]:
        return self.needs if step == self._last else frozenset()

    def observe(self, stats: StepStats) -> None:
        if self.wants(stats.step):
            self.score_ = self._scores(stats[Signal.EMBEDDING])
            # A score of nothing, of a domain that is the others' mean, is as good as the least that counts.
            inverse_K = 1 / np.maximum(self.score_, 1e-9 * self.score_.max() or 1.0)
            self.weight_ = softmax(inverse_K / self._temperature())

    def _temperature(self) -> float:
        if self.temperature is not None:
            return self.temperature
        return 1.0 if self.rule == "paper" else 5 * len(self._domains) / DOMAINS

    def _scores(self, embedding_KH: np.ndarray) -> np.ndarray:
        """(K,) leverage scores."""
        if self.rule == "released":
            embedding_KH = embedding_KH - embedding_KH.mean(axis=0)
        kernel_KK = embedding_KH @ embedding_KH.T
        if self.normalise:
            kernel_KK = kernel_KK / (np.diag(kernel_KK).mean() or 1.0)
        k = len(kernel_KK)
        score_K = np.diag(np.linalg.solve(kernel_KK + k * self.ridge * np.eye(k), kernel_KK))
        return score_K / (score_K.sum() or 1.0) if self.rule == "released" else score_K

    def diagnostics(self) -> dict[str, float | np.ndarray]:
        least, most = float(self.score_.min()), float(self.score_.max())
        return {"least_unique": least, "most_unique": most, "scores": self.score_}

    def save(self, folder: Path) -> None:
        save_weights(folder, self._domains, self.weight_)
