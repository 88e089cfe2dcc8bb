"""Draw every domain by its objective weight."""

from dataclasses import dataclass

import numpy as np

from acodm_core.mixing import Mixer, Start


@dataclass
class Objective(Mixer):
    """Draw every domain by its weight in the objective loss.

    Idea:
        Train on what you are tested on: what anyone who knows the test would do without a mixer.
    Update:
        p = w, the experiment's ``evaluation.objective_weights``; fixed. The same as ``uniform`` where all domains count alike.
    Source:
        Folklore; the row that says how much of a method's gain is due to knowing the objective weights.
    Differences:
        None. A domain that does not count is never drawn; AC-ODM's anchor, made of the same weights, spreads a tenth evenly.
    """

    cite = "folklore"

    def start(self, start: Start) -> None:
        self.mixture_ = start.objective_weights.copy()

    def sampling_weights(self, step: int) -> np.ndarray:
        return self.mixture_
