"""What each kind of reward pays for, by hand and against explicit formulas."""

from __future__ import annotations

import typing
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_signals import ALIGNED, stats

from acodm_core.acodm.reward import (
    SIGNALS,
    Importance,
    Kind,
    Reward,
    Scale,
    alignment,
    average,
    cosines,
    filled,
    relative_alignment,
    released_reward,
)
from acodm_core.mixing import Signal, simplex

NAN = np.nan
GRAM = np.array([[4.0, 1.0, -3.0], [1.0, 9.0, 2.0], [-3.0, 2.0, 5.0]])
KINDS: tuple[Kind, ...] = typing.get_args(Kind)


def reward(kind: Kind, k: int, *, objective_weights: list[float] | None = None, **changes: object) -> Reward:
    objective_K = np.full(k, 1 / k) if objective_weights is None else np.array(objective_weights)
    return Reward(
        kind, objective_K, **(dict(importance="none", reward_decay=0.0, scale="raw", signal_decay=0.5) | changes)
    )


def pay(ours: Reward, gradients_KP: np.ndarray, loss_K: np.ndarray | None = None, mixture_K=None) -> np.ndarray:
    """The reward of a step with these gradients, NaN where a domain is absent."""
    gradients_KP = np.asarray(gradients_KP, float)
    k = len(gradients_KP)
    loss_K = np.where(np.isnan(gradients_KP[:, 0]), NAN, 1.0) if loss_K is None else np.asarray(loss_K)
    return ours.observe(stats(0, loss_K, gradients_KP), np.full(k, 1 / k) if mixture_K is None else mixture_K)


def paid(ours: Reward, loss_K: list[float]) -> np.ndarray:
    return pay(ours, np.ones((len(loss_K), 2)), loss_K)


def paid_for(ours: Reward, fall_TK: np.ndarray, mixture_K: np.ndarray | None = None) -> np.ndarray:
    """(T, K) what ``progress`` without signal_decay pays when losses fall by so much: its raw reward is of a test's choice."""
    fall_TK = np.asarray(fall_TK, float)
    mixture_K = np.full(fall_TK.shape[1], 1 / fall_TK.shape[1]) if mixture_K is None else np.asarray(mixture_K)
    loss_TK = -np.vstack([np.zeros_like(fall_TK[:1]), fall_TK]).cumsum(0)
    return np.array([ours.observe({Signal.LOSS: loss_K}, mixture_K) for loss_K in loss_TK])[1:]


# --- alignment ---


def test_alignment_is_the_off_diagonal_row_sum_by_hand() -> None:
    np.testing.assert_allclose(alignment(GRAM), [-2.0, 3.0, -1.0])
    np.testing.assert_allclose(relative_alignment(GRAM, np.full(3, 1 / 3)), np.array([-2.0, 3.0, -1.0]) / (6 * 2))


def test_importance_by_hand() -> None:
    mixture_K = np.array([0.5, 0.3, 0.2])
    none_K = np.array([-2.0, 3.0, -1.0]) / 12
    np.testing.assert_allclose(relative_alignment(GRAM, mixture_K, "literal"), none_K / mixture_K)
    summed_K = np.array([1.0 * 0.3 - 3.0 * 0.2, 1.0 * 0.5 + 2.0 * 0.2, -3.0 * 0.5 + 2.0 * 0.3]) / 6
    np.testing.assert_allclose(relative_alignment(GRAM, mixture_K, "sum"), summed_K)
    # what the docstring says: <g_i, sum_{j != i} P_j g_j>
    gradients_KP = np.random.default_rng(0).normal(size=(3, 6))
    gram_KK = gradients_KP @ gradients_KP.T
    expected_K = [
        gradients_KP[i] @ sum(mixture_K[j] * gradients_KP[j] for j in range(3) if j != i) for i in range(3)
    ] / np.diag(gram_KK).mean()
    np.testing.assert_allclose(relative_alignment(gram_KK, mixture_K, "sum"), expected_K)


@pytest.mark.parametrize("importance", typing.get_args(Importance))
def test_reward_signs_of_aligned_and_opposed_domains(importance: Importance) -> None:
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
    gram_KK, mixture_K = gradients_KP @ gradients_KP.T, np.array([0.4, 0.2, 0.2, 0.2])
    for importance in typing.get_args(Importance):
        reward_K = relative_alignment(gram_KK, mixture_K, importance)
        assert reward_K[1] == pytest.approx(reward_K[3], rel=1e-12)
    released_K = released_reward(gram_KK)
    assert released_K[1] == pytest.approx(released_K[3], rel=1e-12)


def test_alignment_does_not_depend_on_the_loss_scale_or_on_absent_domains() -> None:
    gradients_KP = np.random.default_rng(0).normal(size=(4, 9))
    gram_KK, mixture_K = gradients_KP @ gradients_KP.T, np.full(4, 0.25)
    whole_K = relative_alignment(gram_KK, mixture_K)
    np.testing.assert_allclose(relative_alignment(gram_KK * 65536.0**2, mixture_K), whole_K, rtol=1e-12)
    gram_KK[2, :] = gram_KK[:, 2] = NAN
    part_K, present = relative_alignment(gram_KK, mixture_K), [0, 1, 3]
    assert np.isnan(part_K[2])
    np.testing.assert_allclose(
        part_K[present], relative_alignment(gram_KK[np.ix_(present, present)], mixture_K[present])
    )
    assert np.isnan(relative_alignment(np.full((3, 3), NAN), np.full(3, 1 / 3))).all()


def test_cosines_have_a_unit_diagonal_and_forget_lengths() -> None:
    gradients_KP = np.random.default_rng(0).normal(size=(3, 6))
    unit_KP = gradients_KP / np.linalg.norm(gradients_KP, axis=1, keepdims=True)
    np.testing.assert_allclose(cosines(gradients_KP @ gradients_KP.T), unit_KP @ unit_KP.T)
    scaled_KP = gradients_KP * np.array([[1e-6], [1.0], [1e6]])
    np.testing.assert_allclose(cosines(scaled_KP @ scaled_KP.T), unit_KP @ unit_KP.T)


# --- the kinds that are made of one step's gradients ---


def explicit(kind: Kind, g: np.ndarray) -> list[float]:
    """The formula of a kind, domain by domain, in loops."""
    k = len(g)
    if kind == "cosine":
        g = np.array([row / np.sqrt(row @ row) for row in g])
    others = [[g[i] @ g[j] for j in range(k) if j != i] for i in range(k)]
    if kind == "released":
        raw = np.array([sum(row) for row in others]) / np.mean([np.sqrt(row @ row) for row in g])
        return np.clip((raw - raw.mean()) / raw.std(ddof=1), -3, 3)
    square = np.mean([row @ row for row in g])
    own = [g[i] @ g[i] if kind == "self" else 0.0 for i in range(k)]
    return [(own[i] + sum(others[i])) / (k - 1) / square for i in range(k)]


@pytest.mark.parametrize("kind", ["alignment", "self", "cosine", "adam", "released"])
def test_kinds_made_of_one_steps_gradients_follow_their_formula(kind: Kind) -> None:
    gradients_KP = np.random.default_rng(3).normal(size=(4, 7)) * np.array([[1.0], [3.0], [0.2], [1.0]])
    np.testing.assert_allclose(pay(reward(kind, 4), gradients_KP), explicit(kind, gradients_KP), rtol=1e-7)
    absent_KP = gradients_KP.copy()
    absent_KP[1] = NAN
    first_K, present = pay(reward(kind, 4), absent_KP), [0, 2, 3]
    expected_K = explicit(kind, gradients_KP[present])
    np.testing.assert_allclose(first_K[present], expected_K, rtol=1e-7)
    assert first_K[1] == pytest.approx(np.mean(expected_K)), "never seen: the mean of those that were"


def test_each_kind_reads_its_own_signal_and_no_other() -> None:
    whole = stats(0, np.array([1.0, 2.0, 3.0]), ALIGNED)
    assert set(SIGNALS) == set(KINDS)
    for kind in KINDS:
        reward(kind, 3).observe({name: whole[name] for name in SIGNALS[kind]}, np.full(3, 1 / 3))


# --- descent ---


def test_descent_by_hand() -> None:
    """r_i = <g_i, sum_j w_j m_j> with averages m of *earlier* gradients; an absent domain keeps average and reward."""
    ours = reward("descent", 2, objective_weights=[0.25, 0.75])
    np.testing.assert_array_equal(pay(ours, [[1, 0], [0, 2]]), [0.0, 0.0])  # nothing earlier to agree with
    # goal = 1/4 (1, 0) + 3/4 (0, 2) = (.25, 1.5)
    np.testing.assert_allclose(pay(ours, [[1, 1], [0, 1]]), [1.75, 1.5])
    # averages (1, .5) and (0, 1.5); goal = (.25, 1.25)
    np.testing.assert_allclose(pay(ours, [[2, -1], [NAN, NAN]]), [-0.75, 1.5])
    # averages (1.5, -.25) and still (0, 1.5); goal = (.375, 1.0625)
    np.testing.assert_allclose(pay(ours, [[NAN, NAN], [4, 2]]), [-0.75, 3.625])


def test_descent_of_a_domain_seen_late() -> None:
    ours = reward("descent", 2)
    pay(ours, [[2, 0], [NAN, NAN]])
    np.testing.assert_allclose(pay(ours, [[3, 1], [NAN, NAN]]), [3.0, 3.0])  # unseen: the mean of the known
    np.testing.assert_allclose(pay(ours, [[NAN, NAN], [1, 8]]), [3.0, 3.25])  # goal = half of (2.5, .5) + 0
    np.testing.assert_allclose(pay(ours, [[0, 2], [0, 0]]), [8.5, 0.0])  # goal = half of (2.5, .5) and (1, 8)


def test_descent_pays_for_target_domains_only() -> None:
    """What helps a domain that does not count is worth nothing."""
    ours = reward("descent", 3, objective_weights=[1.0, 0.0, 0.0])
    gradients_KP = np.array([[1.0, 0, 0], [1.0, 1.0, 0], [0, 1.0, 1.0]])
    pay(ours, gradients_KP)
    np.testing.assert_allclose(pay(ours, gradients_KP), [1.0, 1.0, 0.0])


def test_descent_is_unbiased_where_the_diagonal_pays_for_noise() -> None:
    """One domain with something to learn, one of pure noise, gradients of both as noisy: only `self` pays the noise."""
    rng, signal_P = np.random.default_rng(0), np.eye(20)[0]
    kinds = {"descent": reward("descent", 2, signal_decay=0.9), "self": reward("self", 2)}
    sums = {kind: [] for kind in kinds}
    for _ in range(800):
        gradients_KP = rng.normal(size=(2, 20)) + np.array([signal_P, 0 * signal_P])
        for kind, ours in kinds.items():
            sums[kind].append(pay(ours, gradients_KP))
    descent_TK, self_TK = np.array(sums["descent"][50:]), np.array(sums["self"][50:])
    np.testing.assert_allclose(descent_TK.mean(0), [0.5, 0.0], atol=0.12)  # <signal, half the signal>, and nothing
    assert (self_TK.mean(0) > 0.7).all(), "its own noise agrees with itself"


# --- instant ---


def pay_instant(ours: Reward, sketch_KD: list[list[float]], self_K: list[float]) -> np.ndarray:
    sketch_KD, self_K = np.array(sketch_KD, float), np.array(self_K, float)
    return ours.observe(
        {Signal.ADAM_SKETCH: sketch_KD, Signal.ADAM_SELF: self_K}, np.full(len(self_K), 1 / len(self_K))
    )


def test_instant_by_hand() -> None:
    """r_i = sum_j w_j <g_i, g_j> of one step with ADAM_SELF where j = i; averages where a step could not measure."""
    ours = reward("instant", 2, objective_weights=[0.25, 0.75])
    # products (.5, 1; 1, 3): the norms 1 and 5 with their noise are not looked at
    np.testing.assert_allclose(pay_instant(ours, [[1, 0], [1, 2]], [0.5, 3]), [0.875, 2.5])
    # one sequence of the first, so no norm: its average .5 stands in; products (.5, 0; 0, 4)
    np.testing.assert_allclose(pay_instant(ours, [[2, 0], [0, 1]], [NAN, 4]), [0.125, 3.0])
    # the second is absent: the average of <g_0, g_1> is half of 1 and 0, and its own reward is held
    np.testing.assert_allclose(pay_instant(ours, [[1, 1], [NAN, NAN]], [2, NAN]), [0.875, 3.0])
    # the average norm is half of .5 and 2
    np.testing.assert_allclose(pay_instant(ours, [[0, 1], [1, 0]], [NAN, 1]), [0.3125, 0.75])


def test_instant_takes_a_product_that_was_never_measured_for_nothing() -> None:
    ours = reward("instant", 2)
    np.testing.assert_array_equal(pay_instant(ours, [[3, 1], [NAN, NAN]], [NAN, NAN]), [0.0, 0.0])
    np.testing.assert_allclose(pay_instant(ours, [[3, 1], [NAN, NAN]], [4, NAN]), [2.0, 2.0])  # unseen: the mean


def test_instant_pays_nothing_before_adam_has_a_metric() -> None:
    ours = reward("instant", 3)
    np.testing.assert_array_equal(pay_instant(ours, np.full((3, 4), NAN), [NAN] * 3), np.zeros(3))
    assert (pay_instant(ours, np.eye(3), [1.0] * 3) == 1 / 3).all()


def test_instant_does_not_pay_for_noise() -> None:
    """One domain with something to learn, one of pure noise; the product of two halves of a batch is a norm without noise."""
    rng, ours, paid_TK = np.random.default_rng(0), reward("instant", 2), []
    for _ in range(800):
        half_2KD = rng.normal(0, np.sqrt(0.5), size=(2, 2, 20))
        half_2KD[:, 0, 0] += 1.0
        paid_TK.append(pay_instant(ours, half_2KD.mean(0), (half_2KD[0] * half_2KD[1]).sum(1)))
    np.testing.assert_allclose(np.mean(paid_TK, axis=0), [0.5, 0.0], atol=0.15)  # half of 20 / 4 more with the noise


# --- progress ---


def test_progress_by_hand() -> None:
    """How far the average loss fell; nothing from a first loss, nothing new from an absent domain."""
    ours = reward("progress", 2)
    np.testing.assert_array_equal(paid(ours, [4.0, 2.0]), [0.0, 0.0])
    np.testing.assert_allclose(paid(ours, [2.0, NAN]), [1.0, 1.0])  # 4 -> 3; the other, unknown, has the mean
    np.testing.assert_allclose(paid(ours, [3.0, 1.0]), [0.0, 0.5])  # 3 -> 3, 2 -> 1.5
    np.testing.assert_allclose(paid(ours, [NAN, 2.5]), [0.0, -0.5])  # held; 1.5 -> 2


# --- signal_decay and scale ---


@pytest.mark.parametrize(("signal_decay", "mixed"), [(0.0, 5.0), (0.75, 2.0)])
def test_averages_go_entry_by_entry(signal_decay: float, mixed: float) -> None:
    old, new = np.array([[NAN, NAN], [NAN, 5.0], [1.0, NAN], [1.0, 5.0]]).T
    np.testing.assert_array_equal(average(old, new, signal_decay), [NAN, 5.0, 1.0, mixed])
    np.testing.assert_array_equal(average(old[3:], new[3:], signal_decay), [mixed])


def test_what_is_missing_is_filled_with_the_mean_of_what_is_not() -> None:
    assert filled(np.array([1.0, NAN, 4.0])).tolist() == [1.0, 2.5, 4.0]
    whole = np.array([1.0, 4.0])
    assert np.array_equal(filled(whole), whole)


def test_moving_average_starts_at_the_first_reward_and_holds_while_absent() -> None:
    ours = reward("alignment", 3, reward_decay=0.9)
    first_K = pay(ours, ALIGNED)
    np.testing.assert_allclose(first_K, explicit("alignment", ALIGNED))
    second_K = ALIGNED[:, ::-1] + 0.3
    expected_K = 0.9 * first_K + 0.1 * np.array(explicit("alignment", second_K))
    np.testing.assert_allclose(pay(ours, second_K), expected_K)
    third_KP = second_K.copy()
    third_KP[1] = NAN
    fresh_K = explicit("alignment", second_K[[0, 2]])
    held_K = [0.9 * expected_K[0] + 0.1 * fresh_K[0], expected_K[1], 0.9 * expected_K[2] + 0.1 * fresh_K[1]]
    np.testing.assert_allclose(pay(ours, third_KP), held_K)


def test_relative_scale_by_hand() -> None:
    """tanh((r - mean of r) / mean of |r|), domain by domain."""
    ours = reward("progress", 3, signal_decay=0.0, scale="relative")
    relative_TK = paid_for(ours, [[3, 1, -1], [2, 2, 2], [0, 0, 0], [0, -1, -5]])
    np.testing.assert_allclose(relative_TK[0], np.tanh([1.2, 0.0, -1.2]))  # mean 1, mean size 5/3
    np.testing.assert_array_equal(relative_TK[1:3], 0.0)  # what all domains have in common is no reason to prefer one
    np.testing.assert_allclose(relative_TK[3], np.tanh([1.0, 0.5, -1.5]))  # mean -2, mean size 2


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8), st.floats(1e-6, 1e6), st.floats(-10, 10))
@settings(max_examples=50, deadline=None)
def test_relative_scale_is_bounded_keeps_the_order_and_has_no_unit(
    fall_K: list[float], unit: float, level: float
) -> None:
    def relative(fall_K: np.ndarray) -> np.ndarray:
        return paid_for(reward("progress", len(fall_K), signal_decay=0.0, scale="relative"), [fall_K])[0]

    fall_K = np.round(fall_K, 3)
    relative_K = relative(fall_K)
    assert (np.abs(relative_K) <= 1).all()
    np.testing.assert_allclose(relative(unit * fall_K), relative_K, rtol=1e-6, atol=1e-9)
    order = np.argsort(fall_K, kind="stable")
    assert (np.diff(relative_K[order]) >= 0).all()
    assert (np.diff(relative(fall_K + level)[order]) >= -1e-12).all(), "a common level changes no order"


def test_running_scale_is_mean_and_deviation_over_all_values_so_far() -> None:
    raw, running = reward("descent", 3, reward_decay=0.5), reward("descent", 3, reward_decay=0.5, scale="running")
    rng, seen = np.random.default_rng(0), []
    for step in range(30):
        gradients_KP = rng.normal(size=(3, 5)) + 1.0
        raw_K, running_K = pay(raw, gradients_KP), pay(running, gradients_KP)
        if step == 0:
            np.testing.assert_array_equal(running_K, [0, 0, 0])  # no reward yet, so none that would count
            continue
        seen.append(raw_K)
        np.testing.assert_allclose(running_K, (raw_K - np.mean(seen)) / (np.std(seen, ddof=1) + 1e-6), rtol=1e-9)


# --- shrinking ---


def shrinking(k: int, **changes: object) -> Reward:
    return reward("progress", k, **(dict(signal_decay=0.0, reward_decay=0.9, shrinkage=True) | changes))


def left_by_shrinking(fall_TK: np.ndarray) -> np.ndarray:
    """(T,) the share of the rewards' differences that shrinking leaves."""
    plain, ours = (shrinking(fall_TK.shape[1], shrinkage=shrinkage) for shrinkage in (False, True))
    return np.ptp(paid_for(ours, fall_TK), axis=1) / np.ptp(paid_for(plain, fall_TK), axis=1)


def test_shrinking_by_hand() -> None:
    """Averages drawn to their mean by (1 - noise / spread) promise, with noise as the surprises so far show it."""
    ours = shrinking(2, reward_decay=0.5)
    # averages (1.5, .35) weigh both terms by half, so surprises (1, -.3) are noise of (1 + .09) / 2 * (1/4 + 1/4) in them
    second_K = paid_for(ours, [[1.0, 0.5], [2.0, 0.2]])[-1]
    certainty = 1 - (1.09 / 2 / 2) / (1.15**2 / 2)
    assert ours.certainty == pytest.approx(certainty)
    np.testing.assert_allclose(second_K, 0.925 + certainty * np.array([0.575, -0.575]))


def test_shrunk_rewards_are_relative_to_the_size_before() -> None:
    plain, ours = shrinking(3, shrinkage=False), shrinking(3, scale="relative")
    fall_TK = np.array([1.5, 0.8, -0.7]) + np.random.default_rng(0).normal(0, 0.8, size=(40, 3))
    raw_K, relative_K = paid_for(plain, fall_TK)[-1], paid_for(ours, fall_TK)[-1]
    assert 0.1 < ours.certainty < 0.9
    np.testing.assert_allclose(relative_K, np.tanh(ours.certainty * (raw_K - raw_K.mean()) / np.abs(raw_K).mean()))


def test_rewards_of_nothing_but_noise_shrink_to_nearly_none() -> None:
    """Every domain's loss falls alike but for noise: from the first measurement on that is what it is told as."""
    left_T = left_by_shrinking(1.0 + np.random.default_rng(0).normal(size=(300, 100)))
    assert left_T.mean() < 0.1 and np.median(left_T) < 0.05
    first_T = np.mean(
        [left_by_shrinking(1.0 + np.random.default_rng(s).normal(size=(15, 22))) for s in range(20)], axis=0
    )
    assert first_T.max() < 0.1


def test_clear_differences_survive_shrinking() -> None:
    rng, ours = np.random.default_rng(0), shrinking(5)
    level_K = np.array([0.2, 0.4, 0.6, 0.8, 1.0])
    paid_TK = paid_for(ours, level_K + rng.normal(0, 0.1, size=(100, 5)))
    assert ours.certainty > 0.95
    np.testing.assert_allclose(paid_TK[50:].mean(0), level_K, atol=0.05)


def test_shrinking_trusts_more_what_is_measured_more_clearly() -> None:
    error_TK = np.random.default_rng(0).normal(size=(150, 20))
    clear, fair, poor = (
        left_by_shrinking(np.linspace(0.5, 1.5, 20) + noise * error_TK)[50:].mean() for noise in (0.05, 0.8, 3.0)
    )
    assert clear > 0.95 > fair > 0.5 > poor


@pytest.mark.parametrize(
    ("fall_K", "mixture_K", "promise"),
    [
        ([1.0, -1.0], [0.7, 0.3], 0.4),
        ([1.0, -1.0], [0.5, 0.5], 0.0),
        ([1.0, -1.0], [0.3, 0.7], 0.0),
        ([-1.0, -3.0], [0.5, 0.5], 0.0),
        ([3.0, 1.0], [0.9, 0.1], 1.0),
    ],
)
def test_rewards_are_believed_as_far_as_they_promise_what_the_step_does(fall_K, mixture_K, promise: float) -> None:
    """sum_i P_i r_i over sum_i P_i |r_i|; an account by which the step would raise the loss tells nothing."""
    ours = shrinking(2)
    paid_K = paid_for(ours, [fall_K] * 3, mixture_K)[-1]
    assert ours.certainty == pytest.approx(promise)
    np.testing.assert_allclose(paid_K, np.mean(fall_K) + promise * (np.array(fall_K) - np.mean(fall_K)))


@pytest.mark.parametrize("kind", KINDS)
def test_shrunk_rewards_lie_between_their_mean_and_what_they_were(kind: Kind) -> None:
    rng, plain, ours = (
        np.random.default_rng(0),
        reward(kind, 4, reward_decay=0.8),
        reward(kind, 4, reward_decay=0.8, shrinkage=True),
    )
    certainties = []
    for _ in range(30):
        gradients_KP, loss_K = rng.normal(size=(4, 5)) + 0.5, rng.uniform(1, 4, 4)
        gradients_KP[rng.random(4) < 0.2] = NAN
        loss_K[np.isnan(gradients_KP[:, 0])] = NAN
        mixture_K = rng.dirichlet(np.ones(4))
        raw_K, shrunk_K = (pay(each, gradients_KP, loss_K, mixture_K) for each in (plain, ours))
        assert 0 <= ours.certainty <= 1 and plain.certainty == 1
        np.testing.assert_allclose(shrunk_K - raw_K.mean(), ours.certainty * (raw_K - raw_K.mean()), atol=1e-9)
        certainties.append(ours.certainty)
    assert np.ptp(certainties) > 0


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=1, max_size=6),
    st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(any),
    st.sampled_from([0.0, 0.5, 0.9]),
)
@settings(max_examples=50, deadline=None)
def test_certainty_lies_between_none_and_full(
    fall_TK: list[list[float]], mixture_K: list[float], reward_decay: float
) -> None:
    ours = shrinking(3, reward_decay=reward_decay)
    assert np.isfinite(paid_for(ours, fall_TK, simplex(mixture_K))).all() and 0 <= ours.certainty <= 1


def test_a_single_domain_has_nothing_to_shrink_to() -> None:
    np.testing.assert_array_equal(paid_for(shrinking(1, reward_decay=0.0), [[2.0], [3.0]]), [[2.0], [3.0]])


# --- units and restores ---


CARRY_A_UNIT = {("descent", "raw"), ("instant", "raw"), ("progress", "raw")}
UNITLESS = [pair for pair in product(KINDS, typing.get_args(Scale)) if pair not in CARRY_A_UNIT]


@pytest.mark.parametrize("shrinkage", [False, True])
@pytest.mark.parametrize(("kind", "scale"), UNITLESS)
def test_rewards_do_not_depend_on_the_unit_of_the_loss(kind: Kind, scale: Scale, shrinkage: bool) -> None:
    one, other = (reward(kind, 3, reward_decay=0.5, scale=scale, shrinkage=shrinkage) for _ in range(2))
    rng = np.random.default_rng(0)
    for _ in range(6):
        loss_K, gradients_KP = rng.uniform(1, 4, 3), rng.normal(size=(3, 5))
        here_K, there_K = pay(one, gradients_KP, loss_K), pay(other, 10 * gradients_KP, 10 * loss_K)
        np.testing.assert_allclose(here_K, there_K, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_rewards_continue_after_a_restore(kind: Kind) -> None:
    rng = np.random.default_rng(0)
    steps = [(rng.normal(size=(3, 5)), rng.uniform(1, 4, 3)) for _ in range(12)]
    for i, (gradients_KP, loss_K) in enumerate(steps):
        absent = (i % 4) if i else 2  # also before the first of them was seen
        if absent < 3:
            gradients_KP[absent], loss_K[absent] = NAN, NAN
    for cut in (0, 1, 5):
        whole, resumed = (reward(kind, 3, reward_decay=0.7, scale="running", shrinkage=True) for _ in range(2))
        for step in steps[:cut]:
            pay(whole, *step)
        kept = whole.state_dict()
        expected = [pay(whole, *step) for step in steps[cut:]]
        resumed.load_state_dict(kept)
        np.testing.assert_array_equal(expected, [pay(resumed, *step) for step in steps[cut:]])
