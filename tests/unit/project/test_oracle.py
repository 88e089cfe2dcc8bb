"""The search for the best static mixture, on losses whose minimiser is known by argument."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

SPEC = importlib.util.spec_from_file_location("oracle", Path(__file__).parents[3] / "benchmarks" / "oracle.py")
oracle = importlib.util.module_from_spec(SPEC)
sys.modules["oracle"] = oracle  # dataclasses look their module up
SPEC.loader.exec_module(oracle)

DOMAINS = ("first", "second", "steep", "useless", "harmful")
TARGET = np.array([1, 1, 1, 0, 0]) / 3


def losses(weight_K: np.ndarray) -> np.ndarray:
    """Two equal domains, one that learns half as fast, one that helps nobody and one that hurts the first."""
    first, second, steep, _useless, harmful = weight_K
    gains = np.exp([-6 * first + 4 * harmful, -6 * second, -3 * steep])
    return np.array([*(1 + gains), 3.0, 2.0])


def test_the_centre_is_the_best_mixture_or_the_mean_of_equally_good_ones() -> None:
    mixtures = np.array([[1.0, 0.0], [0.6, 0.4], [0.4, 0.6]])
    np.testing.assert_allclose(oracle.centre_of(mixtures, np.array([3.0, 1.0, 2.0])), [0.6, 0.4], atol=1e-6)
    np.testing.assert_allclose(oracle.centre_of(mixtures, np.array([3.0, 1.0, 1.0])), [0.5, 0.5], atol=1e-6)


def test_the_search_gives_twins_equal_shares_and_nothing_to_useless_and_harmful_domains() -> None:
    noise = np.random.default_rng(1)
    lab = SimpleNamespace(
        measure=lambda trials: np.array([losses(np.array(m)) + noise.normal(0, 0.002, 5) for m, _ in trials]),
        corpus=SimpleNamespace(domains=DOMAINS, train_tokens=np.array([1, 1, 1, 5, 5]), digest=""),
        experiment=SimpleNamespace(methods={}),
        progress=SimpleNamespace(update=lambda *_, **__: None),
        task=None,
    )
    found = oracle.search(lab, TARGET, runs=240, seeds=[100], fresh=[110, 111])
    weights = found["oracle"]["weights"]
    assert weights["first"] == pytest.approx(weights["second"], abs=0.06)
    assert weights["useless"] + weights["harmful"] < 0.05
    assert found["oracle"]["loss"] < found["uniform"]["loss"] < found["natural"]["loss"]
    best = min(TARGET @ losses(np.array([(1 - s) / 2, (1 - s) / 2, s, 0, 0])) for s in np.linspace(0, 1, 101))
    assert found["oracle"]["loss"] == pytest.approx(best, abs=0.02)


def test_a_share_under_half_a_percent_is_nothing_and_the_rest_sums_to_one() -> None:
    mixture = oracle.rounded(np.array([0.5, 0.497, 0.003]))
    assert mixture[2] == 0 and sum(mixture) == pytest.approx(1, abs=1e-3)
