"""The actors and critics of AC-ODM: what an update moves, and where the policy ends."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made_up_signals import weights

from acodm_core.acodm.agent import LOG_STD, Ddpg, Learner, MeanDdpg, Sac
from acodm_core.acodm.network import Network, Pair
from acodm_core.acodm.replay import Minibatch, Transition

UNIFORM = np.full(3, 1 / 3)
SKEWED = np.array([0.5, 0.3, 0.2])
SETTINGS = dict(
    hidden=8, layers=1, actor_lr=1e-2, critic_lr=1e-2, gamma=0.5, tau=0.1, floor=0.2, zero_head=True,
    replay=500, minibatch=8, min_pool=4, updates=1, robust=True, seed=0,
)  # fmt: skip


def ddpg(anchor_K: np.ndarray = UNIFORM, state: int = 4, *, temperature: float = 0.0, **changes: object) -> Ddpg:
    return Ddpg(state, anchor_K, temperature=temperature, **(SETTINGS | changes))


def sac(anchor_K: np.ndarray = UNIFORM, state: int = 4, **changes: object) -> Sac:
    return Sac(state, anchor_K, **(SETTINGS | {"temperature_lr": 1e-2} | changes))


BOTH = pytest.mark.parametrize("build", [ddpg, sac])


def batch(rng: np.random.Generator, ours: Learner, state: int = 4, size: int = 8) -> Transition:
    k = len(ours.log_anchor_K)
    states, following = rng.normal(size=(2, size, state))
    actions, rewards = rng.dirichlet(np.ones(k), size), rng.normal(size=(size, 1 if isinstance(ours, Sac) else k))
    return Transition(*(part.astype(np.float32) for part in (states, actions, rewards, following)))


def minibatch(data: Transition) -> Minibatch:
    """As the buffer draws it."""
    states, actions, rewards, following = data
    return Minibatch(np.stack([beside(states, actions), beside(following, np.zeros_like(actions))]), rewards)


def beside(states: np.ndarray, mixtures: np.ndarray) -> np.ndarray:
    """What a critic is asked."""
    return np.concatenate([states, mixtures], -1)


def fix_values(ours: Ddpg, value_K: list[float]) -> None:
    """Make the critic say ``value_K`` whatever it is asked."""
    weight, bias = ours.critic.head
    weight.fill(0)
    bias[:] = value_K


def objective(ours: Ddpg, states: np.ndarray) -> tuple[float, np.ndarray]:
    """What the actor ascends, and its gradient by the logits."""
    mixtures = ours.policy(ours.actor(states)[0])
    value, slope = ours.objective(beside(states, mixtures))
    return value, ours.policy_backward(mixtures, slope)


def in_modules(network: Network, index: int = 0) -> torch.nn.Sequential:
    """The same network of torch's modules, in double precision: what autograd says of it is the reference."""
    named = {name: torch.from_numpy(value) for name, value in network.named(index).items()}
    parts: list[torch.nn.Module] = []
    for value in named.values():
        if value.ndim == 2:
            parts.append(torch.nn.Linear(value.shape[1], value.shape[0]))
            parts += [torch.nn.LayerNorm(len(value)), torch.nn.ReLU()]
    found = torch.nn.Sequential(*parts[:-2]).double()
    found.load_state_dict(named)
    return found


def gradients(network: Network) -> np.ndarray:
    """The network's gradients in torch's order and shapes, one vector, copy after copy."""
    shown = copy.deepcopy(network)
    shown.flat[:] = shown.grad
    return np.concatenate([part.ravel() for i in range(len(shown.flat)) for part in shown.named(i).values()])


def by_autograd(loss: torch.Tensor, *networks: torch.nn.Module) -> tuple[np.ndarray, float]:
    """The gradient of ``loss`` in one vector, clipped to a norm of 1, and the norm that it had."""
    parts = torch.autograd.grad(loss, [p for network in networks for p in network.parameters()])
    vector = torch.cat([part.flatten() for part in parts]).numpy()
    norm = float(np.linalg.norm(vector))
    return vector / max(1.0, norm), norm


# --- networks ---


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_network_and_its_gradients_are_those_of_torchs_modules(layers: int, copies: int) -> None:
    rng = np.random.default_rng(layers)
    ours = Network(7, 8, layers, 5, rng, copies)
    ours.flat += rng.normal(0, 0.1, ours.flat.shape).astype(np.float32)  # or scales and shifts were all alike
    x, weight = (rng.normal(size=shape).astype(np.float32) for shape in ((6, 7), (copies, 6, 5)))
    output, tape = ours.forward(x)
    ours.grad.fill(np.nan)
    ours.backward(tape, weight)
    by_parameters = np.split(gradients(ours), copies)
    by_inputs = ours.inputs_backward(tape, weight, last=3)
    for i in range(copies):
        reference, y = in_modules(ours, i), torch.from_numpy(x).double().requires_grad_()
        expected = reference(y)
        np.testing.assert_allclose(output[i], expected.detach(), rtol=1e-5, atol=1e-5)
        (expected * torch.from_numpy(weight[i])).sum().backward()
        expected_P = torch.cat([p.grad.flatten() for p in reference.parameters()])
        np.testing.assert_allclose(by_parameters[i], expected_P, rtol=1e-4, atol=2e-5)
        np.testing.assert_allclose(by_inputs[i], y.grad[:, -3:], rtol=1e-4, atol=1e-5)
    for i in range(copies):  # each may have inputs of its own
        np.testing.assert_allclose(ours(np.stack([x, -x])[:copies])[i], ours((x, -x)[i])[i], atol=1e-6)


def test_network_starts_as_torchs_modules_start() -> None:
    """Weights and biases between -1 / sqrt(inputs) and 1 / sqrt(inputs), norms at one and zero; no two copies alike."""
    torch.manual_seed(5)
    layers = [torch.nn.Linear(70, 80), torch.nn.LayerNorm(80), torch.nn.ReLU(), torch.nn.Linear(80, 50)]
    expected = torch.nn.Sequential(*layers).state_dict()
    ours = Network(70, 80, 1, 50, np.random.default_rng(5), copies=2)
    for index in range(2):
        assert {n: v.shape for n, v in ours.named(index).items()} == {n: tuple(v.shape) for n, v in expected.items()}
        for name, value in ours.named(index).items():
            assert value.min() == pytest.approx(expected[name].min().item(), rel=0.1), name
            assert value.max() == pytest.approx(expected[name].max().item(), rel=0.1), name
            assert value.std() == pytest.approx(expected[name].std().item(), rel=0.1), name
    assert not np.array_equal(ours.named(0)["0.weight"], ours.named(1)["0.weight"])


def test_copy_of_a_network_is_an_array_of_its_own() -> None:
    ours = Network(7, 8, 2, 5, np.random.default_rng(5))
    x, other = np.ones((1, 7), np.float32), copy.deepcopy(ours)
    before, kept = ours(x), weights(ours)
    other.flat -= 0.1
    assert not np.array_equal(other(x), before)
    assert np.array_equal(ours(x), before) and np.array_equal(weights(ours), kept)


@pytest.mark.parametrize("copies", [1, 2])
def test_a_pair_goes_side_by_side_as_each_goes_alone(copies: int) -> None:
    rng = np.random.default_rng(5)
    one = Network(7, 8, 2, 5, rng, copies)
    pair = copy.deepcopy(Pair(one))
    assert np.array_equal(pair.slow.flat, one.flat)
    pair.network.flat += rng.normal(0, 0.1, one.flat.shape).astype(np.float32)
    now, then = rng.normal(size=(2, 6, 7)).astype(np.float32)
    (mine, theirs), tape = pair.forward(np.stack([now, then])[:, None])
    expected, alone = pair.network.forward(now)
    np.testing.assert_allclose(mine, expected, atol=1e-6)
    np.testing.assert_allclose(theirs, one(then), atol=1e-6)
    pair.network.backward(tape, mine)
    grad = pair.network.grad.copy()
    pair.network.backward(alone, expected)
    np.testing.assert_allclose(grad, pair.network.grad, rtol=1e-4, atol=1e-5)
    pair.follow(0.25)
    np.testing.assert_allclose(pair.slow.flat, 0.75 * one.flat + 0.25 * pair.network.flat, atol=1e-6)
    other = Pair(Network(7, 8, 2, 5, rng, copies))
    other.load_state_dict(pair.state_dict())
    assert np.array_equal(other.slow(now), pair.slow(now)) and np.array_equal(other.network(now), pair.network(now))


# --- both agents ---


@BOTH
def test_update_changes_every_layer_of_actor_and_critics(build) -> None:
    """The release never steps its actor; ours must."""
    ours, rng = build(), np.random.default_rng(0)
    before = copy.deepcopy([ours.actor, ours.critic])
    for _ in range(3):  # the actor's head starts at zero, so its lower layers move from the second update on
        found = ours.update(minibatch(batch(rng, ours)))
    for now, old in zip([ours.actor, ours.critic], before, strict=True):
        for index in range(len(now.flat)):
            for name, value in now.named(index).items():
                assert not np.array_equal(value, old.named(index)[name]), f"{name} did not move"
    assert all(np.isfinite(value) for value in found.values())
    assert found["actor_grad_norm"] > 0 and found["critic_grad_norm"] > 0


@BOTH
def test_actor_step_leaves_the_critic_alone(build) -> None:
    ours, rng = build(critic_lr=0.0), np.random.default_rng(1)
    critic, actor = weights(ours.critic), weights(ours.actor)
    for _ in range(5):
        ours.update(minibatch(batch(rng, ours)))
    assert np.array_equal(weights(ours.critic), critic) and not np.array_equal(weights(ours.actor), actor)


@BOTH
def test_critic_step_descends_the_temporal_difference(build) -> None:
    ours, rng = build(hidden=16, actor_lr=0.0, critic_lr=0.03, tau=0.0), np.random.default_rng(1)
    data = batch(rng, ours, size=16)
    errors = [ours.update(minibatch(data))["td_error"] for _ in range(100)]
    assert errors[-1] < 0.4 * errors[0]


@pytest.mark.parametrize(("build", "names"), [(ddpg, ("actor", "critic")), (sac, ("critic",))])
def test_targets_lag_by_tau(build, names: tuple[str, ...]) -> None:
    """The soft agent looks ahead with the policy it has: it keeps no copy of its actor."""
    ours, rng = build(tau=0.1), np.random.default_rng(0)
    for _ in range(3):
        before = {name: weights(getattr(ours, f"target_{name}")) for name in names}
        ours.update(minibatch(batch(rng, ours)))
        for name, old in before.items():
            online, target = weights(getattr(ours, name)), weights(getattr(ours, f"target_{name}"))
            np.testing.assert_allclose(target, 0.9 * old + 0.1 * online, rtol=1e-5, atol=1e-7)
            assert not np.array_equal(target, online)


@BOTH
@pytest.mark.parametrize("floor", [0.0, 0.25, 0.9])
def test_floor_holds_for_any_logits(build, floor: float) -> None:
    ours = build(floor=floor)
    for noise in (np.zeros(3), np.array([1e4, 0.0, -1e4]), np.array([-50.0, 50.0, 50.0])):
        mixture_K = ours.act(np.ones(4), noise)
        assert mixture_K.min() >= floor / 3 - 1e-7 and abs(mixture_K.sum() - 1) < 1e-6


@BOTH
def test_untrained_policy_is_the_anchor_above_the_floor(build) -> None:
    for seed in range(3):
        ours = build(SKEWED, seed=seed)
        for state in np.random.default_rng(seed).normal(size=(5, 4)):
            np.testing.assert_allclose(ours.act(state), 0.8 * SKEWED + 0.2 / 3, atol=1e-6)


@BOTH
def test_without_a_zero_head_the_untrained_policy_depends_on_seed_and_state(build) -> None:
    one, other = build(zero_head=False, seed=1), build(zero_head=False, seed=2)
    here, there = np.ones(4), -np.ones(4)
    assert np.abs(one.act(here) - other.act(here)).max() > 1e-3
    assert np.abs(one.act(here) - one.act(there)).max() > 1e-3


@BOTH
def test_building_an_agent_leaves_the_global_generator_alone(build) -> None:
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    one, other, different = build(seed=1), build(seed=1), build(seed=2)
    assert np.array_equal(before[0], np.random.get_state()[1]) and torch.equal(before[1], torch.get_rng_state())
    assert np.array_equal(weights(one.critic), weights(other.critic))
    assert not np.array_equal(weights(one.critic), weights(different.critic))


@BOTH
def test_learns_from_the_first_full_pool_on_and_as_often_as_asked(build) -> None:
    ours, rng = build(min_pool=5, updates=3), np.random.default_rng(0)
    calls: list[int] = []
    update, ours.update = ours.update, lambda drawn: calls.append(len(drawn.reward)) or update(drawn)
    for step in range(7):
        found = ours.learn(Transition(rng.normal(size=4), UNIFORM, rng.normal(size=3), rng.normal(size=4)), rng)
        assert bool(found) == (step >= 4)
    assert calls == [8] * 9, "three minibatches of eight after each of the last three transitions"


@BOTH
def test_continues_exactly_after_a_restore(build) -> None:
    """Networks, optimisers, buffer and the random numbers inside updates."""
    one, rng = build(), np.random.default_rng(0)
    steps = [
        Transition(rng.normal(size=4), rng.dirichlet(np.ones(3)), rng.normal(size=3), rng.normal(size=4))
        for _ in range(16)
    ]

    def go_on(ours: Learner, part: list) -> list[dict[str, float]]:
        draws = np.random.default_rng(3)
        return [ours.learn(step, draws) for step in part]

    go_on(one, steps[:10])
    kept = one.state_dict()
    other = build(seed=9)
    other.load_state_dict(kept)
    assert go_on(one, steps[10:]) == go_on(other, steps[10:])
    assert np.array_equal(weights(one.actor), weights(other.actor))
    assert np.array_equal(weights(one.target_critic), weights(other.target_critic))
    again = build(seed=9)
    again.load_state_dict(kept)  # what was taken has not moved with the agent it came from
    go_on(again, steps[10:])
    assert np.array_equal(weights(again.actor), weights(one.actor))


@BOTH
def test_bandit_finds_the_better_of_two_domains(build) -> None:
    rng = np.random.default_rng(0)
    ours = build(np.full(2, 0.5), floor=0.1, minibatch=32, min_pool=16, gamma=0.0, actor_lr=0.02, critic_lr=0.03)
    for _ in range(150):
        state = rng.normal(size=4)
        mixture_K = ours.act(state, rng.normal(0, 0.5, 2))
        ours.learn(Transition(state, mixture_K, np.array([0.0, 1.0]) + rng.normal(0, 0.1, 2), rng.normal(size=4)), rng)
    policies = np.array([ours.act(state) for state in rng.normal(size=(20, 4))])
    assert (policies.argmax(1) == 1).all() and policies[:, 1].mean() > 0.65


# --- DDPG ---


def test_actor_step_raises_the_objective() -> None:
    ours, rng = ddpg(critic_lr=0.0, temperature=0.1), np.random.default_rng(1)
    data = batch(rng, ours, size=32)
    before, _ = objective(ours, data.state)
    for _ in range(20):
        ours.update(minibatch(data))
    assert objective(ours, data.state)[0] > before


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_update_has_the_gradients_that_autograd_finds(temperature: float) -> None:
    """Actor: through floor, critic's view of the action, and divergence. Critic: Huber loss to the targets' goal."""
    anchor_K = np.array([0.4, 0.3, 0.2, 0.1])
    still = dict(actor_lr=0.0, critic_lr=0.0, tau=0.0, zero_head=False)
    ours, rng = ddpg(anchor_K, layers=2, floor=0.25, temperature=temperature, **still), np.random.default_rng(3)
    data = batch(rng, ours)
    for target in (ours.target_actor, ours.target_critic):
        target.flat += rng.normal(0, 0.1, target.flat.shape).astype(np.float32)
    found = ours.update(minibatch(data))
    s, a, r, n = (torch.from_numpy(part).double() for part in data)
    parts = (ours.actor, ours.critic, ours.target_actor, ours.target_critic)
    actor, critic, target_actor, target_critic = (in_modules(network) for network in parts)
    log_anchor_K = torch.from_numpy(anchor_K).log()

    def mixture(logits: torch.Tensor) -> torch.Tensor:
        return 0.75 * (logits + log_anchor_K).softmax(-1) + 0.25 / 4

    goal = (r + 0.5 * target_critic(torch.cat([n, mixture(target_actor(n))], -1))).detach()
    values, mixed = critic(torch.cat([s, a], -1)), mixture(actor(s))
    gradient, norm = by_autograd(F.smooth_l1_loss(values, goal), critic)
    np.testing.assert_allclose(gradients(ours.critic), gradient, rtol=1e-3, atol=1e-6)
    assert found["critic_grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert found["td_error"] == pytest.approx((goal - values).abs().mean().item(), rel=1e-5)
    gain = (mixed * critic(torch.cat([s, mixed], -1))).sum(-1)
    gain = (gain - temperature * (mixed * (mixed.log() - log_anchor_K)).sum(-1)).mean()
    gradient, norm = by_autograd(-gain, actor)
    assert norm > 1e-3
    np.testing.assert_allclose(gradients(ours.actor), gradient, rtol=1e-3, atol=1e-6)
    assert found["actor_grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert found["objective"] == pytest.approx(gain.item(), rel=1e-5)
    np.testing.assert_allclose(objective(ours, data.state)[1].sum(-1), 0, atol=1e-7)


def test_gradients_are_clipped_to_a_norm_of_one() -> None:
    ours, rng = ddpg(actor_lr=0.0, critic_lr=0.0, zero_head=False), np.random.default_rng(0)
    ours.critic.head[0][:] *= 100.0
    found = ours.update(minibatch(batch(rng, ours)))
    assert found["actor_grad_norm"] > 1 and found["critic_grad_norm"] > 1
    assert np.linalg.norm(ours.actor.grad) == pytest.approx(1, rel=1e-5) == np.linalg.norm(ours.critic.grad)


def test_objective_is_the_expected_value_less_the_divergence() -> None:
    ours = ddpg(SKEWED, floor=0.2, temperature=0.7)
    fix_values(ours, [1.0, 0.0, -0.5])
    ours.actor.head[1][:] = [0.3, -0.2, 0.9]
    mixture_K = ours.act(np.zeros(4))
    divergence = (mixture_K * np.log(mixture_K / SKEWED)).sum()
    expected = mixture_K @ [1.0, 0.0, -0.5] - 0.7 * divergence
    assert objective(ours, np.zeros((2, 4), np.float32))[0] == pytest.approx(expected, rel=1e-5)
    assert divergence > 0.01


@pytest.mark.parametrize(("anchor_K", "temperature"), [(UNIFORM, 0.5), (SKEWED, 0.5), (SKEWED, 2.0)])
def test_optimum_at_fixed_values_is_the_anchor_times_their_exponential(
    anchor_K: np.ndarray, temperature: float
) -> None:
    """argmax of sum_i a_i Q_i - T KL(a || anchor) is a_i ~ anchor_i exp(Q_i / T)."""
    settings = dict(floor=0.0, temperature=temperature, actor_lr=0.03, critic_lr=0.0)
    ours, rng = ddpg(anchor_K, **settings), np.random.default_rng(0)
    value_K = np.array([1.0, 0.0, -0.5])
    fix_values(ours, value_K.tolist())
    data = batch(rng, ours)
    for _ in range(150):
        ours.update(minibatch(data))
    expected_K = anchor_K * np.exp(value_K / temperature)
    expected_K /= expected_K.sum()
    for state in data[0]:
        np.testing.assert_allclose(ours.act(state), expected_K, atol=0.01)


def test_without_a_temperature_the_optimum_is_a_corner() -> None:
    ours, rng = ddpg(floor=0.3, actor_lr=0.1, critic_lr=0.0), np.random.default_rng(0)
    fix_values(ours, [0.5, 0.4, 0.0])
    for _ in range(100):
        ours.update(minibatch(batch(rng, ours)))
    np.testing.assert_allclose(ours.act(np.zeros(4)), [0.8, 0.1, 0.1], atol=0.02)


def test_divergence_is_finite_where_a_share_vanishes() -> None:
    """Without a floor the softmax can underflow to zero, and 0 log 0 is 0."""
    ours = ddpg(floor=0.0, temperature=1.0)
    ours.actor.head[1][:] = [200.0, 0.0, -200.0]
    value, slope = objective(ours, np.zeros((2, 4), np.float32))
    assert math.isfinite(value) and np.isfinite(slope).all()


def test_objective_keeps_a_gradient_when_rewards_are_standardised() -> None:
    """Values that sum to zero over domains give the mean no gradient (the release), the weighted sum one."""
    ours = ddpg(floor=0.0)
    fix_values(ours, [1.0, 0.0, -1.0])
    assert np.linalg.norm(objective(ours, np.zeros((2, 4), np.float32))[1].sum(0)) > 0.1


def test_a_plain_mean_has_no_gradient_where_the_critic_does_not_look_at_the_mixture() -> None:
    mean, weighted = (build(4, UNIFORM, temperature=0.0, **SETTINGS) for build in (MeanDdpg, Ddpg))
    for ours in (mean, weighted):
        fix_values(ours, [1.0, 0.0, -0.5])
    states, actions = np.zeros((2, 4), np.float32), np.full((2, 3), 1 / 3, np.float32)
    assert not mean.objective(beside(states, actions))[1].any()
    assert weighted.objective(beside(states, actions))[1].any()


def test_a_plain_mean_has_the_gradient_of_differences_where_the_critic_looks() -> None:
    ours = MeanDdpg(4, UNIFORM, temperature=0.0, **SETTINGS)
    rng = np.random.default_rng(0)
    states, actions = rng.normal(size=(2, 4)).astype(np.float32), rng.dirichlet(np.ones(3), 2).astype(np.float32)
    value, slope = ours.objective(beside(states, actions))
    assert np.abs(slope).min() > 0
    for i, j in np.ndindex(2, 3):
        moved = actions.copy()
        moved[i, j] += (step := 1e-2)
        found = (ours.objective(beside(states, moved))[0] - value) / step
        assert found == pytest.approx(slope[i, j], rel=0.05, abs=1e-3)


def test_goal_bootstraps_from_the_targets() -> None:
    """y = r + gamma Q'(s', mu'(s')): the error reported is the distance from that."""
    ours, rng = ddpg(gamma=0.7, temperature=0.3), np.random.default_rng(2)
    data = batch(rng, ours)
    states, actions, rewards, following = data
    ours.update(minibatch(data))  # so that targets and networks differ
    ahead = ours.policy(ours.target_actor(following)[0])
    goal = rewards + 0.7 * ours.target_critic(beside(following, ahead))[0]
    expected = np.abs(goal - ours.critic(beside(states, actions))[0]).mean()
    assert ours.update(minibatch(data))["td_error"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("best", "sign"), [(0, 1), (2, -1)])
def test_bandit_finds_the_rewarding_domain(best: int, sign: int) -> None:
    """One domain always pays more (less): after two hundred updates the policy draws it most (least)."""
    k, rng = 4, np.random.default_rng(0)
    ours = ddpg(np.full(k, 1 / k), floor=0.1, minibatch=32, min_pool=16)
    reward_K = np.where(np.arange(k) == best, sign * 1.0, 0.0)
    for _ in range(216):
        state = rng.normal(size=4)
        mixture_K = ours.act(state, rng.normal(0, 0.3, k))
        ours.learn(Transition(state, mixture_K, reward_K + rng.normal(0, 0.1, k), rng.normal(size=4)), rng)
    policies = np.array([ours.act(state) for state in rng.normal(size=(20, 4))])
    if sign > 0:
        assert (policies.argmax(1) == best).all() and policies[:, best].mean() > 0.6
    else:
        assert (policies.argmin(1) == best).all() and policies[:, best].mean() < 0.1


def test_networks_of_the_release_have_the_size_it_has() -> None:
    """22 domains, 9 tensors, five blocks of 1024: 4,319,254 and 4,341,782 parameters (release at e95863e, agent.py)."""
    actor, critic = (Network(width, 1024, 5, 22, np.random.default_rng(0)) for width in (85, 85 + 22))
    assert actor.flat.size == 4_319_254 and critic.flat.size == 4_341_782


# --- SAC ---


def test_temperature_rises_when_the_entropy_is_under_the_target_and_falls_above() -> None:
    for log_std, rises in ((-4.0, True), (0.5, False)):  # a domain's entropy is log_std + 1.42, its target -1
        ours, rng = sac(actor_lr=1e-3), np.random.default_rng(0)
        ours.actor.head[1][..., 3:] = log_std
        temperatures = [ours.update(minibatch(batch(rng, ours)))["temperature"] for _ in range(10)]
        moves = np.diff(temperatures)
        assert temperatures[0] == pytest.approx(1.0)
        assert (moves > 0).all() if rises else (moves < 0).all()


def test_untrained_policy_has_the_target_entropy() -> None:
    """-K, one nat under nothing for each logit: a mixture that is drawn anew in every step hardly jumps."""
    ours = sac(np.full(12, 1 / 12))
    outputs = np.repeat(ours.actor(np.zeros((1, 4), np.float32))[0], 4000, 0)
    shares, density, _ = ours.sample(outputs)
    assert -density.mean() == pytest.approx(-12, abs=0.15)
    assert np.abs(np.diff(shares, axis=0)).sum(1).mean() / 2 < 0.06


def test_without_robustness_errors_count_squared_and_gradients_as_they_are() -> None:
    ours, rng = ddpg(actor_lr=0.0, critic_lr=0.0, zero_head=False, robust=False), np.random.default_rng(0)
    ours.critic.head[0][:] *= 100.0
    data = batch(rng, ours)
    goal = data.reward + 0.5 * ours.target_critic(
        beside(data.next_state, ours.policy(ours.target_actor(data.next_state)[0]))
    )
    found = ours.update(minibatch(data))
    critic = in_modules(ours.critic)
    values = critic(torch.from_numpy(beside(data.state, data.action)).double())
    loss = ((values - torch.from_numpy(goal[0]).double()) ** 2).mean()
    expected = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(critic.parameters()))])
    np.testing.assert_allclose(gradients(ours.critic), expected, rtol=1e-3, atol=1e-3)
    assert found["critic_grad_norm"] > 1 and np.linalg.norm(gradients(ours.critic)) > 1
    assert found["actor_grad_norm"] > 1 and np.linalg.norm(gradients(ours.actor)) > 1


def test_density_of_a_sample_is_that_of_its_gaussian_logits() -> None:
    ours = sac(floor=0.0)
    ours.actor.head[1][:] = [0.5, 0.0, -0.5, -1.0, -3.0, -2.0]
    shares, density, _ = ours.sample(ours.actor(np.zeros((20_000, 4), np.float32))[0])
    entropy = sum(s + 0.5 * math.log(2 * math.pi * math.e) for s in (-1.0, -3.0, -2.0))
    assert -density.mean() == pytest.approx(entropy, abs=0.03)
    logits = np.log(shares) - np.log(shares).mean(-1, keepdims=True)  # up to the constant that a softmax forgets
    np.testing.assert_allclose(logits.mean(0), [0.5, 0.0, -0.5], atol=0.03)


def test_noise_counts_in_the_policys_own_deviations() -> None:
    ours = sac(floor=0.0)
    ours.actor.head[1][:] = [0.0, 0.0, 0.0, -1.0, -2.0, -3.0]
    mixture_K = ours.act(np.zeros(4), np.array([1.0, 1.0, -1.0]))
    expected_K = np.exp([math.exp(-1), math.exp(-2), -math.exp(-3)])
    np.testing.assert_allclose(mixture_K, expected_K / expected_K.sum(), rtol=1e-5)


def test_deviations_stay_within_limits() -> None:
    ours = sac(floor=0.0)
    for extreme, std in ((100.0, math.exp(-1)), (-100.0, math.exp(-5))):
        ours.actor.head[1][..., 3:] = extreme
        mixture_K = ours.act(np.zeros(4), np.array([1.0, 0.0, 0.0]))
        assert np.log(mixture_K[0] / mixture_K[1]) == pytest.approx(std, rel=1e-4)


def test_twin_critics_differ_and_the_lesser_is_believed() -> None:
    """y = R + gamma (min of the targets' values - temperature * log density) with R = sum_i a_i r_i."""
    ours, rng = sac(gamma=0.7), np.random.default_rng(2)
    assert not np.array_equal(*ours.critic.flat)
    data = batch(rng, ours, size=32)
    ours.update(minibatch(data))
    states, actions, rewards, following = data
    # Made equal on average, so that each is the lesser somewhere.
    first, second = ours.target_critic(beside(following, actions)).mean((1, 2))
    ours.target_critic.head[1][1] += first - second
    drawn = copy.deepcopy(ours.random)
    (_, ahead), (_, density), _ = ours.sample(ours.actor(np.stack([states, following])))
    ours.random.bit_generator.state = drawn.bit_generator.state
    both = ours.target_critic(beside(following, ahead))[..., 0]
    assert (both[0] < both[1]).any() and (both[1] < both[0]).any()
    soft = both.min(0) - np.exp(ours.log_temperature) * density
    values = ours.critic(beside(states, actions))[0, :, 0]
    expected = np.abs(rewards[:, 0] + 0.7 * soft - values).mean()
    assert ours.update(minibatch(data))["td_error"] == pytest.approx(expected, rel=1e-5)


def test_soft_update_has_the_gradients_that_autograd_finds() -> None:
    """Actor: through noise, limits of the deviations, floor and the lesser critic. Temperature: towards the target entropy."""
    still = dict(actor_lr=0.0, critic_lr=0.0, tau=0.0, zero_head=False)
    ours, rng = sac(SKEWED, layers=2, **still), np.random.default_rng(3)
    ours.log_temperature = 0.3
    ours.actor.head[1][..., 3:] = [LOG_STD[1], -2.0, LOG_STD[0]]  # about half of the outer two lie beyond
    data, drawn_by = batch(rng, ours, size=32), copy.deepcopy(ours.random)
    s, a, _, n = (torch.from_numpy(part).double() for part in data)
    noise_now, ahead_noise = torch.from_numpy(drawn_by.standard_normal((2, 32, 3), np.float32)).double()
    actor, (first, second) = in_modules(ours.actor), (in_modules(ours.critic, index) for index in range(2))
    log_anchor_K = torch.from_numpy(SKEWED).log()

    def drawn(states: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_std = actor(states).chunk(2, -1)
        assert (log_std > LOG_STD[1]).any() and (log_std < LOG_STD[0]).any()
        logits = torch.distributions.Normal(mean, log_std.clamp(*LOG_STD).exp())
        z = mean + log_std.clamp(*LOG_STD).exp() * noise
        return 0.8 * (z + log_anchor_K).softmax(-1) + 0.2 / 3, logits.log_prob(z).sum(-1)

    def least(states: torch.Tensor, mixtures: torch.Tensor) -> torch.Tensor:
        return torch.minimum(*(critic(torch.cat([states, mixtures], -1))[:, 0] for critic in (first, second)))

    mixtures, density = drawn(n, ahead_noise)
    goal = (torch.from_numpy(data[2])[:, 0] + 0.5 * (least(n, mixtures) - math.exp(0.3) * density)).detach()
    both = [critic(torch.cat([s, a], -1))[:, 0] for critic in (first, second)]
    gradient, norm = by_autograd(sum(F.smooth_l1_loss(values, goal) for values in both), first, second)
    found = ours.update(minibatch(data))
    np.testing.assert_allclose(gradients(ours.critic), gradient, rtol=1e-3, atol=1e-6)
    assert found["critic_grad_norm"] == pytest.approx(norm, rel=1e-5)
    mixtures, density = drawn(s, noise_now)
    gain = (least(s, mixtures) - math.exp(0.3) * density).mean()
    gradient, norm = by_autograd(-gain, actor)
    np.testing.assert_allclose(gradients(ours.actor), gradient, rtol=1e-3, atol=1e-5)
    assert found["actor_grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert found["objective"] == pytest.approx(gain.item(), rel=1e-5)
    assert ours.temperature_optimiser.sum == pytest.approx(3 - density.mean().item(), rel=1e-4)


def test_soft_agent_is_paid_the_mixtures_reward() -> None:
    ours, rng = sac(min_pool=100), np.random.default_rng(0)
    ours.learn(Transition(np.zeros(4), SKEWED, np.array([1.0, -2.0, 3.0]), np.zeros(4)), rng)
    np.testing.assert_allclose(ours.replay.state_dict()["reward"], [[0.5 - 0.6 + 0.6]], rtol=1e-6)
