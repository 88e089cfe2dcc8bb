"""AC-ODM inside: actor and critic, replay, reward, state, and what a frozen actor may do."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from acodm_core.acodm.agent import Agent
from acodm_core.acodm.mixer import AcOdm
from acodm_core.acodm.replay import Replay
from acodm_core.acodm.reward import alignment, relative_alignment, released_reward
from acodm_core.acodm.state import Normaliser, StateTracker
from acodm_core.errors import UserError
from acodm_core.mixing import Signal, Start, StepStats

torch.set_num_threads(1)


def agent(domains: int = 3, state: int = 4, **changes: object) -> Agent:
    settings = dict(hidden=16, layers=2, actor_lr=1e-2, critic_lr=1e-2, gamma=0.5, tau=0.1, floor=0.2, seed=0)
    return Agent(state, domains, **(settings | changes))


def batch(rng: np.random.Generator, domains: int = 3, state: int = 4, size: int = 8) -> tuple[np.ndarray, ...]:
    states, following = rng.normal(size=(2, size, state))
    actions, rewards = rng.dirichlet(np.ones(domains), size), rng.normal(size=(size, domains))
    return tuple(part.astype(np.float32) for part in (states, actions, rewards, following))


def weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()]).clone()


# --- actor and critic ---


def test_update_changes_every_layer_of_actor_and_critic() -> None:
    """The release never steps its actor; ours must."""
    ours, rng = agent(), np.random.default_rng(0)
    before = {name: copy.deepcopy(getattr(ours, name).state_dict()) for name in ("actor", "critic")}
    for _ in range(3):  # the actor's head starts at zero, so its lower layers move from the second update on
        found = ours.update(*batch(rng))
    for name, old in before.items():
        for key, value in getattr(ours, name).state_dict().items():
            assert not torch.equal(value, old[key]), f"{name}.{key} did not move"
    assert all(np.isfinite(value) for value in found.values())
    assert found["actor_grad_norm"] > 0 and found["critic_grad_norm"] > 0


def test_actor_step_leaves_the_critic_alone_and_raises_the_objective() -> None:
    ours, rng = agent(critic_lr=0.0), np.random.default_rng(1)
    frozen = weights(ours.critic)
    data = batch(rng, size=32)
    states = torch.from_numpy(data[0])
    before = ours.objective(states).item()
    for _ in range(20):
        ours.update(*data)
    assert torch.equal(weights(ours.critic), frozen)
    assert all(p.requires_grad for p in ours.critic.parameters())
    assert ours.objective(states).item() > before


def test_critic_step_descends_the_temporal_difference() -> None:
    ours, rng = agent(actor_lr=0.0, tau=0.0), np.random.default_rng(1)
    data = batch(rng, size=16)
    errors = [ours.update(*data)["td_error"] for _ in range(200)]
    assert errors[-1] < 0.3 * errors[0]


def test_objective_gradient_agrees_with_finite_differences() -> None:
    """d objective / d logits in double precision, through the floor and through the critic's view of the action."""
    ours = agent(domains=4, floor=0.25)
    for network in (ours.actor, ours.critic):
        network.double()
    torch.manual_seed(3)
    states = torch.randn(1, 4, dtype=torch.float64)
    logits = torch.randn(4, dtype=torch.float64)
    head = ours.actor[-1]  # with zero weights the logits are the head's bias
    torch.nn.init.zeros_(head.weight)

    def value(z: torch.Tensor) -> torch.Tensor:
        head.bias.data.copy_(z)
        return ours.objective(states)

    value(logits).backward()
    gradient, h = head.bias.grad.clone(), 1e-5
    numeric = [
        ((value(logits + h * unit) - value(logits - h * unit)) / (2 * h)).item()
        for unit in torch.eye(4, dtype=torch.float64)
    ]
    assert gradient.norm() > 1e-3
    np.testing.assert_allclose(gradient.numpy(), numeric, rtol=1e-6, atol=1e-9)
    assert abs(gradient.sum().item()) < 1e-9, "adding a constant to all logits changes nothing"


def test_objective_keeps_a_gradient_when_rewards_are_standardised() -> None:
    """Values that sum to zero over domains give the mean no gradient (the release), the weighted sum one."""
    ours = agent(floor=0.0)
    value_K = torch.tensor([1.0, 0.0, -1.0])
    ours.critic = lambda x: value_K.expand(len(x), -1)
    ours.objective(torch.zeros(2, 4)).backward()
    assert ours.actor[-1].bias.grad.norm() > 0.1


def test_goal_bootstraps_from_the_targets() -> None:
    """y = r + gamma Q'(s', mu'(s')): with an exact critic of that value there is no error."""
    ours, rng = agent(gamma=0.7), np.random.default_rng(2)
    states, actions, rewards, following = batch(rng)
    ours.update(states, actions, rewards, following)  # so that targets and networks differ
    old = copy.deepcopy(ours)
    with torch.no_grad():
        s, a, r, n = (torch.from_numpy(x) for x in (states, actions, rewards, following))
        ahead = old.policy(old.target_actor(n))
        goal = r + 0.7 * old.target_critic(torch.cat([n, ahead], -1))
        expected = (goal - old.critic(torch.cat([s, a], -1))).abs().mean().item()
    assert ours.update(states, actions, rewards, following)["td_error"] == pytest.approx(expected, rel=1e-5)


def test_targets_lag_by_tau() -> None:
    ours, rng = agent(tau=0.1), np.random.default_rng(0)
    for _ in range(3):
        before = {name: weights(getattr(ours, f"target_{name}")) for name in ("actor", "critic")}
        ours.update(*batch(rng))
        for name, old in before.items():
            online, target = weights(getattr(ours, name)), weights(getattr(ours, f"target_{name}"))
            torch.testing.assert_close(target, 0.9 * old + 0.1 * online)
            assert not torch.equal(target, online)


@pytest.mark.parametrize("floor", [0.0, 0.25, 0.9])
def test_floor_holds_for_any_logits(floor: float) -> None:
    ours = agent(floor=floor)
    for noise in (np.zeros(3), np.array([1e4, 0.0, -1e4]), np.array([-50.0, 50.0, 50.0])):
        share_K = ours.act(np.ones(4), noise)
        assert share_K.min() >= floor / 3 - 1e-7 and abs(share_K.sum() - 1) < 1e-6


def test_untrained_policy_is_uniform() -> None:
    for seed in range(3):
        ours = agent(seed=seed)
        for state in np.random.default_rng(seed).normal(size=(5, 4)):
            np.testing.assert_allclose(ours.act(state), 1 / 3, atol=1e-7)


def test_building_an_agent_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    one, other, different = agent(seed=1), agent(seed=1), agent(seed=2)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(weights(one.critic), weights(other.critic))
    assert not torch.equal(weights(one.critic), weights(different.critic))


@pytest.mark.parametrize(("best", "sign"), [(0, 1), (2, -1)])
def test_bandit_finds_the_rewarding_domain(best: int, sign: int) -> None:
    """One domain always pays more (less): after two hundred updates the policy draws it most (least)."""
    k, rng = 4, np.random.default_rng(0)
    ours = agent(domains=k, gamma=0.5, floor=0.1)
    replay = Replay(500, 4, k)
    reward_K = np.where(np.arange(k) == best, sign * 1.0, 0.0)
    for step in range(216):
        state = rng.normal(size=4)
        share_K = ours.act(state, rng.normal(0, 0.3, k))
        replay.add(state=state, action=share_K, reward=reward_K + rng.normal(0, 0.1, k), next_state=rng.normal(size=4))
        if step >= 16:
            ours.update(*replay.sample(32, rng))
    policies = np.array([ours.act(state) for state in rng.normal(size=(20, 4))])
    if sign > 0:
        assert (policies.argmax(1) == best).all() and policies[:, best].mean() > 0.6
    else:
        assert (policies.argmin(1) == best).all() and policies[:, best].mean() < 0.1


# --- replay ---


def transition(i: int) -> dict[str, np.ndarray]:
    return dict(
        state=np.full(2, i), action=np.full(3, i + 0.25), reward=np.full(3, i + 0.5), next_state=np.full(2, i + 1)
    )


def test_replay_keeps_transitions_together() -> None:
    replay, rng = Replay(10, 2, 3), np.random.default_rng(0)
    for i in range(7):
        replay.add(**transition(i))
    states, actions, rewards, following = replay.sample(500, rng)
    assert set(states[:, 0]) == set(range(7)), "all of them, and no empty row"
    for row in range(500):
        i = states[row, 0]
        assert (actions[row] == i + 0.25).all() and (rewards[row] == i + 0.5).all() and (following[row] == i + 1).all()


def test_replay_wraps_around() -> None:
    replay, rng = Replay(5, 2, 3), np.random.default_rng(0)
    for i in range(13):
        replay.add(**transition(i))
    assert len(replay) == 5
    states, actions, _, _ = replay.sample(300, rng)
    assert set(states[:, 0]) == {8, 9, 10, 11, 12}
    np.testing.assert_array_equal(actions[:, 0], states[:, 0] + 0.25)


@pytest.mark.parametrize("added", [0, 3, 5, 13])
def test_replay_continues_after_a_restore(added: int) -> None:
    one, other = Replay(5, 2, 3), Replay(5, 2, 3)
    for i in range(added):
        one.add(**transition(i))
    other.load_state_dict(one.state_dict())
    for i in range(added, added + 4):
        one.add(**transition(i))
        other.add(**transition(i))
    for mine, theirs in zip(
        one.sample(50, np.random.default_rng(1)), other.sample(50, np.random.default_rng(1)), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


def start(mixer: AcOdm, k: int = 3, steps: int = 50, **inputs: Path) -> AcOdm:
    prior = np.arange(1.0, k + 1) / np.arange(1.0, k + 1).sum()
    domains = tuple(f"domain_{i}" for i in range(k))
    mixer.start(Start(domains, prior, prior * 1e6, steps, np.random.default_rng(7), inputs))
    return mixer


def observe(mixer: AcOdm, step: int, loss_K: np.ndarray, gradients_KP: np.ndarray, norm: float = 1.0) -> None:
    present_K = np.isfinite(loss_K)
    gram_KK = gradients_KP @ gradients_KP.T
    gram_KK[~present_K] = np.nan
    gram_KK[:, ~present_K] = np.nan
    signals = {Signal.LOSS: loss_K, Signal.GRAD_GRAM: gram_KK, Signal.PARAM_NORM: np.full(2, norm)}
    wants = mixer.wants(step)
    mixer.observe(StepStats(step, present_K * 32.0, {s: v for s, v in signals.items() if s in wants}))


def test_mixer_stores_state_action_reward_and_next_state_of_one_step() -> None:
    """(s^{t-1}, a^t = what was drawn at t, reward of t, s^t): the next state of one row is the state of the next row."""
    mixer, rng = start(AcOdm(min_pool=10**6, warmup=0.0)), np.random.default_rng(0)
    shares, states = [], []
    for step in range(8):
        shares.append(mixer.sampling(step).copy())
        observe(mixer, step, rng.uniform(1, 4, 3), rng.normal(size=(3, 5)))
        states.append(mixer.state_.copy())
    rows = mixer.replay_.state_dict()
    assert rows["count"] == 7, "the first step has no state before it"
    for row in range(7):
        np.testing.assert_allclose(rows["state"][row], states[row], rtol=1e-6)
        np.testing.assert_allclose(rows["next_state"][row], states[row + 1], rtol=1e-6)
        np.testing.assert_allclose(rows["action"][row], shares[row + 1], rtol=1e-6)
    np.testing.assert_array_equal(rows["state"][1:], rows["next_state"][:-1])


# --- reward ---

ALIGNED = np.array([[1.0, 0.2, 0.0], [1.0, -0.2, 0.0], [-1.0, 0.0, 0.1]])  # two aligned domains and one opposed


def test_reward_is_the_off_diagonal_row_sum_by_hand() -> None:
    gram_KK = np.array([[4.0, 1.0, -3.0], [1.0, 9.0, 2.0], [-3.0, 2.0, 5.0]])
    np.testing.assert_allclose(alignment(gram_KK), [-2.0, 3.0, -1.0])
    np.testing.assert_allclose(relative_alignment(gram_KK, np.full(3, 1 / 3)), np.array([-2.0, 3.0, -1.0]) / (6 * 2))


def test_importance_by_hand() -> None:
    gram_KK, share_K = np.array([[4.0, 1.0, -3.0], [1.0, 9.0, 2.0], [-3.0, 2.0, 5.0]]), np.array([0.5, 0.3, 0.2])
    none_K = np.array([-2.0, 3.0, -1.0]) / 12
    np.testing.assert_allclose(relative_alignment(gram_KK, share_K, "literal"), none_K / share_K)
    summed_K = np.array([1.0 * 0.3 - 3.0 * 0.2, 1.0 * 0.5 + 2.0 * 0.2, -3.0 * 0.5 + 2.0 * 0.3]) / 6
    np.testing.assert_allclose(relative_alignment(gram_KK, share_K, "sum"), summed_K)
    # what the docstring says: <g_i, sum_{j != i} P_j g_j>
    gradients_KP = np.random.default_rng(0).normal(size=(3, 6))
    gram_KK = gradients_KP @ gradients_KP.T
    expected_K = [
        gradients_KP[i] @ sum(share_K[j] * gradients_KP[j] for j in range(3) if j != i) for i in range(3)
    ] / np.diag(gram_KK).mean()
    np.testing.assert_allclose(relative_alignment(gram_KK, share_K, "sum"), expected_K)


@pytest.mark.parametrize("importance", ["none", "sum", "literal"])
def test_reward_signs_of_aligned_and_opposed_domains(importance: str) -> None:
    gram_KK = np.vstack([ALIGNED, ALIGNED[:1]])  # a third friend, so that the aligned ones win
    gram_KK = gram_KK @ gram_KK.T
    reward_K = relative_alignment(gram_KK, np.full(4, 0.25), importance)
    assert reward_K[0] > 0 and reward_K[1] > 0 and reward_K[3] > 0 and reward_K[2] < 0


def test_opposed_domain_gets_less_than_orthogonal_gets_less_than_aligned() -> None:
    gradients_KP = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    reward_K = relative_alignment(gradients_KP @ gradients_KP.T, np.full(4, 0.25))
    np.testing.assert_allclose(reward_K, [0.0, 0.0, 0.0, -2 / 3])
    reward_K = relative_alignment((gradients_KP @ gradients_KP.T)[:3, :3], np.full(3, 1 / 3))
    assert reward_K[0] == reward_K[1] > reward_K[2] == 0.0


def test_identical_domains_get_the_same_reward() -> None:
    gradients_KP = np.random.default_rng(0).normal(size=(4, 9))
    gradients_KP[3] = gradients_KP[1]
    gram_KK, share_K = gradients_KP @ gradients_KP.T, np.array([0.4, 0.2, 0.2, 0.2])
    for importance in ("none", "sum", "literal"):
        reward_K = relative_alignment(gram_KK, share_K, importance)
        assert reward_K[1] == pytest.approx(reward_K[3], rel=1e-12)
    released_K = released_reward(gram_KK)
    assert released_K[1] == pytest.approx(released_K[3], rel=1e-12)


def test_reward_does_not_depend_on_the_loss_scale_or_on_absent_domains() -> None:
    gradients_KP = np.random.default_rng(0).normal(size=(4, 9))
    gram_KK, share_K = gradients_KP @ gradients_KP.T, np.full(4, 0.25)
    whole_K = relative_alignment(gram_KK, share_K)
    np.testing.assert_allclose(relative_alignment(gram_KK * 65536.0**2, share_K), whole_K, rtol=1e-12)
    gram_KK[2, :] = gram_KK[:, 2] = np.nan
    part_K, present = relative_alignment(gram_KK, share_K), [0, 1, 3]
    assert np.isnan(part_K[2])
    np.testing.assert_allclose(part_K[present], relative_alignment(gram_KK[np.ix_(present, present)], share_K[present]))
    assert np.isnan(relative_alignment(np.full((3, 3), np.nan), np.full(3, 1 / 3))).all()


def test_absent_domain_holds_its_reward_and_others_average() -> None:
    mixer = start(AcOdm(warmup=0.0, xi=0.9, min_pool=10**6))
    observe(mixer, 0, np.array([2.0, 2.0, np.nan]), ALIGNED)
    first_K = mixer.reward_.copy()
    assert np.isnan(first_K[2]) and np.isfinite(first_K[:2]).all(), "never seen: not known, and not 0"
    observe(mixer, 1, np.array([2.0, np.nan, 2.0]), ALIGNED)
    fresh_0 = ALIGNED[0] @ ALIGNED[2] / np.mean([ALIGNED[0] @ ALIGNED[0], ALIGNED[2] @ ALIGNED[2]])
    np.testing.assert_allclose(mixer.reward_, [0.9 * first_K[0] + 0.1 * fresh_0, first_K[1], fresh_0])


# --- state ---


def test_tracker_is_finite_from_the_first_step_with_absent_domains() -> None:
    tracker = StateTracker(4, 10)
    state = tracker.observe(0, np.array([0, 32, 0, 0]), np.array([np.nan, 3.0, np.nan, np.nan]), np.ones(2))
    assert state.shape == (tracker.size,) and np.isfinite(state).all()
    np.testing.assert_allclose(state[4:8], 3.0)  # the mean of the losses known, for those never seen


def test_tracker_holds_the_last_loss_of_an_absent_domain() -> None:
    tracker = StateTracker(2, 10, memory=0.9)
    tracker.observe(0, np.array([32, 32]), np.array([4.0, 2.0]), np.ones(2))
    state = tracker.observe(1, np.array([64, 0]), np.array([3.0, np.nan]), np.ones(2))
    np.testing.assert_allclose(state[2:4], [0.9 * 4.0 + 0.1 * 3.0, 2.0])
    np.testing.assert_allclose(state[4:6], [0.1 * -0.1, 0.0])
    slope = tracker.slope_K.copy()
    state = tracker.observe(2, np.array([0, 64]), np.array([np.nan, 1.0]), np.ones(2))
    assert state[2] == pytest.approx(3.9) and tracker.slope_K[0] == slope[0]
    assert state[3] == pytest.approx(1.9)


def test_tracker_by_hand() -> None:
    tracker = StateTracker(2, 10)
    tracker.observe(0, np.array([99, 99]), np.array([1.0, 1.0]), np.array([2.0, 4.0]))
    state = tracker.observe(1, np.array([200, 0]), np.array([1.0, np.nan]), np.array([4.0, 4.0]))
    np.testing.assert_allclose(state[:2], np.log([300 / 400 * 2, 100 / 400 * 2]))
    np.testing.assert_allclose(state[-3:], [np.log(2) / 2, 0.0, 0.2])


def test_state_has_the_same_length_for_every_depth() -> None:
    states = [StateTracker(3, 10).observe(0, np.ones(3), np.ones(3), np.ones(layers)) for layers in (1, 4, 9)]
    assert {len(state) for state in states} == {StateTracker(3, 10).size}


def test_normaliser_is_mean_and_deviation() -> None:
    data = np.random.default_rng(0).normal(3, 2, size=(50, 4))
    normaliser = Normaliser(4)
    for row in data:
        normaliser.update(row)
    np.testing.assert_allclose(normaliser.mean, data.mean(0))
    x = data[7]
    np.testing.assert_allclose(normaliser(x), (x - data.mean(0)) / (data.std(0, ddof=1) + 1e-3))
    assert np.abs(normaliser(np.full(4, 1e9))).max() == 5.0


def test_frozen_normaliser_does_not_move() -> None:
    normaliser = Normaliser(2)
    for row in np.random.default_rng(0).normal(size=(5, 2)):
        normaliser.update(row)
    before = normaliser.state_dict()
    normaliser.frozen = True
    normaliser.update(np.array([1e6, -1e6]))
    after = normaliser.state_dict()
    assert after["count"] == before["count"]
    np.testing.assert_array_equal(after["mean"], before["mean"])
    np.testing.assert_array_equal(after["m2"], before["m2"])


# --- transfer ---


@pytest.fixture
def actor(tmp_path: Path) -> Path:
    """Folder of a run that learned to prefer some domain."""
    mixer, rng = start(AcOdm(warmup=0.0, min_pool=4, actor_lr=1e-2)), np.random.default_rng(0)
    for step in range(40):
        observe(mixer, step, rng.uniform(1, 4, 3), ALIGNED + rng.normal(0, 0.1, ALIGNED.shape), 1 + step / 10)
    mixer.save(tmp_path)
    assert np.ptp(mixer.agent_.act(mixer.state_)) > 0.01
    return tmp_path


def test_frozen_actor_never_changes_and_asks_for_no_gradients(actor: Path) -> None:
    mixer, rng = start(AcOdm(learn=False), actor=actor), np.random.default_rng(1)
    assert Signal.GRAD_GRAM not in mixer.needs and Signal.GRAD_GRAM in AcOdm().needs
    assert AcOdm(learn=False).required_inputs() == ("actor",) and AcOdm().required_inputs() == ()
    before, normaliser = weights(mixer.agent_.actor), mixer.state_normaliser_.state_dict()
    shares = []
    for step in range(20):
        observe(mixer, step, rng.uniform(1, 4, 3), ALIGNED)
        shares.append(mixer.sampling(step + 1).copy())
    assert torch.equal(weights(mixer.agent_.actor), before)
    after = mixer.state_normaliser_.state_dict()
    assert all(np.array_equal(normaliser[name], after[name]) for name in normaliser)
    assert len(mixer.replay_) == 0
    assert np.ptp(shares, axis=0).max() > 1e-4, "the policy answers to the state"


def test_frozen_actor_is_the_one_that_was_learned(actor: Path) -> None:
    """Same state, same decision, without noise."""
    learner, rng = start(AcOdm(warmup=0.0, min_pool=4, actor_lr=1e-2)), np.random.default_rng(0)
    for step in range(40):
        observe(learner, step, rng.uniform(1, 4, 3), ALIGNED + rng.normal(0, 0.1, ALIGNED.shape), 1 + step / 10)
    mixer = start(AcOdm(learn=False), actor=actor)
    for state in rng.normal(size=(5, 12)):
        np.testing.assert_array_equal(mixer.agent_.act(state), learner.agent_.act(state))
    assert mixer.state_normaliser_.count == learner.state_normaliser_.count == 40


def test_actor_of_other_domains_is_refused_with_both_lists(actor: Path) -> None:
    for k, changed in ((4, None), (3, ("domain_0", "domain_2", "domain_1"))):
        domains = changed or tuple(f"domain_{i}" for i in range(k))
        mixer = AcOdm(learn=False)
        with pytest.raises(UserError) as error:
            mixer.start(Start(domains, np.full(k, 1 / k), np.ones(k), 10, np.random.default_rng(0), {"actor": actor}))
        text = str(error.value)
        assert str(["domain_0", "domain_1", "domain_2"]) in text and str(list(domains)) in text
        assert "actor.safetensors" in text


def test_actor_of_another_size_is_refused_in_words(actor: Path) -> None:
    for options in ({"hidden": 32}, {"layers": 3}):
        with pytest.raises(UserError, match=r"hidden|layers") as error:
            start(AcOdm(learn=False, **options), actor=actor)
        assert "actor.safetensors" in str(error.value)


def test_input_run_without_an_actor_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"actor\.safetensors"):
        start(AcOdm(learn=False), actor=tmp_path)
    with pytest.raises(UserError, match=r"inputs: \{actor: NAME_OF_A_METHOD\}"):
        start(AcOdm(learn=False))


# --- the mixer as a whole ---


def test_floor_holds_in_every_step() -> None:
    mixer, rng = start(AcOdm(warmup=0.0, min_pool=4, floor=0.25, noise=(20.0, 20.0))), np.random.default_rng(0)
    lowest = 1.0
    for step in range(50):
        assert mixer.sampling(step).min() >= 0.25 / 3 - 1e-7
        lowest = min(lowest, mixer.sampling(step).min())
        observe(mixer, step, rng.uniform(1, 4, 3), rng.normal(size=(3, 5)))
    assert lowest < 0.25 / 3 + 1e-3, "the floor was reached"


def test_warmup_draws_near_the_prior_and_then_stops() -> None:
    mixer, rng = start(AcOdm(warmup=0.2, min_pool=10**6, noise=(0.0, 0.0)), steps=50), np.random.default_rng(0)
    prior_K = np.arange(1.0, 4) / 6
    for step in range(20):
        share_K = mixer.sampling(step)
        if step < 10:
            assert np.abs(share_K - prior_K).max() < 0.15 and not np.allclose(share_K, prior_K, atol=1e-6)
        else:
            np.testing.assert_allclose(share_K, 1 / 3, atol=1e-6)  # the untrained policy
        observe(mixer, step, rng.uniform(1, 4, 3), ALIGNED)


def test_mixer_learns_to_draw_what_is_aligned() -> None:
    """Two aligned domains and one opposed: after a few hundred steps the opposed one is drawn least."""
    mixer, rng = start(AcOdm(warmup=0.05, actor_lr=1e-2, gamma=0.0), steps=300), np.random.default_rng(0)
    shares = []
    for step in range(300):
        shares.append(mixer.sampling(step).copy())
        observe(mixer, step, rng.uniform(2, 2.1, 3), ALIGNED + rng.normal(0, 0.2, ALIGNED.shape))
    last_K = np.mean(shares[-50:], axis=0)
    assert last_K.argmin() == 2 and last_K[2] < 0.2
