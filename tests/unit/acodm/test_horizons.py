"""Agents whose constants are stated for the release's 41,667 steps, in runs of some hundred."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_signals import TENSORS, acodm, observe, start, weights

from acodm_core.acodm.hds import Hds
from acodm_core.acodm.mixer import AcOdm
from acodm_core.acodm.paper import AcOdmPaper

RELEASE = 41_667
SMALL = dict(hidden_size=8, hidden_layers=1)


def trained(mixer: AcOdm, k: int, steps: int) -> tuple[np.ndarray, list[dict]]:
    """(T, K) mixtures and diagnostics of a run whose losses fall and whose weights grow as a training's do; one domain opposes."""
    start(mixer, k, steps=steps)
    rng, shares, found = np.random.default_rng(1), [], []
    gradients_KP, norm_L = rng.normal(size=(k, 5)), np.full(TENSORS, 10.0)
    gradients_KP[0] *= -1
    for step in range(steps):
        done = step / steps
        shares.append(mixer.sampling_weights(step).copy())
        norm_L = norm_L + 0.03 * np.exp(-3 * done)
        loss_K = 3 + 4 * np.exp(-5 * done) + np.linspace(0, 1, k) + rng.normal(0, 0.1, k)
        loss_K[rng.integers(k)] = np.nan  # a batch lacks a domain
        observe(mixer, step, loss_K, gradients_KP + rng.normal(0, 0.5, gradients_KP.shape), norm_L=norm_L)
        found.append(dict(mixer.diagnostics()))
    return np.array(shares), found


@pytest.mark.parametrize("variant", [AcOdm, AcOdmPaper, Hds])
def test_discount_target_rate_and_replay_are_the_same_fractions_of_every_run(variant: type[AcOdm]) -> None:
    mixer = variant(**SMALL)
    for steps in (100, 300, 2000, RELEASE):
        agent = start(variant(**SMALL), steps=steps).agent_
        assert agent.settings.discount**steps == pytest.approx(mixer.discount**mixer.reference_steps)
        assert (1 - agent.settings.target_rate) ** steps == pytest.approx(
            (1 - mixer.target_rate) ** mixer.reference_steps
        )
        assert agent.replay.capacity / steps == pytest.approx(mixer.replay_size / mixer.reference_steps, abs=1 / steps)
    for literal in (
        start(variant(**SMALL), steps=mixer.reference_steps),
        start(variant(**SMALL, reference_steps=0), steps=600),
    ):
        assert literal.agent_.settings.discount == pytest.approx(mixer.discount, rel=1e-12)
        assert literal.agent_.settings.target_rate == pytest.approx(mixer.target_rate, rel=1e-12)


def test_temperature_keeps_its_unit_when_returns_grow_with_the_run() -> None:
    """A steady reward of 1 is worth 1 / (1 - gamma): what the divergence weighs against it is the same share."""
    for steps in (100, 300, 3000):
        told = start(AcOdm(temperature=0.7, discount=0.5, reference_steps=300), steps=steps).agent_.settings
        assert told.temperature * (1 - told.discount) == pytest.approx(0.7 * 0.5)


def test_learning_rates_are_stated_for_the_horizon_where_the_variant_says_so() -> None:
    def rates(steps: int, **changes: object) -> tuple[float, float, float]:
        agent = start(Hds(**SMALL, **changes), steps=steps).agent_
        optimisers = (agent.actor_optimiser, agent.critic_optimiser, agent.temperature_optimiser)
        return tuple(optimiser.param_groups[0]["lr"] for optimiser in optimisers)

    assert rates(RELEASE) == pytest.approx((1e-4, 1e-4, 1e-4))
    assert rates(20_000) == pytest.approx((1e-4 * RELEASE / 20_000,) * 3)
    assert rates(300) == pytest.approx((3e-4, 1e-2, 1e-4 * RELEASE / 300)), "networks have limits, the temperature none"
    assert rates(300, rescale_lr=False) == pytest.approx((1e-4, 1e-4, 1e-4))
    assert start(AcOdmPaper(**SMALL), steps=300).agent_.settings.actor_lr == 1e-4


@pytest.mark.parametrize("k", [3, 12])
def test_hds_learns_within_three_hundred_steps(k: int) -> None:
    """Its temperature gives way to a policy above the target entropy, critics know returns, mixtures do not jump."""
    mixer = Hds()
    mixture_TK, found = trained(mixer, k, 300)
    temperature_T = np.array([step.get("temperature", 1.0) for step in found])
    assert temperature_T[-1] < 0.1 and (np.diff(temperature_T[30:]) < 0).all()
    returns_T = np.array([step["reward"] for step in found]) / (1 - mixer.agent_.settings.discount)
    assert returns_T[-1] > 50
    np.testing.assert_allclose([step["q"] for step in found[150:]], returns_T[150:], rtol=0.15)
    moved_T = np.abs(np.diff(mixture_TK, axis=0)).sum(1) / 2
    assert max(np.median(part) for part in np.array_split(moved_T[6:], 4)) < 0.15


def test_hds_temperature_rises_while_the_policy_is_under_the_target_entropy() -> None:
    mixer = start(Hds(), 4, steps=300)
    mixer.agent_.actor.network[-1].bias.data[4:] = -4.0  # log deviations; the target's is -2.42
    rng = np.random.default_rng(0)
    for step in range(40):
        observe(mixer, step, rng.uniform(2, 3, 4), rng.normal(size=(4, 5)))
    assert mixer.diagnostics()["temperature"] > 1.3


def test_hds_with_the_literal_constants_learns_nothing_in_a_run_this_short() -> None:
    _, found = trained(Hds(reference_steps=0, rescale_lr=False), 4, 150)
    assert found[-1]["temperature"] > 0.95 and found[-1]["q"] < 0.1 * found[-1]["reward"]


def test_untrained_actor_of_the_papers_variant_sees_its_losses() -> None:
    """Losses of 12 domains in another order give another mixture: counts and time do not drown them."""
    k, decided = 12, []
    loss_K = np.linspace(1.5, 6.0, k)
    for order in (np.arange(k), np.arange(k)[::-1]):
        mixer = start(AcOdmPaper(learn=True, warmup=0.0, min_transitions=200, replay_size=60_000), k, steps=300)
        for step in range(2):
            observe(mixer, step, loss_K[order], np.ones((k, 5)))
        decided.append(mixer.sampling_weights(2))
    assert np.abs(decided[0] - decided[1]).sum() / 2 > 0.005


def test_the_papers_variant_learns_from_its_first_transition() -> None:
    mixer = start(AcOdmPaper(**SMALL), steps=300)
    before = weights(mixer.agent_.actor)
    for step in range(2):
        assert np.array_equal(weights(mixer.agent_.actor), before)
        observe(mixer, step, np.array([1.0, 2.0, 3.0]), np.eye(3, 5) + 0.1)
    assert not np.array_equal(weights(mixer.agent_.actor), before)


def test_options_that_count_measurements_do_not_scale() -> None:
    mixer = start(acodm(reference_steps=50, reward_decay=0.9, signal_decay=0.8), steps=500)
    assert (mixer.reward_.reward_decay, mixer.reward_.signal_decay, mixer.tracker_.signal_decay) == (0.9, 0.8, 0.8)
