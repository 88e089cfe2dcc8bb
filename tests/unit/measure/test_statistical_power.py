"""The power calculation, against published values and against simulated experiments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats

from acodm_core.measure.statistical_power import smallest_difference


@pytest.mark.parametrize(("pairs", "effect"), [(34, 0.5), (15, 0.78), (199, 0.2)])
def test_agrees_with_cohens_pairs_for_an_effect(pairs, effect):
    """Pairs that small, medium and large effects need at 80 % (Cohen's d of differences 0.2, 0.5 and about 0.8)."""
    assert smallest_difference(1.0, pairs) == pytest.approx(effect, abs=0.006)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_a_difference_of_that_size_is_found_four_times_in_five(n):
    rng = np.random.default_rng(n)
    values = rng.normal(smallest_difference(0.02, n), 0.02, (20_000, n))
    assert np.mean(stats.ttest_1samp(values, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.01)


@settings(max_examples=25, deadline=None)
@given(some.floats(1e-4, 10), some.integers(2, 40), some.floats(0.5, 0.95))
def test_scales_with_the_noise_shrinks_with_seeds_and_grows_with_power(sd, n, power):
    here = smallest_difference(sd, n, power)
    assert here == pytest.approx(sd * smallest_difference(1.0, n, power), rel=1e-6)
    assert smallest_difference(sd, n + 1, power) < here < smallest_difference(sd, n, power + 0.04)
    assert smallest_difference(sd, n, power, alpha=0.01) > here


def test_no_noise_hides_nothing():
    assert smallest_difference(0.0, 5) == 0.0


@pytest.mark.parametrize("wrong", [{"n": 1}, {"n": 5, "power": 0.04}, {"n": 5, "power": 1.0}, {"n": 5, "alpha": 0.0}])
def test_what_has_no_answer_is_refused(wrong):
    with pytest.raises(ValueError, match=r"pairs|alpha"):
        smallest_difference(1.0, **wrong)
