"""Draw every domain as much as it counts in the comparison."""

from dataclasses import dataclass

import numpy as np

from acodm_core.mixing import Mixer, Start


@dataclass
class Target(Mixer):
    """Draw every domain by its weight in the loss that methods are compared by.

    Idea:
        Train on what you are tested on: what anyone who knows the test would do without a mixer.
    Update:
        p = w, the experiment's ``evaluation.target``; fixed. The same as ``uniform`` where all domains count alike.
    Source:
        Folklore; the row that says how much of a target-aware method's gain is due to knowing the target.
    Differences:
        None. A domain that does not count is never drawn; AC-ODM's anchor, made of the same weights, spreads a tenth evenly.
    """

    cite = "folklore"

    def start(self, start: Start) -> None:
        self.share_ = start.target.copy()

    def sampling(self, step: int) -> np.ndarray:
        return self.share_
