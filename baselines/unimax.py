"""Uniform, but no domain more often than a few times."""

from dataclasses import dataclass

import numpy as np

from acodm_core.mixing import Mixer, Start, simplex


@dataclass
class UniMax(Mixer):
    """Draw every domain equally often, up to a number of epochs.

    Idea:
        Uniform repeats small domains until they are learnt by heart. Cap their repeats and share out what that frees.
    Update:
        With B tokens left of the run's, from the smallest domain to the largest of the m that remain:
        u_i = min(epochs * n_i, B / m), B <- B - u_i;  p = u / sum u, fixed.
    Source:
        arXiv 2304.09151, Algorithm 1.
    Differences:
        The paper counts characters of languages, this tokens of domains. The default of four epochs is ours: as many cost little
        against new text in arXiv 2305.16264. A budget beyond all caps gives natural shares and more epochs than ``epochs``.
    """

    epochs: float = 4.0  # at most so many of each domain in the whole run

    cite = "chung2023unimax"

    def __post_init__(self) -> None:
        if not self.epochs > 0:
            raise ValueError(f"epochs must be positive, got {self.epochs}")

    def start(self, start: Start) -> None:
        left = start.total_steps * start.tokens_per_step
        if not left > 0:
            raise ValueError("UniMax shares out the tokens of the run: Start.tokens_per_step is missing")
        cap_K = self.epochs * start.tokens_available
        tokens_K = np.zeros(len(cap_K))
        for rank, k in enumerate(np.argsort(cap_K)):
            tokens_K[k] = min(cap_K[k], left / (len(cap_K) - rank))
            left -= tokens_K[k]
        self.mixture_ = simplex(tokens_K)

    def sampling_weights(self, step: int) -> np.ndarray:
        return self.mixture_
