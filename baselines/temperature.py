"""Between natural and uniform."""

from dataclasses import dataclass

import numpy as np

from acodm_core.mixing import Mixer, Start, simplex


@dataclass
class Temperature(Mixer):
    """Draw every domain in proportion to a power of its size.

    Idea:
        Small domains get more than their size gives them, large ones still more than small ones.
    Update:
        p_i = n_i^tau / sum_j n_j^tau, fixed; tau = 1 is natural, tau = 0 uniform.
    Source:
        Multilingual BERT (tau = 0.7) and mT5 (arXiv 2010.11934, tau = 0.3).
    Differences:
        Some papers write the exponent as 1 / T; tau = 1 / T. The default 0.5 is ours.
    """

    tau: float = 0.5

    cite = "xue2021mt5"

    def __post_init__(self) -> None:
        if not 0 <= self.tau <= 1:
            raise ValueError(f"tau must lie in [0, 1], got {self.tau}")

    def start(self, start: Start) -> None:
        self.mixture_ = simplex(start.prior**self.tau)

    def sampling_weights(self, step: int) -> np.ndarray:
        return self.mixture_
