"""What a measurement is: a value with its interval and the number of seeds (or blocks, or repeats) behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from acodm_analysis.core.seed_statistics import cell_interval, median

EXACT = "run, exact"  # the unit of what is counted and has no noise


@dataclass(frozen=True)
class Measured:
    """``value`` with its 95 % interval (under five seeds: smallest and largest), ``n`` of ``unit``; or ``why`` there is none.

    ``bound``: the true value is at least this, because what it is compared with never got there and its whole run stands for it.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    unit: str = "seeds"
    why: str = ""
    bound: bool = False


def over(values: ArrayLike, unit: str = "seeds", *, why: str, bound: bool = False) -> Measured:
    """The median over ``values`` with its interval; ``why`` where there are none."""
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if not len(values):
        return Measured(why=why)
    return Measured(float(median(values)), *cell_interval(values), len(values), unit, bound=bound)
