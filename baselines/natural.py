"""Every domain by its size."""

from dataclasses import dataclass

import numpy as np

from acodm_core.mixing import Mixer, Start


@dataclass
class Natural(Mixer):
    """Draw every domain in proportion to its training tokens.

    Idea:
        Shuffle the concatenated corpus: what happens without a mixer.
    Update:
        p_i = n_i / sum_j n_j, n the domain's training tokens under the experiment's tokenizer; fixed.
    Source:
        Folklore; the baseline weights of DoReMi (arXiv 2305.10429) and ADO (arXiv 2410.11820).
    Differences:
        The Pile's published weights count bytes after up-sampling; these are tokens, counted on the corpus at hand.
    """

    cite = "folklore"

    def start(self, start: Start) -> None:
        self.mixture_ = start.prior.copy()

    def sampling_weights(self, step: int) -> np.ndarray:
        return self.mixture_
