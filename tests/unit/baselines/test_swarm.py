"""A swarm's runs: random mixtures that are all different and all repeatable, or one domain each."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acodm_baselines.swarm import _draws
from acodm_core.errors import UserError
from acodm_core.files import read_json
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Mixer, Signal, Start, StepStats

STEPS = 6


def member(number: int, prior: list[float], *, seed: int = 0, mixture: str = "random") -> Mixer:
    mixer = build_mixer("swarm", {"member": number, "mixture": mixture})
    prior_K = np.array(prior) / np.sum(prior)
    rng = np.random.default_rng([seed, 1])
    mixer.start(
        Start(
            domains=tuple(f"d{i}" for i in range(len(prior))),
            prior=prior_K,
            tokens_available=prior_K * 1e6,
            total_steps=STEPS,
            rng=rng,
        )
    )
    return mixer


def shares(count: int, prior: list[float]) -> np.ndarray:
    """(count, K) the mixtures of a swarm."""
    return np.array([member(number, prior).sampling_weights(0) for number in range(count)])


def test_mixtures_follow_seed_and_number_and_nothing_else() -> None:
    prior = [5, 3, 2]
    first = member(4, prior).sampling_weights(0)
    np.testing.assert_array_equal(first, member(4, prior).sampling_weights(STEPS - 1))
    assert np.abs(first - member(4, prior, seed=1).sampling_weights(0)).sum() > 1e-3
    np.testing.assert_array_equal(first, member(4, prior).sampling_weights(0))


def test_no_mixture_comes_twice_while_there_are_others() -> None:
    """Weak draws end in corners, of which there are as many as domains."""
    mixture_NK = shares(60, [5, 3, 2])
    assert len(np.unique(mixture_NK.round(6), axis=0)) == 60
    np.testing.assert_array_equal(shares(3, [1]), np.ones((3, 1)))


@settings(deadline=None, max_examples=60)
@given(
    prior=st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=8),
    number=st.integers(0, 20),
    seed=st.integers(0, 99),
)
def test_no_domain_passes_15_epochs_and_none_is_drawn_by_less_than_one_in_5000(prior, number, seed) -> None:
    mixture_K = member(number, prior, seed=seed).sampling_weights(0)
    prior_K = np.array(prior) / sum(prior)
    assert mixture_K.sum() == pytest.approx(1)
    # Dropping what is small and rounding move the rest up by less than 2e-4 a domain.
    slack = 2e-4 * len(prior)
    assert (mixture_K <= (15 * prior_K + 1e-4) * (1 + 2 * slack)).all()
    assert (mixture_K[mixture_K > 0] >= 2e-4 * (1 - slack)).all()


def test_mixtures_lie_around_the_tempered_natural_shares_from_corners_to_the_middle() -> None:
    """Where the cap does not bind the mean of Dirichlet(s q') is q', whatever s: natural shares to the power 0.5."""
    prior_K = np.array([0.5, 0.4, 0.1])
    draws_NK = np.array(list(itertools.islice(_draws(prior_K, np.random.default_rng(0)), 3000))) / 5000
    tempered_K = np.sqrt(prior_K) / np.sqrt(prior_K).sum()
    np.testing.assert_allclose(
        draws_NK.mean(0), tempered_K, atol=0.03
    )  # three standard errors, each under 0.5 / 3000^0.5
    most_N = draws_NK.max(1)
    assert (most_N > 0.99).mean() > 0.2 and (most_N < 0.5).mean() > 0.05


def test_one_domain_is_the_one_of_its_number() -> None:
    for number in range(3):
        np.testing.assert_array_equal(
            member(number, [5, 3, 2], mixture="one_domain").sampling_weights(0), np.eye(3)[number]
        )


@pytest.mark.parametrize(("mixture", "looks"), [("random", [5]), ("one_domain", [0, 5])])
def test_saves_what_it_drew_and_the_losses_at_the_ends(mixture: str, looks: list[int], tmp_path: Path) -> None:
    mixer = member(1, [5, 3], mixture=mixture)
    assert [step for step in range(STEPS) if mixer.wants(step)] == looks
    for step in range(STEPS):
        losses = {Signal.VALID_LOSS: np.array([4.0, 3.0]) - step / 10}
        mixer.observe(StepStats(step, np.zeros(2), losses if mixer.wants(step) else {}))
    mixer.save(tmp_path)
    saved = read_json(tmp_path / "member.json")
    assert saved["weights"] == dict(zip(("d0", "d1"), mixer.sampling_weights(0).tolist(), strict=True))
    assert saved["final"] == {"d0": 3.5, "d1": 2.5}
    assert saved["initial"] == ({"d0": 4.0, "d1": 3.0} if mixture == "one_domain" else {"d0": None, "d1": None})


def test_a_run_that_ended_early_saves_that_it_has_no_losses(tmp_path: Path) -> None:
    mixer = member(0, [5, 3])
    mixer.save(tmp_path)
    assert read_json(tmp_path / "member.json")["final"] == {"d0": None, "d1": None}


def test_refuses_negative_numbers_and_numbers_of_no_domain() -> None:
    with pytest.raises(UserError, match="from 0, got -1"):
        build_mixer("swarm", {"member": -1})
    with pytest.raises(UserError, match="no domain has number 2"):
        build_mixer("swarm", {"member": 2, "mixture": "one_domain"}).check(("a", "b"), where="methods.mine.options")
    build_mixer("swarm", {"member": 2}).check(("a", "b"), where="methods.mine.options")
