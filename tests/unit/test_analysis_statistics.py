"""Statistics with answers known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from acodm_analysis import statistics as st

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("steps", "losses", "target", "expected"),
    [
        # log-linear: half way down in loss is the geometric mean in steps
        ([0, 100, 400, 800], [9, 4, 2, 1], 3, 200.0),
        # from step 0 the line is in steps
        ([0, 100, 200], [4, 2, 1], 3, 50.0),
        # exactly on an evaluation
        ([0, 100, 200, 300], [5, 4, 3, 2], 3, 200.0),
        # a dip that one evaluation takes back does not count: the later crossing does
        ([100, 200, 300, 400, 500], [4, 2.9, 3.1, 2.9, 2.8], 3, 300 * (4 / 3) ** 0.5),
        # plateau at the target is at the target
        ([100, 200, 300, 400], [4, 3, 3, 3], 3, 200.0),
        # plateau just above it never is
        ([100, 200, 300, 400], [4, 3.01, 3.01, 3.01], 3, INF),
        # the last evaluation has nothing after it and counts alone
        ([100, 200, 400], [5, 4, 2], 3, 200 * 2**0.5),
        # NaN is above every target, before and after
        ([100, 200, 300, 400], [4, NAN, 2, 2], 3, 300.0),
        ([100, 200, 300, 400], [4, 2, NAN, NAN], 3, INF),
        ([100, 200, 300], [NAN, NAN, NAN], 3, INF),
        # below from the start
        ([0, 100], [2, 1], 3, 0.0),
        ([], [], 3, INF),
    ],
)
def test_crossing(steps, losses, target, expected):
    assert st.crossing(steps, losses, target) == pytest.approx(expected)


def test_crossing_without_a_target_is_not_run():
    assert math.isnan(st.crossing([0, 1], [2, 1], NAN))


def test_interquartile_mean_drops_a_quarter_at_each_end():
    assert st.interquartile_mean([1, 2, 3, 100]) == 2.5
    assert st.interquartile_mean([1, 2, 3, 4, INF]) == 3.0


def test_median_counts_failures():
    assert st.median([1, 2, 3, 4, INF]) == 3
    assert st.median([1, INF]) == INF


def test_bootstrap_is_seeded_and_contains_the_median():
    values = np.random.default_rng(0).normal(3, 1, 40)
    first, second = (st.bootstrap(values, st.generator("a")) for _ in range(2))
    assert first == second
    assert st.bootstrap(values, st.generator("a"), np.mean) != st.bootstrap(values, st.generator("b"), np.mean)
    assert values.min() <= first[0] < np.median(values) < first[1] <= values.max()


def test_bootstrap_covers_about_what_it_says():
    rng = np.random.default_rng(5)
    hits = 0
    for i in range(200):
        low, high = st.bootstrap(rng.normal(0, 1, 30), st.generator(i), np.mean, resamples=1000)
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_bootstrap_reaches_infinity_without_nan():
    low, high = st.bootstrap([1, 2, 3, INF, INF], st.generator("x"))
    assert (low, high) == (1, INF)


def test_fewer_than_five_seeds_give_a_range():
    assert st.spread([3, 1, 2], st.generator(0)) == (1, 3)
    assert "seed" in st.interval_name(4) and "95" in st.interval_name(5)
    assert all(math.isnan(end) for end in st.spread([1, NAN], st.generator(0)))


def test_ratio_of_medians_keeps_blocks_together():
    drift = np.linspace(1, 3, 21)
    pairs = np.stack([1.1 * drift, drift], axis=1)
    low, high = st.bootstrap(pairs, st.generator("drift"), st.ratio_of_medians)
    assert low == pytest.approx(1.1) and high == pytest.approx(1.1)


def test_probability_of_improvement():
    assert st.improvement([1, 2], [3, 4]) == 1.0
    assert st.improvement([1, 2], [1, 2]) == 0.5
    assert st.improvement([INF, 0], [1, 1]) == 0.5


def test_paired_p():
    from scipy.stats import ttest_rel

    x, y = np.array([1.0, 2, 3, 4, 5]), np.array([1.2, 2.1, 3.4, 4.1, 5.2])
    assert st.paired_p(x - y) == pytest.approx(ttest_rel(x, y).pvalue)
    assert st.paired_p([0, 0, 0]) == 1.0
    assert math.isnan(st.paired_p([1.0])) and math.isnan(st.paired_p([1, 2, INF]))


def test_holm_by_hand():
    assert st.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert st.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    np.testing.assert_allclose(st.holm([NAN, 0.02]), [NAN, 0.02])


def test_detectable_difference_shrinks_with_seeds():
    three, five, ten = (st.detectable(0.01, n) for n in (3, 5, 10))
    assert three > five > ten > 0
    assert ten == pytest.approx((2.262157 + 0.883404) * 0.01 / math.sqrt(10), rel=1e-4)


def test_perplexity_of_the_mean_is_not_the_mean_of_perplexities():
    losses = np.array([1.0, 3.0])
    assert st.perplexity(losses.mean()) == pytest.approx(math.exp(2))
    assert st.perplexity(losses).mean() > st.perplexity(losses.mean())
