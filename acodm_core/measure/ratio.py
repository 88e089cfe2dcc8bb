"""The ratio of two medians with its interval: how a cost is compared to the plain step, by the probe and by the tables alike."""

from __future__ import annotations

import numpy as np


def ratio_of_medians(over: np.ndarray, under: np.ndarray, *, draws: int = 4000) -> tuple[float, float, float]:
    """Median of ``over`` by median of ``under``, and the ends of its 95 % percentile-bootstrap interval.

    The same measurements give the same ends wherever it is called: the draws come from a generator of its own.

    Args:
        over, under: (n,) measurements of the same n interleaved blocks; blocks are resampled as pairs.
    """
    picks = np.random.default_rng(0).integers(0, len(over), (draws, len(over)))
    ratios = np.median(over[picks], axis=1) / np.median(under[picks], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(np.median(over) / np.median(under)), float(low), float(high)
