"""AC-ODM as a mixer: when it measures, what it stores, and how warm-up, floor and noise shape what is drawn."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from made_up_signals import ALIGNED, PLAIN, acodm, observe, run, start, stats, weights

from acodm_core.acodm.hds import Hds
from acodm_core.acodm.mixer import EVEN_ANCHOR, AcOdm
from acodm_core.acodm.paper import AcOdmPaper
from acodm_core.acodm.released import AcOdmReleased
from acodm_core.acodm.reward import SIGNALS
from acodm_core.errors import UserError
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Signal, simplex

COSTLY = {Signal.GRAD_GRAM, Signal.ADAM_SKETCH, Signal.ADAM_SELF, Signal.TYPE_TOKEN_RATIO}
PRIOR = np.arange(1.0, 4) / 6
NEVER = 10**6  # transitions before the first update: nothing is learned


# --- what is measured, and when ---


@pytest.mark.parametrize("kind", SIGNALS)
def test_asks_for_the_signals_that_its_options_look_at(kind: str) -> None:
    always = {Signal.LOSS, Signal.PARAM_NORM}
    assert acodm(reward=kind).needs == always | SIGNALS[kind]
    for form in ("paper", "released"):
        assert acodm(reward=kind, state_form=form).needs == always | SIGNALS[kind] | {Signal.PARAM_STEP_NORM}
    for idle in (acodm(reward=kind, learn=False), acodm(reward=kind, agent="frozen")):
        assert idle.needs == always, "what nobody learns from is not measured"


@pytest.mark.parametrize("agent", ["ddpg", "mirror", "bandit"])
def test_every_third_step_measures_and_decides(agent: str) -> None:
    mixer = start(
        acodm(agent=agent, decision_interval=3, reward="adam", exploration_noise=(0.5, 0.5), min_transitions=2)
    )
    mixture_TK = run(mixer, 22)
    for step in range(22):
        assert (Signal.ADAM_SKETCH in mixer.wants(step)) == (step % 3 == 0)
        assert {Signal.LOSS, Signal.PARAM_NORM} <= mixer.wants(step), "the state follows every step"
        if step:  # the share of step t was decided at t - 1
            moved = np.abs(mixture_TK[step] - mixture_TK[step - 1]).max() > 0
            explores = agent == "bandit" and step < 12  # ODM draws evenly until it has seen four rewards
            assert moved == ((step - 1) % 3 == 0 and not explores), step


def test_stored_transitions_reach_from_one_decision_to_the_next() -> None:
    mixer, rng = (
        start(acodm(decision_interval=4, min_transitions=NEVER, replay_size=NEVER, exploration_noise=(0.5, 0.5))),
        np.random.default_rng(0),
    )
    states, shares = [], []
    for step in range(13):
        shares.append(mixer.sampling_weights(step).copy())
        observe(mixer, step, rng.uniform(1, 4, 3), rng.normal(size=(3, 5)))
        states.append(mixer.state_.copy())
    rows = mixer.agent_.replay.rows
    assert mixer.agent_.replay.count == 3
    for row in range(3):
        np.testing.assert_allclose(rows.state[row], states[4 * row], rtol=1e-6)
        np.testing.assert_allclose(rows.next_state[row], states[4 * row + 4], rtol=1e-6)
        np.testing.assert_allclose(rows.action[row], shares[4 * row + 4], rtol=1e-6)


def test_stores_state_action_reward_and_next_state_of_one_step() -> None:
    """(s^{t-1}, a^t = what was drawn at t, reward of t, s^t): the next state of one row is the state of the next row."""
    mixer, rng = (
        start(acodm(min_transitions=NEVER, replay_size=NEVER, exploration_noise=(0.5, 0.5))),
        np.random.default_rng(0),
    )
    twin = copy.deepcopy(mixer.reward_)
    shares, states, rewards = [], [], []
    for step in range(8):
        shares.append(mixer.sampling_weights(step).copy())
        loss_K, gradients_KP = rng.uniform(1, 4, 3), rng.normal(size=(3, 5))
        rewards.append(twin.observe(stats(step, loss_K, gradients_KP), shares[-1]))
        observe(mixer, step, loss_K, gradients_KP)
        states.append(mixer.state_.copy())
    rows = mixer.agent_.replay.rows
    assert mixer.agent_.replay.count == 7, "the first step has no state before it"
    for row in range(7):
        np.testing.assert_allclose(rows.state[row], states[row], rtol=1e-6)
        np.testing.assert_allclose(rows.next_state[row], states[row + 1], rtol=1e-6)
        np.testing.assert_allclose(rows.action[row], shares[row + 1], rtol=1e-6)
        np.testing.assert_allclose(rows.reward[row], rewards[row + 1], rtol=1e-6)
    np.testing.assert_array_equal(rows.state[1:7], rows.next_state[:6])


def test_target_weights_reach_the_reward() -> None:
    mixer = start(acodm(reward="descent", reward_decay=0.0), objective_weights=np.array([0.0, 0.0, 1.0]))
    for step in range(3):
        observe(mixer, step, np.full(3, 2.0), ALIGNED)
    np.testing.assert_allclose(mixer.reward_.average_K, ALIGNED @ ALIGNED[2])


def test_instant_reward_is_paid_for_the_step_itself() -> None:
    mixer = start(acodm(reward="instant", reward_decay=0.0), objective_weights=np.array([0.0, 0.5, 0.5]))
    observe(mixer, 0, np.full(3, 2.0), ALIGNED)
    np.testing.assert_allclose(mixer.reward_.average_K, ALIGNED @ ALIGNED[1:].mean(0))


def test_shrinking_keeps_an_agent_near_its_anchor_when_rewards_are_noise() -> None:
    """Gradients that agree on a common part and differ by noise alone: mirror ascent follows the noise it is paid."""
    distances, common_P = [], 2 * np.eye(5)[0]
    for shrink in (False, True):
        mixer = start(acodm(agent="mirror", reward="descent", reward_scale="relative", shrinkage=shrink), 20, steps=100)
        rng = np.random.default_rng(0)
        for step in range(100):
            observe(mixer, step, np.full(20, 2.0), common_P + rng.normal(size=(20, 5)))
            if step == 30:  # noise is told as noise from where the average forgot its start
                mixer.agent_.logits_K[:] = 0.0
        distances.append(np.abs(mixer.sampling_weights(100) - 1 / 20).sum())
    assert distances[1] < 0.5 * distances[0]
    assert mixer.diagnostics()["certainty"] == mixer.reward_.certainty < 1


# --- warm-up ---


def test_warmup_draws_near_the_prior_and_then_stops() -> None:
    mixer = start(acodm(warmup=0.2, min_transitions=NEVER, replay_size=NEVER, uniform_fraction=0.0, warmup_noise=0.02))
    mixture_TK = run(mixer, 20)
    for step, mixture_K in enumerate(mixture_TK):
        if step < 10:
            assert np.abs(mixture_K - PRIOR).max() < 0.15 and not np.allclose(mixture_K, PRIOR, atol=1e-6)
        else:
            np.testing.assert_allclose(mixture_K, 1 / 3, atol=1e-6)  # the untrained policy
    assert len({tuple(mixture_K) for mixture_K in mixture_TK[:10]}) == 10, "noise is drawn anew in every step"


def test_warmup_by_another_mixer_draws_what_that_mixer_would() -> None:
    """ODM above the floor for the first fifth, the untrained policy from then on."""
    options = {"rule": "released", "alpha": 0.5, "warmup": 0.0}
    mixer = start(
        acodm(
            warmup=0.2,
            warmup_mixer="odm",
            warmup_options=options,
            uniform_fraction=0.3,
            min_transitions=NEVER,
            replay_size=NEVER,
            reward="progress",
        )
    )
    odm, rng = start(build_mixer("odm", options)), np.random.default_rng(0)
    for step in range(20):
        if step < 10:
            np.testing.assert_allclose(mixer.sampling_weights(step), 0.7 * odm.sampling_weights(step) + 0.1)
            assert step < 4 or np.ptp(odm.sampling_weights(step)) > 0.01
        else:
            np.testing.assert_allclose(mixer.sampling_weights(step), 1 / 3, atol=1e-6)
        loss_K, gradients_KP = rng.uniform(1, 4, 3), rng.normal(size=(3, 5))
        observe(mixer, step, loss_K, gradients_KP)
        observe(odm, step, loss_K, gradients_KP)


def test_what_only_the_warmup_needs_is_measured_only_for_the_steps_that_it_draws() -> None:
    mixer = start(acodm(warmup=0.2, warmup_mixer="pike"))
    assert Signal.GRAD_SELF in mixer.needs
    measured = [Signal.GRAD_SELF in mixer.wants(step) for step in range(20)]
    assert measured == [True] * 9 + [False] * 11, "what the last of its ten steps shows is of no use"


def test_transitions_of_the_warmup_are_stored() -> None:
    mixer = start(acodm(warmup=0.2, min_transitions=NEVER, replay_size=NEVER))
    run(mixer, 10)
    assert len(mixer.agent_.replay) == 9


TARGET = np.array([0.0, 0.2, 0.8])
ANCHORS = {
    "objective": (1 - EVEN_ANCHOR) * TARGET + EVEN_ANCHOR / 3,
    "uniform": np.full(3, 1 / 3),
    "prior": PRIOR,
}


@pytest.mark.parametrize("agent", ["ddpg", "sac", "mirror"])
@pytest.mark.parametrize("anchor", ANCHORS)
def test_anchor_is_what_an_untrained_policy_draws(anchor: str, agent: str) -> None:
    mixer = acodm(
        anchor=anchor, agent=agent, mirror_step_size=0.0, uniform_fraction=0.0, min_transitions=NEVER, replay_size=NEVER
    )
    np.testing.assert_allclose(
        run(start(mixer, objective_weights=TARGET), 5), np.tile(ANCHORS[anchor], (5, 1)), atol=1e-6
    )


def test_a_domain_that_does_not_count_keeps_its_part_of_the_anchors_spread() -> None:
    for zeros in range(1, 4):
        objective_K = simplex(np.array([0.0] * zeros + [1.0] * (4 - zeros)))
        mixer = start(
            acodm(anchor="objective", uniform_fraction=0.0, min_transitions=NEVER, replay_size=NEVER),
            4,
            objective_weights=objective_K,
        )
        mixture_K = run(mixer, 3, k=4)[-1]
        np.testing.assert_allclose(mixture_K[:zeros], EVEN_ANCHOR / 4, atol=1e-7)
        np.testing.assert_allclose(mixture_K[zeros:], (1 - EVEN_ANCHOR) / (4 - zeros) + EVEN_ANCHOR / 4, atol=1e-6)


def test_temperature_pulls_to_the_target_where_that_is_the_anchor() -> None:
    """What an agent at a high temperature learns is its anchor, also for a domain that does not count."""
    mixer, rng = (
        start(
            acodm(anchor="objective", temperature=30.0, discount=0.0, uniform_fraction=0.0), objective_weights=TARGET
        ),
        np.random.default_rng(0),
    )
    for step in range(50):
        observe(mixer, step, rng.uniform(2, 2.1, 3), ALIGNED + rng.normal(0, 0.2, ALIGNED.shape))
    np.testing.assert_allclose(mixer.sampling_weights(50), ANCHORS["objective"], atol=0.05)


# --- the repaired method, before it has learned ---


def untrained(objective_K: np.ndarray | None) -> np.ndarray:
    """(T, K) what the repaired method draws while nobody trains it, without its exploration."""
    return run(
        start(
            AcOdm(exploration_noise=(0.0, 0.0), min_transitions=NEVER, replay_size=NEVER), objective_weights=objective_K
        ),
        12,
    )


@pytest.mark.parametrize("objective_K", [TARGET, np.array([0.5, 0.3, 0.2]), np.array([1.0, 0.0, 0.0])], ids=str)
def test_untrained_repaired_policy_draws_the_target_weights_up_to_spread_and_floor(objective_K: np.ndarray) -> None:
    floor, twin = AcOdm().uniform_fraction, start(build_mixer("objective", {}), objective_weights=objective_K)
    kept = (1 - floor) * (1 - EVEN_ANCHOR)
    expected_K = kept * twin.sampling_weights(0) + (1 - kept) / 3
    np.testing.assert_allclose(untrained(objective_K), np.tile(expected_K, (12, 1)), atol=1e-7)
    assert np.abs(expected_K - objective_K).sum() / 2 <= floor + EVEN_ANCHOR


def test_untrained_repaired_policy_is_uniform_where_all_domains_count_alike() -> None:
    twin = start(build_mixer("uniform", {}))
    for objective_K in (None, np.full(3, 1 / 3)):
        np.testing.assert_allclose(untrained(objective_K), np.tile(twin.sampling_weights(0), (12, 1)), atol=1e-7)


def test_repaired_policy_draws_from_the_first_step() -> None:
    """No warm-up: its exploration starts around the target weights and not around the natural shares."""
    firsts_NK = [start(AcOdm(), objective_weights=TARGET, seed=seed).sampling_weights(0) for seed in range(60)]
    floor = AcOdm().uniform_fraction
    expected_K = (1 - floor) * ANCHORS["objective"] + floor / 3
    np.testing.assert_allclose(np.mean(firsts_NK, axis=0), expected_K, atol=0.03)
    assert np.ptp(firsts_NK, axis=0).min() > 0


# --- floor and noise ---


@pytest.mark.parametrize(
    "options",
    [
        {"exploration_noise": (20.0, 20.0)},
        {"warmup": 0.3, "warmup_noise": 5.0, "exploration_noise": (20.0, 20.0)},
        {"warmup": 0.3, "warmup_mixer": "odm", "warmup_options": {"rule": "released", "alpha": 0.0, "warmup": 0.0}},
        {"subtracted_noise": 0.3, "exploration_noise": (20.0, 20.0)},
        {"agent": "mirror", "mirror_step_size": 50.0},
        {"agent": "bandit"},
        {"agent": "random", "logit_std": 20.0, "subtracted_noise": 0.3},
        {"agent": "sac", "exploration_noise": (5.0, 5.0)},
    ],
    ids=["noise", "warm-up", "warm-up by odm", "subtract", "mirror", "bandit", "random", "sac"],
)
def test_floor_holds_in_every_step(options: dict) -> None:
    mixer, rng, lowest = start(acodm(uniform_fraction=0.25, **options)), np.random.default_rng(0), 1.0
    for step in range(40):
        mixture_K = mixer.sampling_weights(step)
        assert mixture_K.min() >= 0.25 / 3 - 1e-7 and mixture_K.sum() == pytest.approx(1.0, abs=1e-12)
        lowest = min(lowest, mixture_K.min())
        observe(mixer, step, rng.choice([0.01, 60.0], 3), rng.normal(size=(3, 5)))
    assert lowest < 0.25 / 3 + 0.03 or options["agent"] == "bandit", "the floor was nearly reached"


def test_noise_fades_from_the_first_to_the_last_step() -> None:
    mixer = start(
        acodm(uniform_fraction=0.0, exploration_noise=(1.0, 0.0), min_transitions=NEVER, replay_size=NEVER), steps=400
    )
    spread_T = np.ptp(np.log(run(mixer, 400)), axis=1)
    assert spread_T[:40].mean() > 1.0 and spread_T[-40:].mean() < 0.15 and spread_T[180:220].mean() > 0.4


def test_subtracted_noise_takes_from_each_share_and_leaves_the_floor() -> None:
    """a_i - subtract * U(0, 1), at least 0, renormalised, and only then the floor (release at e95863e, agent.py:546-561)."""
    mixer, floor = start(acodm(agent="frozen", start_at_anchor=False, subtracted_noise=0.2, uniform_fraction=0.3)), 0.3
    for step in range(10):
        draws = copy.deepcopy(mixer.rng_)
        observe(mixer, step, np.array([1.0, 2.0, 3.0]), ALIGNED)
        free_K = (mixer.agent_.act(mixer.state_) - floor / 3) / (1 - floor)
        left_K = simplex(np.maximum(free_K - 0.2 * draws.random(3), 0.0))
        np.testing.assert_allclose(mixer.sampling_weights(step + 1), (1 - floor) * left_K + floor / 3, atol=1e-9)
        assert np.abs(left_K - free_K).max() > 1e-3


def test_diagnostics_describe_the_decision() -> None:
    mixer = start(acodm(exploration_noise=(0.5, 0.5)))
    run(mixer, 7)
    before = mixer.sampling_weights(7).copy()
    observe(mixer, 7, np.array([1.0, 2.0, 3.0]), ALIGNED)
    found, mixture_K = mixer.diagnostics(), mixer.sampling_weights(8)
    assert found["entropy"] == pytest.approx(-(mixture_K * np.log(mixture_K)).sum())
    assert found["from_uniform"] == pytest.approx(np.abs(mixture_K - 1 / 3).sum() / 2)
    assert found["moved"] == pytest.approx(np.abs(mixture_K - before).sum() / 2)
    assert {"reward", "reward_std", "certainty", "q", "td_error", "actor_grad_norm", "critic_grad_norm"} <= set(found)


# --- learning ---


@pytest.mark.parametrize("agent", ["ddpg", "mirror"])
def test_mixer_learns_to_draw_what_is_aligned(agent: str) -> None:
    """Two aligned domains and one opposed: after some hundred steps the opposed one is drawn least."""
    mixer, rng = (
        start(acodm(agent=agent, warmup=0.05, discount=0.0, exploration_noise=(0.3, 0.05)), steps=150),
        np.random.default_rng(0),
    )
    shares = []
    for step in range(150):
        shares.append(mixer.sampling_weights(step).copy())
        observe(mixer, step, rng.uniform(2, 2.1, 3), ALIGNED + rng.normal(0, 0.2, ALIGNED.shape))
    last_K = np.mean(shares[-30:], axis=0)
    assert last_K.argmin() == 2 and last_K[2] < 0.2


def test_temperature_holds_the_mixture_near_the_anchor() -> None:
    distances = []
    for temperature in (0.0, 1.0, 30.0):
        mixer, rng = start(acodm(temperature=temperature, discount=0.0, uniform_fraction=0.0)), np.random.default_rng(0)
        for step in range(50):
            observe(mixer, step, rng.uniform(2, 2.1, 3), ALIGNED + rng.normal(0, 0.2, ALIGNED.shape))
        distances.append(np.abs(mixer.sampling_weights(50) - 1 / 3).sum())
    assert distances[0] > distances[1] > distances[2] and distances[2] < 0.05


def test_agent_that_nobody_trains_never_changes() -> None:
    mixer = start(acodm(agent="frozen", start_at_anchor=False))
    before = weights(mixer.agent_.actor), weights(mixer.agent_.critic)
    mixture_TK = run(mixer, 20)
    assert all(map(np.array_equal, before, (weights(mixer.agent_.actor), weights(mixer.agent_.critic))))
    assert len(mixer.agent_.replay) == 0
    assert np.ptp(mixture_TK, axis=0).max() > 1e-4, "its decisions follow the state all the same"


# --- the variants ---

SMALL = dict(hidden_size=8, hidden_layers=2)


def test_variants_are_what_their_sources_say() -> None:
    """Only what paper and release fix is pinned here; what is ours may be tuned."""
    paper, released, hds = AcOdmPaper(), AcOdmReleased(), Hds()
    assert (paper.reward, paper.importance, paper.reward_scale, paper.state_form) == (
        "alignment",
        "literal",
        "raw",
        "paper",
    )
    assert (paper.warmup, paper.warmup_mixer, paper.warmup_noise) == (0.02, "", 0.02)
    assert (paper.uniform_fraction, paper.temperature, paper.exploration_noise, paper.start_at_anchor) == (
        0.0,
        0.0,
        (0.0, 0.0),
        False,
    )
    assert (paper.agent, paper.hidden_size, paper.hidden_layers) == ("ddpg", 1024, 5)
    assert (paper.discount, paper.target_rate) == (0.95, 0.001)
    assert (paper.replay_size, paper.minibatch_size) == (10_000, 32)
    assert not paper.robust and not hds.robust, "neither paper names Huber's loss or clipped gradients"
    assert paper.reference_steps == released.reference_steps == hds.reference_steps == 41_667
    assert (released.agent, released.state_form, released.subtracted_noise) == ("frozen", "released", 1e-3)
    assert released.uniform_fraction == 22 / 144 and released.warmup == 0.02 and released.warmup_mixer == "odm"
    assert released.warmup_options["rule"] == "released" and released.warmup_options["alpha"] == 0.5
    assert (hds.agent, hds.reward, hds.discount, hds.target_rate) == ("sac", "released", 0.95, 0.001)
    assert (hds.diversity_weight, hds.stability_weight) == (10.0, 10.0)
    assert (hds.warmup, hds.warmup_mixer, hds.replay_size) == (0.02, "odm", 10_000)
    for variant in (paper, released, hds):  # none knows what is compared by, or doubts its rewards
        assert (variant.anchor, variant.shrinkage) == ("uniform", False)
        assert variant.reward not in ("descent", "instant")


def test_paper_variant_has_no_floor() -> None:
    mixer = start(AcOdmPaper(**SMALL, warmup=0.0))
    mixer.agent_.actor.network[-1].bias.data += torch.tensor([20.0, 0.0, -20.0])
    observe(mixer, 0, np.array([1.0, 2.0, 3.0]), ALIGNED)
    assert mixer.sampling_weights(1).min() < 1e-6


def test_paper_variant_draws_by_its_actor_without_noise() -> None:
    mixer = start(AcOdmPaper(**SMALL, warmup=0.0))
    for step in range(5):
        observe(mixer, step, np.array([1.0, 2.0, 3.0]), ALIGNED)
        np.testing.assert_allclose(mixer.sampling_weights(step + 1), mixer.agent_.act(mixer.state_), atol=1e-7)


def test_paper_variant_learns() -> None:
    mixer = start(AcOdmPaper(**SMALL, min_transitions=4))
    before = weights(mixer.agent_.actor)
    run(mixer, 10)
    assert not np.array_equal(weights(mixer.agent_.actor), before)


def test_released_variant_never_trains_and_measures_no_gradients() -> None:
    mixer = start(AcOdmReleased(**SMALL))
    before = weights(mixer.agent_.actor)
    mixture_TK = run(mixer, 30)
    assert np.array_equal(weights(mixer.agent_.actor), before)
    assert not mixer.needs & COSTLY and not any(mixer.wants(step) & COSTLY for step in range(30))
    assert mixture_TK.min() >= 22 / 144 / 3 - 1e-7


def test_released_variant_of_another_seed_has_another_actor() -> None:
    shares = [run(start(AcOdmReleased(**SMALL, warmup=0.0), seed=seed), 5)[-1] for seed in (1, 2)]
    assert np.abs(shares[0] - shares[1]).max() > 1e-2


def test_hds_pays_for_alignment_diversity_and_steady_weights_by_hand() -> None:
    """align_i + 10 (t / T) / TTR + 10 min(5, 1 / sum_l |change of |w_l||), the last 0 in the first step."""
    mixer = start(
        Hds(
            **SMALL,
            decision_interval=1,
            reward_decay=0.0,
            min_transitions=NEVER,
            replay_size=NEVER,
            uniform_fraction=0.25,
        ),
        steps=50,
    )
    gradients_KP = np.random.default_rng(0).normal(size=(3, 5))
    norms_TL = np.array([[1.0, 2.0], [1.5, 1.9], [1.5, 1.9001]])
    steady = [0.0, 10 / 0.6, 50.0]
    for step, norm_L in enumerate(norms_TL):
        measured = stats(step, np.array([1.0, np.nan, 3.0]), gradients_KP, norm_L)
        align_K = mixer.reward_.observe(measured, mixer.mixture_)  # without memory, so asking twice changes nothing
        expected_K = align_K + 10 * (step + 1) / 50 / 0.5 + steady[step]
        np.testing.assert_allclose(mixer.rewards(measured), expected_K, rtol=1e-9)


def test_hds_measures_the_type_token_ratio_only_where_it_is_used() -> None:
    ratio = Signal.TYPE_TOKEN_RATIO
    assert ratio in Hds().needs and ratio not in Hds(learn=False).needs
    mixer = start(Hds(decision_interval=3))
    assert [ratio in mixer.wants(step) for step in range(4)] == [True, False, False, True]


# --- options that do not fit ---


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"uniform_fraction": 1.0}, r"uniform_fraction must lie in \[0, 1\)"),
        ({"discount": -0.1}, "discount must lie"),
        ({"decision_interval": 0}, "decision_interval must be at least 1"),
        ({"hidden_layers": 0}, "hidden_layers must be at least 1"),
        ({"reference_steps": -1}, "reference_steps is a number of steps"),
        ({"replay_size": 3, "min_transitions": 4}, "replay_size 3 never holds the min_transitions 4"),
        ({"anchor": "natural"}, "natural"),
        ({"reward": "descent", "importance": "literal"}, "importance 'literal'"),
        ({"learn": False, "agent": "mirror"}, "leaves no actor"),
        ({"agent": "ddgp"}, "ddgp"),
        ({"reward": "alignments"}, "alignments"),
        ({"state_blocks": ["losses"]}, "losses"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_words(options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        build_mixer("acodm_core.acodm", PLAIN | options, where="methods.mine")
    assert "methods.mine.options" in str(error.value)


def test_blocks_may_be_a_list_as_in_yaml() -> None:
    mixer = build_mixer("acodm_core.acodm", {"state_blocks": ["loss", "time"]})
    assert isinstance(mixer, AcOdm) and mixer.state_blocks == ("loss", "time")


@pytest.mark.parametrize(
    ("old", "new"), [("xi", "reward_decay"), ("floor", "uniform_fraction"), ("hidden", "hidden_size")]
)
def test_an_option_under_its_name_of_before_is_refused_with_the_new_one(old: str, new: str) -> None:
    with pytest.raises(UserError, match=f"write '{new}'"):
        build_mixer("acodm_core.acodm", {old: 0})
