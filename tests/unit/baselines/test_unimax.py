"""UniMax: small domains at their cap, the rest alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acodm_core.errors import UserError
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Start


def shares(tokens: list[float], budget: int, **options: float) -> np.ndarray:
    tokens_K = np.array(tokens, dtype=float)
    names = tuple(f"d{i}" for i in range(len(tokens)))
    mixer = build_mixer("unimax", options)
    rng = np.random.default_rng(0)
    mixer.start(
        Start(
            domains=names,
            prior=tokens_K / tokens_K.sum(),
            tokens_available=tokens_K,
            total_steps=1,
            rng=rng,
            tokens_per_step=budget,
        )
    )
    return mixer.sampling_weights(0)


def test_agrees_with_another_implementation() -> None:
    """Characters of five languages, 250e9 to draw, four epochs: the example on the page of PyPI's unimax-sampling
    (a package by other authors), with the probabilities that it prints."""
    sizes = {"swe": 179955884499, "fas": 184595788282, "ekk": 42541080893, "isl": 10027573389, "fao": 549707867}
    printed = [0.2769211666346667, 0.2769211666346667, 0.2769211666346667, 0.160441174224, 0.008795325872]
    found = shares(list(sizes.values()), 250_000_000_000, epochs=4)
    np.testing.assert_allclose(found, printed, rtol=1e-9)


def test_is_uniform_when_no_domain_is_too_small() -> None:
    np.testing.assert_allclose(shares([250, 900, 5000, 260], 1000, epochs=1), 1 / 4)


def test_is_natural_when_every_domain_is_too_small() -> None:
    np.testing.assert_allclose(shares([10, 20, 70], 1000, epochs=2), [0.1, 0.2, 0.7])


@given(
    tokens=st.lists(st.integers(1, 10_000), min_size=1, max_size=8),
    budget=st.integers(1, 40_000),
    epochs=st.floats(0.5, 8.0),
)
def test_no_domain_passes_its_cap_and_those_below_it_are_alike(tokens: list[int], budget: int, epochs: float) -> None:
    cap_K = epochs * np.array(tokens)
    drawn_K = shares(tokens, budget, epochs=epochs) * budget
    if cap_K.sum() >= budget:
        assert (drawn_K <= cap_K * (1 + 1e-9)).all()
        free_K = drawn_K < cap_K * (1 - 1e-9)
        if free_K.any():
            np.testing.assert_allclose(drawn_K[free_K], drawn_K.max(), rtol=1e-9)


def test_refuses_no_epochs_and_a_run_of_unknown_length() -> None:
    with pytest.raises(UserError, match="epochs must be positive"):
        build_mixer("unimax", {"epochs": 0})
    with pytest.raises(ValueError, match="tokens_per_step"):
        shares([1, 2], 0)
