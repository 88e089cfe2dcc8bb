"""Statistics with answers known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from acodm_analysis.core import seed_statistics as st
from acodm_core.measure.ratio import ratio_of_medians

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("steps", "losses", "threshold", "expected"),
    [
        # log-linear: half way down in loss is the geometric mean in steps
        ([0, 100, 400, 800], [9, 4, 2, 1], 3, 200.0),
        # from step 0 the line is in steps
        ([0, 100, 200], [4, 2, 1], 3, 50.0),
        # exactly on an evaluation
        ([0, 100, 200, 300], [5, 4, 3, 2], 3, 200.0),
        # a dip that one evaluation takes back does not count: the later crossing does
        ([100, 200, 300, 400, 500], [4, 2.9, 3.1, 2.9, 2.8], 3, 300 * (4 / 3) ** 0.5),
        # plateau at the threshold is at the threshold
        ([100, 200, 300, 400], [4, 3, 3, 3], 3, 200.0),
        # plateau just above it never is
        ([100, 200, 300, 400], [4, 3.01, 3.01, 3.01], 3, INF),
        # the last evaluation has nothing after it and counts alone
        ([100, 200, 400], [5, 4, 2], 3, 200 * 2**0.5),
        # NaN is above every threshold, before and after
        ([100, 200, 300, 400], [4, NAN, 2, 2], 3, 300.0),
        ([100, 200, 300, 400], [4, 2, NAN, NAN], 3, INF),
        ([100, 200, 300], [NAN, NAN, NAN], 3, INF),
        # below from the start
        ([0, 100], [2, 1], 3, 0.0),
        ([], [], 3, INF),
    ],
)
def test_crossing(steps, losses, threshold, expected):
    assert st.crossing(steps, losses, threshold) == pytest.approx(expected)


def test_noise_moves_a_crossing_by_less_than_its_size_over_the_slope():
    """A loss of 8 - log(step) is 3 at step e^5; evaluations that are off by at most 0.05 cross between e^4.95 and e^5.05."""
    steps, rng = np.arange(20, 401, 20), np.random.default_rng(3)
    found = []
    for _ in range(200):
        noise = rng.uniform(-0.05, 0.05, len(steps))
        found.append(st.crossing(steps, 8 - np.log(steps) + noise, 3.0))
    assert math.exp(4.95) <= min(found) < math.exp(5) < max(found) <= math.exp(5.05)


def test_crossing_without_a_threshold_is_not_run():
    assert math.isnan(st.crossing([0, 1], [2, 1], NAN))


def test_interquartile_mean_drops_a_quarter_at_each_end():
    assert st.interquartile_mean([0, 0, 1, 2, 3, 4, 9, 100]) == 2.5
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


def test_bootstrap_reaches_infinity_without_nan():
    low, high = st.bootstrap([1, 2, 3, INF, INF], st.generator("x"))
    assert (low, high) == (1, INF)


def test_fewer_than_five_seeds_give_a_range():
    assert st.cell_interval([3, 1, 2]) == (1, 3)
    assert "seed" in st.interval_name(4) and "95" in st.interval_name(5)
    assert all(math.isnan(end) for end in st.cell_interval([1, NAN]))
    assert all(math.isnan(end) for end in st.cell_interval([]))


def test_five_seeds_give_their_ends_and_six_a_little_less():
    assert st.median_interval([5, 1, 4, 2, 3]) == (1, 5)
    low, high = st.median_interval([6, 1, 5, 2, 4, 3])
    assert 1 < low < 2 and 5 < high < 6 and low - 1 == pytest.approx(6 - high)


def test_order_statistics_are_interpolated_as_published():
    """n = 10: between the 2nd and 9th (97.85 %) and the 3rd and 8th (89.06 %), (n - d) I / (d + (n - 2d) I) of the way in."""
    excess = (0.978515625 - 0.95) / (0.978515625 - 0.890625)
    part = 8 * excess / (2 + 6 * excess)
    assert st.median_interval(np.arange(1, 11)) == pytest.approx((2 + part, 9 - part))


def test_failed_seeds_open_an_interval_and_make_no_nan():
    assert st.median_interval([1, 2, 3, 4, INF]) == (1, INF)
    assert st.median_interval([1, 2, 3, 4, 5, INF])[1] == INF
    assert st.median_interval([INF] * 6) == (INF, INF)
    assert st.median_interval([0, 0, 0, 0, 0, 0]) == (0, 0)


def test_the_t_interval_agrees_with_the_test_and_with_scipy():
    from scipy.stats import ttest_1samp

    values = np.array([0.3, 0.1, 0.25, 0.4, 0.2])
    found = ttest_1samp(values, 0).confidence_interval(0.95)
    assert st.mean_interval(values) == pytest.approx((found.low, found.high))
    edge = values - st.mean_interval(values)[0]
    assert st.paired_p(edge) == pytest.approx(0.05)
    assert all(math.isnan(end) for end in (*st.mean_interval([1.0]), *st.mean_interval([1, 2, INF])))


def test_the_interval_of_the_interquartile_mean_forgives_one_failed_seed():
    clean, failed = [3.0, 1, 2, 4, 5], [3.0, 1, 2, 4, INF]
    assert st.interquartile_mean_interval(clean) == st.interquartile_mean_interval(failed)
    low, high = st.interquartile_mean_interval(clean)
    # Kept 2, 3, 4; winsorised 2, 2, 3, 4, 4: squares 4, so the error is sqrt(4 / (3 * 2)) and t has two degrees of freedom.
    assert (low + high) / 2 == pytest.approx(3) and (high - low) / 2 == pytest.approx(4.302653 * (4 / 6) ** 0.5)
    assert all(math.isnan(end) for end in st.interquartile_mean_interval([1.0, 2, 3, INF, INF]))


def test_ratio_of_medians_keeps_blocks_together():
    drift = np.linspace(1, 3, 21)
    _, low, high = ratio_of_medians(1.1 * drift, drift)
    assert low == pytest.approx(1.1) and high == pytest.approx(1.1)


def test_probability_of_improvement():
    low, high = np.arange(5), np.arange(5, 10)
    assert st.improvement(low, high) == 1.0 and st.improvement(high, low) == 0.0
    assert st.improvement(low, low) == 0.5
    assert st.improvement([INF, 0, INF, 0, INF, 0], [1] * 6) == 0.5


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_fewer_than_five_seeds_carry_no_judgement(n):
    few, failed = np.arange(1.0, n + 1), np.append(np.arange(1.0, n), INF)
    assert not st.enough(n) and st.enough(5)
    for values in (few, failed):
        judged = [st.improvement(values, np.arange(9)), st.improvement(np.arange(9), values), st.paired_p(values)]
        judged += [st.interquartile_mean(values), *st.interquartile_mean_interval(values)]
        assert all(math.isnan(value) for value in judged)
        assert st.difference_interval(values) == st.cell_interval(values) == (values.min(), values.max())


def test_a_median_never_averages_a_never_with_a_number():
    assert st.median(st.speedups(8.0, [INF, 7.0])) == -INF
    assert st.median(st.speedups(8.0, [INF, 4.0, 2.0])) == 2.0
    assert st.speedups([8.0, NAN], INF).tolist()[0] == -INF and math.isnan(st.speedups([8.0, NAN], INF)[1])


def test_paired_p():
    from scipy.stats import ttest_rel

    x, y = np.array([1.0, 2, 3, 4, 5]), np.array([1.2, 2.1, 3.4, 4.1, 5.2])
    assert st.paired_p(x - y) == pytest.approx(ttest_rel(x, y).pvalue)
    assert st.paired_p([0] * 5) == 1.0
    assert math.isnan(st.paired_p([1, 2, 3, 4, INF]))


def test_holm_by_hand():
    assert st.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert st.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    np.testing.assert_allclose(st.holm([NAN, 0.02]), [NAN, 0.02])


def test_perplexity_of_the_mean_is_not_the_mean_of_perplexities():
    losses = np.array([1.0, 3.0])
    assert st.perplexity(losses.mean()) == pytest.approx(math.exp(2))
    assert st.perplexity(losses).mean() > st.perplexity(losses.mean())
