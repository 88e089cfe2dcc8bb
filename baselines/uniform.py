"""Every domain alike."""

from dataclasses import dataclass

import numpy as np

from acodm_core.mixing import Mixer, Start


@dataclass
class Uniform(Mixer):
    """Draw every domain equally often.

    Idea:
        Spend the same number of tokens on every domain, whatever its size.
    Update:
        p_i = 1 / K, fixed.
    Source:
        Folklore; called "stratified" in Aioli (arXiv 2411.05735), whose finding is that no earlier method beats it throughout.
    Differences:
        None. With the systematic draw every domain's count in a step is within one of batch / K.
    """

    cite = "folklore"

    def start(self, start: Start) -> None:
        self.mixture_ = np.full(len(start.domains), 1 / len(start.domains))

    def sampling_weights(self, step: int) -> np.ndarray:
        return self.mixture_
