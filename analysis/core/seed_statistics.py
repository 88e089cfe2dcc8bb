"""Statistics of paired seeds: pure functions on arrays, each a few lines, every random draw from a named generator.

Conventions: lower is better; a run that failed or never reached a threshold is ``inf`` (so it counts, and is never dropped);
a value that was not measured is ``nan``. One array holds one method's seeds. Intervals are 95 % and chosen by what they cover
at five to ten seeds (tests/unit/analysis/test_interval_coverage.py): order statistics for a median, Student's t for a mean,
a trimmed t for an interquartile mean. The percentile bootstrap of a mean covers 84 % at five seeds,
so it is left to ratios of medians.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from acodm_core.files import digest

MIN_SEEDS = 5  # see ``enough``
KNOWN_THRESHOLD = " (for steps, the threshold taken as known)"  # of intervals, in captions
NO_VERDICT = "no verdict"  # what stands in the place of a judgement where n is not ``enough``
RESAMPLES = 10_000
LEVEL = 0.95

Array = NDArray[np.float64]


def enough(n: int) -> bool:
    """The one rule for small n (protocol, section 5): may ``n`` paired seeds carry a judgement?

    With fewer than five there is no verdict, rank, bold figure, probability of improvement, interquartile mean, p value or 95 %
    interval of seeds, in any table or figure. What is left is the median with the smallest and the largest seed.
    """
    return n >= MIN_SEEDS


def no_verdict(n: int) -> str:
    """The sentence of a caption that says so; "" where ``n`` seeds are ``enough``."""
    return "" if enough(n) else f"With {n} seed{'s' * (n != 1)} there is no verdict: it takes {MIN_SEEDS}. "


def generator(*names: object) -> np.random.Generator:
    """A generator whose stream depends on ``names`` alone, so that no number depends on the order of the computations."""
    return np.random.default_rng(int(digest([str(name) for name in names], 16), 16))


def perplexity(loss_nats: ArrayLike) -> Array:
    """exp(mean nats per token). The paper averages the domains' perplexities instead: a column of its own."""
    return np.exp(np.asarray(loss_nats, dtype=float))


def crossing(steps: ArrayLike, losses: ArrayLike, threshold: float) -> float:
    """The step at which a validation curve reaches ``threshold`` (nats); ``inf`` when it never does.

    It is the first evaluation from which the loss stays at or below the threshold for two evaluations, moved back to where
    the loss, taken as linear in log(step) between that evaluation and the one before, equals the threshold. (From step 0,
    which has no logarithm, the line is in steps.) The last evaluation has no successor to confirm it and is enough by
    itself: otherwise the natural mixture could not reach its own final loss. A NaN is above every threshold.
    """
    steps, losses = np.asarray(steps, dtype=float), np.asarray(losses, dtype=float)
    if np.isnan(threshold):
        return float("nan")
    below = losses <= threshold
    confirmed = below & np.append(below[1:], True)
    if not confirmed.any():
        return float("inf")
    i = int(np.argmax(confirmed))
    if i == 0 or not np.isfinite(losses[i - 1]):
        return float(steps[i])
    part = (losses[i - 1] - threshold) / (losses[i - 1] - losses[i])
    if steps[i - 1] <= 0:
        return float(steps[i - 1] + part * (steps[i] - steps[i - 1]))
    return float(steps[i - 1] * (steps[i] / steps[i - 1]) ** part)


def median(values: ArrayLike, axis: int = -1) -> Array:
    """The median; ``inf`` when half of the values or more are."""
    return np.median(np.asarray(values, dtype=float), axis=axis)


def interquartile_mean(values: ArrayLike) -> float:
    """The mean of the middle half: a quarter of the values, rounded down, is cut at each end; NaN where n is not ``enough``."""
    return float(stats.trim_mean(np.asarray(values, dtype=float), 0.25)) if enough(len(values)) else float("nan")


def median_interval(values: ArrayLike) -> tuple[float, float]:
    """The interval of the median from order statistics, whatever the distribution; needs no resampling.

    Between the two pairs of order statistics whose exact coverages lie about 95 % it interpolates as Hettmansperger and
    Sheather (1986, Statistics & Probability Letters 4:75-79). Of five seeds even the smallest and the largest cover only 93.75 %,
    and they are what it gives. An end that leans on a failed seed is ``inf``.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    n, d = len(ordered), 1
    while _between(d + 1, n) >= LEVEL:
        d += 1
    covers = _between(d, n)
    if covers <= LEVEL:
        return float(ordered[d - 1]), float(ordered[n - d])
    excess = (covers - LEVEL) / (covers - _between(d + 1, n))
    part = (n - d) * excess / (d + (n - 2 * d) * excess)
    ends = [_toward(ordered[d - 1], ordered[d], part), _toward(ordered[n - d], ordered[n - d - 1], part)]
    return ends[0], ends[1]


@cache
def _between(d: int, n: int) -> float:
    """The chance that the median lies between the d-th smallest and the d-th largest of n."""
    return float(1 - 2 * stats.binom.cdf(d - 1, n, 0.5))


def _toward(start: float, end: float, part: float) -> float:
    return float(start) if start == end or np.isinf(start) else float(start + part * (end - start))


def mean_interval(values: ArrayLike) -> tuple[float, float]:
    """Student's t interval of the mean: exact for normal values, and it agrees with ``paired_p``; NaN with a failed seed.

    Of differences between paired runs, which are near symmetric even where the runs are skewed. Where the differences
    themselves are as skewed as an exponential it covers 89 %.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2 or not np.isfinite(values).all():
        return float("nan"), float("nan")
    half = _t(len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


@cache
def _t(freedom: int) -> float:
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))


def interquartile_mean_interval(values: ArrayLike) -> tuple[float, float]:
    """The t interval of the interquartile mean, from the winsorised variance (Tukey and McLaughlin 1963, Sankhya A 25:331-352)."""
    ordered = np.sort(np.asarray(values, dtype=float))
    n, cut = len(ordered), len(ordered) // 4
    kept = ordered[cut : n - cut]
    if not enough(n) or not np.isfinite(kept).all():
        return float("nan"), float("nan")
    squares = (n - 1) * np.clip(ordered, kept[0], kept[-1]).var(ddof=1)
    half = _t(len(kept) - 1) * np.sqrt(squares / (len(kept) * (len(kept) - 1)))
    return float(kept.mean() - half), float(kept.mean() + half)


def bootstrap(
    values: ArrayLike,
    rng: np.random.Generator,
    statistic: Callable[..., Array] = median,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """The 95 % percentile interval of ``statistic(values, axis=...)`` over resampled rows (axis 0 of ``values``).

    ``values`` may have further columns: they stay together, which keeps pairs paired. At five to ten rows it covers less than
    it says, for means above all; with the blocks of the probe (a dozen and more) it does what it says.
    """
    values = np.asarray(values, dtype=float)
    drawn = values[rng.integers(len(values), size=(resamples, len(values)))]
    estimates = statistic(drawn, axis=1)
    tail = (1 - LEVEL) / 2
    # Outward to an observed estimate: interpolating between a number and inf would give NaN.
    return (
        float(np.quantile(estimates, tail, method="lower")),
        float(np.quantile(estimates, 1 - tail, method="higher")),
    )


def cell_interval(values: ArrayLike) -> tuple[float, float]:
    """The interval of a cell: that of the median from five seeds on, the smallest and largest value below that."""
    values = np.asarray(values, dtype=float)
    if len(values) == 0 or np.isnan(values).any():
        return float("nan"), float("nan")
    return median_interval(values) if enough(len(values)) else (float(values.min()), float(values.max()))


def difference_interval(values: ArrayLike) -> tuple[float, float]:
    """The interval of a mean difference: Student's t from five seeds on; below that, or with a failed run, the two extremes."""
    values = np.asarray(values, dtype=float)
    if enough(len(values)) and np.isfinite(values).all():
        return mean_interval(values)
    return float(values.min()), float(values.max())


def interval_name(n: int) -> str:
    """What ``cell_interval`` gives for ``n`` seeds, in words."""
    return "95 % interval of the median" if enough(n) else "smallest and largest seed"


def speedups(to_beat: ArrayLike, costs: ArrayLike) -> Array:
    """``to_beat`` over ``costs``; -inf ("never") where a cost is ``inf``.

    So a median that falls between a number and a "never" is "never": a mean never contains one.
    """
    to_beat, costs = np.broadcast_arrays(np.asarray(to_beat, dtype=float), np.asarray(costs, dtype=float))
    found = to_beat / costs
    return np.where(np.isinf(costs) & ~np.isnan(to_beat), -np.inf, found)


def improvement(values: ArrayLike, baseline: ArrayLike) -> float:
    """P(a seed of the method is lower than a seed of the baseline), over all pairs of seeds, ties counting half.

    NaN where the seeds of either are not ``enough``.
    """
    if not enough(min(len(values), len(baseline))):
        return float("nan")
    x, y = np.asarray(values, dtype=float)[:, None], np.asarray(baseline, dtype=float)[None, :]
    return float(np.mean((x < y) + 0.5 * (x == y)))


def paired_p(differences: ArrayLike) -> float:
    """Two-sided p of the paired t-test of "the mean difference is 0"; NaN where n is not ``enough`` or with a failed run.

    Not a sign or rank test: with five seeds those cannot go below 1/16 whatever the data say.
    """
    differences = np.asarray(differences, dtype=float)
    if not enough(len(differences)) or not np.isfinite(differences).all():
        return float("nan")
    if np.ptp(differences) == 0:
        return 1.0 if differences[0] == 0 else 0.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: ArrayLike) -> Array:
    """Holm's step-down correction; NaN entries stay NaN and are not counted as tests."""
    p_values = np.asarray(p_values, dtype=float)
    adjusted = np.full(p_values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    scaled = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def sd_interval(sd: float, n: int) -> tuple[float, float]:
    """The chi-square interval of a standard deviation that was measured on ``n`` normal values."""
    tails = stats.chi2.ppf([(1 + LEVEL) / 2, (1 - LEVEL) / 2], n - 1)
    low, high = sd * np.sqrt((n - 1) / tails)
    return float(low), float(high)


def weighted(values: ArrayLike, weights: Sequence[float]) -> Array:
    """The weighted mean over the last axis; weights need not sum to one."""
    return np.average(np.asarray(values, dtype=float), axis=-1, weights=weights)
