"""How small a difference so many paired seeds can find: for the plan before anything is spent, and for the noise card after."""

from __future__ import annotations

import math


def smallest_difference(sd: float, n: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest true mean difference that a two-sided paired t-test finds with ``power``; in the unit of ``sd``.

    Exact for normal differences: T has the noncentral t distribution with n - 1 degrees of freedom and noncentrality
    difference * sqrt(n) / sd (Cohen 1988, Statistical Power Analysis, chapter 2), and both tails count.

    Args:
        sd: standard deviation of the paired differences. Of runs that are not paired it is sqrt(2) times that of the runs.
        n: pairs, at least two.
        power: chance of finding it, between ``alpha`` and 1.
    """
    from scipy import optimize, stats  # heavy: only a plan with numbers to check pays for it

    if n < 2:
        raise ValueError(f"a paired test needs two pairs, got {n}")
    if not 0 < alpha < power < 1:
        raise ValueError(f"needs 0 < alpha < power < 1, got alpha {alpha} and power {power}")
    edge = stats.t.ppf(1 - alpha / 2, n - 1)

    def lacking(shift: float) -> float:
        wrong = stats.nct.cdf(-edge, n - 1, shift)  # the other tail, which scipy gives as NaN where it is nothing
        return float(stats.nct.sf(edge, n - 1, shift) - power) + (0.0 if math.isnan(wrong) else float(wrong))

    high = 1.0
    while lacking(high) < 0:
        high *= 2
    return optimize.brentq(lacking, 0.0, high) * sd / math.sqrt(n)
