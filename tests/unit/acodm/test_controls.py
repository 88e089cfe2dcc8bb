"""What stands in the agent's place: a random mixture, mirror ascent, ODM's bandit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_up_signals import acodm, run, start

from acodm_core.acodm.controls import Bandit, Control, MirrorAscent, RandomSoftmax
from acodm_core.acodm.interface import Transition
from acodm_core.acodm.networks import perceptron
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Signal, Start, StepStats, softmax

UNIFORM = np.full(3, 1 / 3)
SKEWED = np.array([0.5, 0.3, 0.2])
STATE = np.zeros(4)  # which no control looks at
BUILD = {
    "random": lambda anchor_K, floor: RandomSoftmax(
        anchor_K, uniform_fraction=floor, logit_std=0.5, rng=np.random.default_rng(1)
    ),
    "mirror": lambda anchor_K, floor: MirrorAscent(anchor_K, uniform_fraction=floor, step_size=0.5),
    "bandit": lambda anchor_K, floor: Bandit(anchor_K, uniform_fraction=floor, total_steps=50),
}
every_control = pytest.mark.parametrize("name", BUILD)


def teach(control: Control, rewards_TK: np.ndarray) -> list[np.ndarray]:
    """The mixtures after each reward."""
    shares = []
    for reward_K in rewards_TK:
        control.learn(Transition(STATE, control.act(STATE), reward_K, STATE), np.random.default_rng(0))
        shares.append(control.act(STATE))
    return shares


@every_control
@pytest.mark.parametrize("floor", [0.0, 0.3, 0.9])
def test_floor_holds_under_any_reward(name: str, floor: float) -> None:
    for reward_K in ([1e3, 0.0, -1e3], [-1e6, -1e6, 1e6], [0.0, 0.0, 0.0]):
        for mixture_K in teach(BUILD[name](SKEWED, floor), np.tile(reward_K, (5, 1))):
            assert mixture_K.min() >= floor / 3 - 1e-12 and mixture_K.sum() == pytest.approx(1.0, abs=1e-12)


@every_control
def test_state_is_not_looked_at(name: str) -> None:
    control = BUILD[name](SKEWED, 0.2)
    np.testing.assert_array_equal(control.act(STATE), control.act(STATE + 7))


@every_control
def test_control_continues_after_a_restore(name: str) -> None:
    rewards_TK = np.random.default_rng(0).normal(size=(12, 3))
    whole, resumed = BUILD[name](SKEWED, 0.2), BUILD[name](SKEWED, 0.2)
    teach(whole, rewards_TK[:6])
    kept = whole.state_dict()
    expected = teach(whole, rewards_TK[6:])
    resumed.load_state_dict(kept)
    np.testing.assert_array_equal(expected, teach(resumed, rewards_TK[6:]))


def test_mirror_ascent_by_hand() -> None:
    """Logits add up rate times rewards, so a_i ~ anchor_i exp(rate * sum of r_i), above the floor."""
    control = MirrorAscent(SKEWED, uniform_fraction=0.0, step_size=0.5)
    np.testing.assert_allclose(control.act(STATE), SKEWED)
    rewards_TK = np.array([[1.0, 0.0, -1.0], [2.0, -1.0, 0.5], [0.3, 0.3, 0.3]])
    for mixture_K, sum_K in zip(teach(control, rewards_TK), rewards_TK.cumsum(0), strict=True):
        expected_K = SKEWED * np.exp(0.5 * sum_K)
        np.testing.assert_allclose(mixture_K, expected_K / expected_K.sum())
    above = MirrorAscent(SKEWED, uniform_fraction=0.25, step_size=0.5)
    np.testing.assert_allclose(teach(above, rewards_TK)[-1], 0.75 * mixture_K + 0.25 / 3)


def test_mirror_ascent_takes_noise_on_the_logits() -> None:
    noise_K = np.array([0.5, 0.0, -1.0])
    expected_K = softmax(np.log(SKEWED) + noise_K)
    np.testing.assert_allclose(
        MirrorAscent(SKEWED, uniform_fraction=0.0, step_size=0.5).act(STATE, noise_K), expected_K
    )


def test_bandit_is_odm_fed_with_the_reward() -> None:
    control = Bandit(SKEWED, uniform_fraction=0.2, total_steps=50)
    odm = build_mixer("odm", {"warmup": 0.0, "uniform_fraction": 0.2})
    odm.start(
        Start(
            domains=("a", "b", "c"),
            prior=0.8 * SKEWED + 0.2 / 3,
            tokens_available=np.ones(3),
            total_steps=50,
            rng=np.random.default_rng(0),
        )
    )
    rng, moved = np.random.default_rng(0), 0.0
    for step in range(30):
        np.testing.assert_allclose(control.act(STATE), odm.sampling_weights(step))
        moved = max(moved, np.ptp(odm.sampling_weights(step)))
        reward_K = rng.normal(2.0, 1.0, 3)
        control.learn(Transition(STATE, control.act(STATE), reward_K, STATE), rng)
        odm.observe(StepStats(step, np.zeros(3), {Signal.LOSS: reward_K}))
    assert moved > 0.1


def test_random_softmax_never_moves() -> None:
    control = BUILD["random"](SKEWED, 0.2)
    before = control.act(STATE)
    for mixture_K in teach(control, np.random.default_rng(0).normal(size=(5, 3))):
        np.testing.assert_array_equal(mixture_K, before)


def spread_of(mixture_NK: np.ndarray) -> tuple[float, float, float]:
    """Means over mixtures of the smallest share, the largest, and the entropy in nats."""
    entropy_N = -(mixture_NK * np.log(mixture_NK)).sum(1)
    return mixture_NK.min(1).mean(), mixture_NK.max(1).mean(), entropy_N.mean()


def test_random_softmax_spreads_like_the_releases_untrained_actor() -> None:
    """22 domains, 40 initialisations: shares from about .021 to .087, entropy 3.03."""
    anchor_K = np.full(22, 1 / 22)
    draws = [
        RandomSoftmax(anchor_K, uniform_fraction=0.0, logit_std=0.35, rng=np.random.default_rng(i)) for i in range(40)
    ]
    least, most, entropy = spread_of(np.array([control.act(STATE) for control in draws]))
    assert least == pytest.approx(0.021, abs=0.004) and most == pytest.approx(0.087, abs=0.012)
    assert entropy == pytest.approx(3.03, abs=0.015)


def test_our_networks_untrained_spread_like_the_releases() -> None:
    """The same figures from a network of the release's shape: 85 inputs, five blocks of 1024, 22 outputs."""
    shares, rng = [], np.random.default_rng(0)
    for seed in range(4):
        actor = perceptron(85, 1024, 5, 22, np.random.default_rng(seed))
        states = rng.normal(size=(10, 85)).clip(-3, 3).astype(np.float32)
        with torch.no_grad():
            shares.append(actor(torch.from_numpy(states)).double().softmax(-1).numpy())
    least, most, entropy = spread_of(np.concatenate(shares))
    assert 0.015 < least < 0.03 and 0.06 < most < 0.11
    assert entropy == pytest.approx(3.03, abs=0.03)


@every_control
def test_mixer_runs_with_a_control_in_the_agents_place(name: str) -> None:
    """The mixer's rewards reach it, and what it does not learn from is not measured."""
    mixer = start(acodm(agent=name, mirror_step_size=0.4, uniform_fraction=0.2, reward="cosine"))
    mixture_TK = run(mixer, 12)
    assert mixture_TK.min() >= 0.2 / 3 - 1e-12
    if name == "random":
        np.testing.assert_allclose(mixture_TK, np.tile(mixture_TK[0], (12, 1)))
        assert not mixer.needs & {Signal.GRAD_GRAM, Signal.ADAM_SKETCH}
    else:
        assert np.abs(mixture_TK[-1] - mixture_TK[0]).max() > 1e-3 and Signal.GRAD_GRAM in mixer.needs
