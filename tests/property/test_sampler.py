"""Properties of the draw and of the permutation behind it, for any input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acodm_core.data.sampler import Sampler, permute


class Fake:
    """A corpus of K domains of the same few tokens."""

    def __init__(self, k: int) -> None:
        self.domains = tuple(f"domain_{i}" for i in range(k))

    def tokens(self, split: str, name: str) -> np.ndarray:
        return np.arange(101)


SHARES = st.lists(st.floats(0, 1, allow_nan=False, width=32), min_size=1, max_size=30).filter(lambda s: sum(s) > 1e-6)
STEPS, SEEDS, BATCHES = st.integers(0, 10**6), st.integers(0, 2**31), st.integers(1, 600)


def simplex(weights: list[float]) -> np.ndarray:
    w = np.array(weights, dtype=np.float64)
    return w / w.sum()


@settings(max_examples=150, deadline=None)
@given(SHARES, STEPS, SEEDS, BATCHES)
def test_systematic_counts_are_within_one_of_the_share(weights, step, seed, batch) -> None:
    mixture_K = simplex(weights)
    sampler = Sampler(Fake(len(mixture_K)), seed=seed, batch=batch, context=10)
    counts_K = sampler.sequence_counts(mixture_K, step)
    assert counts_K.sum() == batch and (counts_K >= 0).all()
    assert (np.abs(counts_K - batch * mixture_K) < 1 + 1e-9 * batch).all()
    np.testing.assert_array_equal(counts_K, sampler.sequence_counts(mixture_K, step))


@settings(max_examples=60, deadline=None)
@given(SHARES, STEPS, SEEDS, BATCHES)
def test_multinomial_counts_sum_to_the_batch_and_skip_empty_domains(weights, step, seed, batch) -> None:
    mixture_K = simplex(weights)
    counts_K = Sampler(Fake(len(mixture_K)), seed=seed, batch=batch, context=10, draw="multinomial").sequence_counts(
        mixture_K, step
    )
    assert counts_K.sum() == batch and (counts_K >= 0).all()
    assert (counts_K[mixture_K == 0] == 0).all() or mixture_K[
        -1
    ] == 0  # numpy gives the last domain what rounding leaves


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6), SEEDS, st.integers(1, 20))
def test_systematic_counts_are_unbiased(weights, seed, batch) -> None:
    mixture_K, steps = simplex(weights), 800
    sampler = Sampler(Fake(len(mixture_K)), seed=seed, batch=batch, context=10)
    mean_K = np.mean([sampler.sequence_counts(mixture_K, step) for step in range(steps)], axis=0)
    # one uniform number decides a step: a count's deviation is at most a half
    assert (np.abs(mean_K - batch * mixture_K) < 5 * 0.5 / np.sqrt(steps)).all()


@pytest.mark.parametrize("key", [(0, 0, 0, 0), (1, 2, 3, 4), (2**32 - 1,) * 4, (123456789, 987654321, 5, 2**31)])
def test_permute_is_a_bijection_for_every_size(key) -> None:
    key = np.array(key, dtype=np.uint32)
    for size in range(1, 301):
        assert sorted(permute(i, size, key) for i in range(size)) == list(range(size)), size


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4))
def test_permute_is_a_bijection_for_any_key(size, key) -> None:
    key = np.array(key, dtype=np.uint32)
    image = [permute(i, size, key) for i in range(size)]
    assert sorted(image) == list(range(size)) and all(type(i) is int for i in image[:3])


@settings(max_examples=40, deadline=None)
@given(st.integers(2**40, 2**41), st.integers(0, 2**40 - 1))
def test_permute_takes_corpora_of_any_size(size, index) -> None:
    key = np.array([1, 2, 3, 4], dtype=np.uint32)
    assert 0 <= permute(index, size, key) < size


def test_permute_mixes() -> None:
    """Neighbours land far apart and keys give unlike orders: about as many fixed points as chance has."""
    rng, size = np.random.default_rng(0), 257
    orders = [[permute(i, size, key) for i in range(size)] for key in rng.integers(0, 2**32, (40, 4), dtype=np.uint32)]
    assert len({tuple(order) for order in orders}) == 40
    fixed = np.mean([np.sum(np.array(order) == np.arange(size)) for order in orders])
    assert 0.4 < fixed < 1.8, "a random permutation has one fixed point on average"
    followed = np.mean([np.sum(np.diff(order) == 1) for order in orders])
    assert followed < 2.5, "a random permutation has one pair of neighbours in order on average"
