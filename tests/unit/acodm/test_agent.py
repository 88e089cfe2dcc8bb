"""The actors and critics of AC-ODM: what an update moves, and where the policy ends."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from made_up_signals import weights
from torch import Tensor

from acodm_core.acodm.agent import ActorCritic, Ddpg, MeanDdpg, Sac
from acodm_core.acodm.interface import Settings, Transition

K, S = 3, 4
UNIFORM = np.full(K, 1 / K)
SKEWED = np.array([0.5, 0.3, 0.2])
SETTINGS = Settings(
    hidden_size=8, layers=1, actor_lr=1e-2, critic_lr=1e-2, discount=0.5, target_rate=0.1, uniform_fraction=0.2,
    start_at_anchor=True, temperature=0.0, temperature_lr=1e-2, replay_size=500, minibatch_size=8, min_transitions=4,
    updates=1, robust=True,
)  # fmt: skip


def build(kind: type[ActorCritic], anchor_K: np.ndarray = UNIFORM, *, seed: int = 0, **changes: Any) -> Any:
    return kind(S, anchor_K, dataclasses.replace(SETTINGS, **changes), np.random.default_rng(seed))


BOTH = pytest.mark.parametrize("kind", [Ddpg, Sac])


def batch(rng: np.random.Generator, ours: ActorCritic, size: int = 8) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States, mixtures, rewards and following states."""
    states, following = rng.normal(size=(2, size, S))
    actions, rewards = rng.dirichlet(np.ones(K), size), rng.normal(size=(size, ours.replay.rows.reward.shape[1]))
    return tuple(torch.from_numpy(part).float() for part in (states, actions, rewards, following))


def transition(rng: np.random.Generator) -> Transition:
    return Transition(rng.normal(size=S), rng.dirichlet(np.ones(K)), rng.normal(size=K), rng.normal(size=S))


def fix_outputs(network: torch.nn.Sequential, values: list[float]) -> None:
    """Make the network say ``values`` whatever it is asked."""
    network[-1].weight.data.zero_()
    network[-1].bias.data[: len(values)] = torch.tensor(values)


# --- both agents ---


@BOTH
def test_building_an_agent_leaves_what_is_global_alone(kind: type[ActorCritic]) -> None:
    """And its networks are float32 on the CPU and learn, whatever torch's defaults."""
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"), torch.no_grad():
            one, other, different = (build(kind, seed=seed, min_transitions=1) for seed in (1, 1, 2))
            assert one.learn(transition(np.random.default_rng(0)), np.random.default_rng(0))
    finally:
        torch.set_default_dtype(torch.float32)
    assert np.array_equal(before[0], np.random.get_state()[1]) and torch.equal(before[1], torch.get_rng_state())
    assert {part.dtype for part in (*one.actor.parameters(), *one.critic.parameters())} == {torch.float32}
    assert np.array_equal(weights(other.critic), weights(build(kind, seed=1).critic))
    assert not np.array_equal(weights(other.critic), weights(different.critic))


@BOTH
def test_update_changes_every_layer_of_actor_and_critics(kind: type[ActorCritic]) -> None:
    """The release never steps its actor; ours must."""
    ours, rng = build(kind), np.random.default_rng(0)
    before = copy.deepcopy([ours.actor, ours.critic])
    for _ in range(3):  # the actor's head starts at zero, so its lower layers move from the second update on
        found = ours.update(*batch(rng, ours))
    for now, old in zip([ours.actor, ours.critic], before, strict=True):
        for (name, value), (_, was) in zip(now.named_parameters(), old.named_parameters(), strict=True):
            assert not torch.equal(value, was), f"{name} did not move"
    assert all(math.isfinite(value) for value in found.values())
    assert found["actor_grad_norm"] > 0 and found["critic_grad_norm"] > 0


@BOTH
def test_actor_step_leaves_the_critic_alone(kind: type[ActorCritic]) -> None:
    ours, rng = build(kind, critic_lr=0.0), np.random.default_rng(1)
    critic, actor = weights(ours.critic), weights(ours.actor)
    for _ in range(5):
        ours.update(*batch(rng, ours))
    assert np.array_equal(weights(ours.critic), critic) and not np.array_equal(weights(ours.actor), actor)


@BOTH
def test_critic_step_descends_the_temporal_difference(kind: type[ActorCritic]) -> None:
    still = dict(actor_lr=0.0, target_rate=0.0)
    ours, rng = build(kind, hidden_size=16, critic_lr=0.03, **still), np.random.default_rng(1)
    data = batch(rng, ours, size=16)
    errors = [ours.update(*data)["td_error"] for _ in range(100)]
    assert errors[-1] < 0.4 * errors[0]


@pytest.mark.parametrize(("kind", "names"), [(Ddpg, ("actor", "critic")), (Sac, ("critic",))])
def test_targets_lag_by_their_rate(kind: type[ActorCritic], names: tuple[str, ...]) -> None:
    """The soft agent looks ahead with the policy it has: it keeps no copy of its actor."""
    ours, rng = build(kind, target_rate=0.1), np.random.default_rng(0)
    for _ in range(3):
        before = {name: weights(getattr(ours, f"target_{name}")) for name in names}
        ours.update(*batch(rng, ours))
        for name, old in before.items():
            online, target = weights(getattr(ours, name)), weights(getattr(ours, f"target_{name}"))
            np.testing.assert_allclose(target, 0.9 * old + 0.1 * online, rtol=1e-5, atol=1e-7)
            assert not np.array_equal(target, online)


@BOTH
@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.9])
def test_uniform_part_holds_for_any_logits(kind: type[ActorCritic], fraction: float) -> None:
    ours = build(kind, uniform_fraction=fraction)
    for noise in (np.zeros(K), np.array([1e4, 0.0, -1e4]), np.array([-50.0, 50.0, 50.0])):
        mixture_K = ours.act(np.ones(S), noise)
        assert mixture_K.min() >= fraction / K - 1e-7 and abs(mixture_K.sum() - 1) < 1e-6


@BOTH
def test_untrained_policy_is_the_anchor_above_the_uniform_part(kind: type[ActorCritic]) -> None:
    for seed in range(3):
        ours = build(kind, SKEWED, seed=seed)
        for state in np.random.default_rng(seed).normal(size=(5, S)):
            np.testing.assert_allclose(ours.act(state), 0.8 * SKEWED + 0.2 / K, atol=1e-6)


@BOTH
def test_that_does_not_start_at_the_anchor_starts_by_seed_and_state(kind: type[ActorCritic]) -> None:
    one, other = (build(kind, start_at_anchor=False, seed=seed) for seed in (1, 2))
    here, there = np.ones(S), -np.ones(S)
    assert np.abs(one.act(here) - other.act(here)).max() > 1e-3
    assert np.abs(one.act(here) - one.act(there)).max() > 1e-3


@BOTH
def test_learns_from_the_first_full_pool_on_and_as_often_as_asked(kind: type[ActorCritic]) -> None:
    ours, rng = build(kind, min_transitions=5, updates=3), np.random.default_rng(0)
    sizes: list[int] = []
    update, ours.update = ours.update, lambda *drawn: sizes.append(len(drawn[0])) or update(*drawn)
    for step in range(7):
        assert bool(ours.learn(transition(rng), rng)) == (step >= 4)
    assert sizes == [8] * 9, "three minibatches of eight after each of the last three transitions"


@BOTH
def test_continues_exactly_after_a_restore(kind: type[ActorCritic]) -> None:
    """Networks, optimisers, buffer and the random numbers inside updates; also in a deep copy."""
    one, rng = build(kind), np.random.default_rng(0)
    steps = [transition(rng) for _ in range(16)]

    def go_on(ours: ActorCritic, part: list[Transition]) -> list[dict[str, float]]:
        draws = np.random.default_rng(3)
        return [ours.learn(step, draws) for step in part]

    go_on(one, steps[:10])
    other, copied = build(kind, seed=9), copy.deepcopy(one)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    expected = go_on(one, steps[10:])
    for ours in (other, copied):
        assert go_on(ours, steps[10:]) == expected
        for name in ("actor", "critic", "target_critic"):
            assert np.array_equal(weights(getattr(ours, name)), weights(getattr(one, name))), name


@BOTH
def test_gradients_are_held_to_a_norm_of_one_where_updates_are_robust(kind: type[ActorCritic]) -> None:
    for robust in (True, False):
        ours = build(kind, actor_lr=0.0, critic_lr=0.0, start_at_anchor=False, robust=robust)
        for network in ours.critic.networks:
            network[-1].weight.data *= 100.0
        found = ours.update(*batch(np.random.default_rng(0), ours))
        for name, network in (("actor", ours.actor), ("critic", ours.critic)):
            norm = torch.cat([part.grad.flatten() for part in network.parameters()]).norm().item()
            assert norm == pytest.approx(1.0 if robust else found[f"{name}_grad_norm"], rel=1e-5)
            assert found[f"{name}_grad_norm"] > 1


def taught(ours: ActorCritic, reward_K: np.ndarray, steps: int, noise: float) -> np.ndarray:
    """(20, K) what the agent draws in random states after so many steps of a noisy reward that no state changes."""
    rng, k = np.random.default_rng(0), len(reward_K)
    for _ in range(steps):
        state = rng.normal(size=S)
        mixture_K = ours.act(state, rng.normal(0, noise, k))
        ours.learn(Transition(state, mixture_K, reward_K + rng.normal(0, 0.1, k), rng.normal(size=S)), rng)
    return np.array([ours.act(state) for state in rng.normal(size=(20, S))])


POOL = dict(uniform_fraction=0.1, minibatch_size=32, min_transitions=16)


@BOTH
def test_finds_the_better_of_two_domains(kind: type[ActorCritic]) -> None:
    ours = build(kind, np.full(2, 0.5), discount=0.0, actor_lr=0.02, critic_lr=0.03, **POOL)
    mixtures = taught(ours, np.array([0.0, 1.0]), 150, noise=0.5)
    assert (mixtures.argmax(1) == 1).all() and mixtures[:, 1].mean() > 0.65


# --- DDPG ---


def test_goal_bootstraps_from_the_targets() -> None:
    """y = r + gamma Q'(s', mu'(s')): the error reported is the distance from that."""
    ours, rng = build(Ddpg, discount=0.7, temperature=0.3), np.random.default_rng(2)
    states, actions, rewards, following = data = batch(rng, ours)
    ours.update(*data)  # so that targets and networks differ
    goal = rewards + 0.7 * ours.target_critic(following, ours.target_actor(following))[0]
    expected = (goal - ours.critic(states, actions)[0]).abs().mean().item()
    assert ours.update(*data)["td_error"] == pytest.approx(expected, rel=1e-5)


def test_actor_step_raises_the_objective() -> None:
    ours, rng = build(Ddpg, critic_lr=0.0, temperature=0.1), np.random.default_rng(1)
    data = batch(rng, ours, size=32)
    values = [ours.update(*data)["objective"] for _ in range(20)]
    assert values[-1] > values[0]


def test_objective_is_the_expected_value_less_the_divergence() -> None:
    ours = build(Ddpg, SKEWED, temperature=0.7)
    fix_outputs(ours.critic.networks[0], [1.0, 0.0, -0.5])
    fix_outputs(ours.actor.network, [0.3, -0.2, 0.9])
    mixture_K, states = ours.act(np.zeros(S)), torch.zeros(2, S)
    divergence = (mixture_K * np.log(mixture_K / SKEWED)).sum()
    expected = mixture_K @ [1.0, 0.0, -0.5] - 0.7 * divergence
    assert ours.objective(states, ours.actor(states)).item() == pytest.approx(expected, rel=1e-5)
    assert divergence > 0.01


@pytest.mark.parametrize(("anchor_K", "temperature"), [(UNIFORM, 0.5), (SKEWED, 0.5), (SKEWED, 2.0)])
def test_optimum_at_fixed_values_is_the_anchor_times_their_exponential(
    anchor_K: np.ndarray, temperature: float
) -> None:
    """argmax of sum_i a_i Q_i - T KL(a || anchor) is a_i ~ anchor_i exp(Q_i / T)."""
    settings = dict(uniform_fraction=0.0, temperature=temperature, actor_lr=0.03, critic_lr=0.0)
    ours, rng = build(Ddpg, anchor_K, **settings), np.random.default_rng(0)
    value_K = np.array([1.0, 0.0, -0.5])
    fix_outputs(ours.critic.networks[0], value_K.tolist())
    data = batch(rng, ours)
    for _ in range(150):
        ours.update(*data)
    expected_K = anchor_K * np.exp(value_K / temperature)
    for state in data[0].numpy():
        np.testing.assert_allclose(ours.act(state), expected_K / expected_K.sum(), atol=0.01)


def test_without_a_temperature_the_optimum_is_a_corner() -> None:
    ours, rng = build(Ddpg, uniform_fraction=0.3, actor_lr=0.1, critic_lr=0.0), np.random.default_rng(0)
    fix_outputs(ours.critic.networks[0], [0.5, 0.4, 0.0])
    for _ in range(100):
        ours.update(*batch(rng, ours))
    np.testing.assert_allclose(ours.act(np.zeros(S)), [0.8, 0.1, 0.1], atol=0.02)


def test_draws_most_what_pays_most_and_least_what_pays_least() -> None:
    """One domain always pays more, or less: what two hundred updates make of it."""
    ours = build(Ddpg, np.full(4, 0.25), **POOL)
    mixtures = taught(ours, np.array([1.0, 0.0, 0.0, 0.0]), 216, noise=0.3)
    assert (mixtures.argmax(1) == 0).all() and mixtures[:, 0].mean() > 0.6
    ours = build(Ddpg, np.full(4, 0.25), **POOL)
    mixtures = taught(ours, np.array([0.0, 0.0, -1.0, 0.0]), 216, noise=0.3)
    assert (mixtures.argmin(1) == 2).all() and mixtures[:, 2].mean() < 0.1


def gradient_of_objective(ours: Ddpg) -> tuple[Tensor, Tensor]:
    """The objective, and its gradient by the actor's last biases, which are its logits."""
    states, bias = torch.zeros(2, S), ours.actor.network[-1].bias
    value = ours.objective(states, ours.actor(states))
    return value, torch.autograd.grad(value, bias)[0]


def test_divergence_is_finite_where_a_domain_vanishes() -> None:
    """Without a uniform part the softmax can underflow to zero, and 0 log 0 is 0."""
    ours = build(Ddpg, uniform_fraction=0.0, temperature=1.0)
    fix_outputs(ours.actor.network, [200.0, 0.0, -200.0])
    value, gradient_K = gradient_of_objective(ours)
    assert value.isfinite() and gradient_K.isfinite().all()


@pytest.mark.parametrize(("kind", "learns"), [(Ddpg, True), (MeanDdpg, False)])
def test_rewards_that_are_standardised_over_domains_leave_a_plain_mean_no_gradient(
    kind: type[Ddpg], learns: bool
) -> None:
    """Values that sum to zero and do not depend on the mixture: the release's objective is blind, the weighted sum is not."""
    ours = build(kind, uniform_fraction=0.0)
    fix_outputs(ours.critic.networks[0], [1.0, 0.0, -1.0])
    _, gradient_K = gradient_of_objective(ours)
    assert gradient_K.norm().item() > 0.1 if learns else not gradient_K.any()


# --- SAC ---


def test_temperature_rises_when_the_entropy_is_under_the_target_and_falls_above() -> None:
    for log_std, rises in ((-4.0, True), (0.5, False)):  # a domain's entropy is log_std + 1.42, its target -1
        ours, rng = build(Sac, actor_lr=1e-3), np.random.default_rng(0)
        ours.actor.network[-1].bias.data[K:] = log_std
        temperatures = [ours.update(*batch(rng, ours))["temperature"] for _ in range(10)]
        assert temperatures[0] == pytest.approx(1.0)
        assert (np.diff(temperatures) > 0).all() if rises else (np.diff(temperatures) < 0).all()


def test_untrained_soft_policy_has_the_target_entropy() -> None:
    """-K, one nat under nothing for each logit: a mixture that is drawn anew in every step hardly jumps."""
    ours = Sac(S, np.full(12, 1 / 12), SETTINGS, np.random.default_rng(0))
    mixtures, density = ours.sample(torch.zeros(4000, S))
    assert -density.mean().item() == pytest.approx(-12, abs=0.15)
    assert mixtures.diff(dim=0).abs().sum(1).mean().item() / 2 < 0.06


def test_density_of_a_sample_is_that_of_its_gaussian_logits() -> None:
    ours = build(Sac, uniform_fraction=0.0)
    fix_outputs(ours.actor.network, [0.5, 0.0, -0.5, -1.0, -3.0, -2.0])
    mixtures, density = ours.sample(torch.zeros(20_000, S))
    entropy = sum(s + 0.5 * math.log(2 * math.pi * math.e) for s in (-1.0, -3.0, -2.0))
    assert -density.mean().item() == pytest.approx(entropy, abs=0.03)
    logits = mixtures.log() - mixtures.log().mean(-1, keepdim=True)  # up to the constant that a softmax forgets
    np.testing.assert_allclose(logits.mean(0).detach(), [0.5, 0.0, -0.5], atol=0.03)


def test_noise_counts_in_the_policys_own_deviations() -> None:
    ours = build(Sac, uniform_fraction=0.0)
    fix_outputs(ours.actor.network, [0.0, 0.0, 0.0, -1.0, -2.0, -3.0])
    expected_K = np.exp([math.exp(-1), math.exp(-2), -math.exp(-3)])
    found_K = ours.act(np.zeros(S), np.array([1.0, 1.0, -1.0]))
    np.testing.assert_allclose(found_K, expected_K / expected_K.sum(), rtol=1e-5)


def test_deviations_stay_within_limits() -> None:
    ours = build(Sac, uniform_fraction=0.0)
    for extreme, std in ((100.0, math.exp(-1)), (-100.0, math.exp(-5))):
        ours.actor.network[-1].bias.data[K:] = extreme
        mixture_K = ours.act(np.zeros(S), np.array([1.0, 0.0, 0.0]))
        assert np.log(mixture_K[0] / mixture_K[1]) == pytest.approx(std, rel=1e-4)


def test_twin_critics_differ_and_the_lesser_is_believed() -> None:
    """y = R + gamma (min of the targets' values - temperature * log density)."""
    ours, rng = build(Sac, discount=0.7), np.random.default_rng(2)
    states, actions, rewards, following = data = batch(rng, ours, size=32)
    ours.update(*data)
    with torch.no_grad():  # made equal on average, so that each is the lesser somewhere
        first, second = ours.target_critic(following, actions).mean((1, 2))
        ours.target_critic.networks[1][-1].bias += first - second
        twin = copy.deepcopy(ours)  # draws the same noise
        ahead, density = twin.sample(following)
        both = ours.target_critic(following, ahead)
        assert (both[0] < both[1]).any() and (both[1] < both[0]).any()
        soft = both.amin(0) - ours.temperature["log"].exp() * density[:, None]
        expected = (rewards + 0.7 * soft - ours.critic(states, actions)[0]).abs().mean().item()
    assert ours.update(*data)["td_error"] == pytest.approx(expected, rel=1e-5)


def test_soft_agent_is_paid_the_mixtures_reward() -> None:
    """R = sum_i a_i r_i."""
    ours, rng = build(Sac, min_transitions=100), np.random.default_rng(0)
    ours.learn(Transition(np.zeros(S), SKEWED, np.array([1.0, -2.0, 3.0]), np.zeros(S)), rng)
    np.testing.assert_allclose(ours.replay.rows.reward[0], [0.5 - 0.6 + 0.6], rtol=1e-6)
