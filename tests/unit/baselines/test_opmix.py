"""OP-Mix on losses that follow planted laws: what it fits, what it solves for, and what it draws by."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from acodm_baselines.opmix import fit_law, solve
from acodm_core.errors import UserError
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Mixer, Signal, Start, StepStats, simplex

K, STEPS = 4, 100


def started(
    k: int = K, *, prior_K: np.ndarray | None = None, objective_K: np.ndarray | None = None, **options
) -> Mixer:
    mixer = build_mixer("opmix", options)
    prior_K = np.full(k, 1 / k) if prior_K is None else simplex(prior_K)
    names = tuple(f"d{i}" for i in range(k))
    mixer.start(
        Start(
            domains=names,
            prior=prior_K,
            tokens_available=prior_K,
            total_steps=STEPS,
            rng=np.random.default_rng(3),
            objective_weights=objective_K,
        )
    )
    return mixer


def laws(slope_KA: np.ndarray, weight_MA: np.ndarray, floor: float = 1.0) -> np.ndarray:
    """(K, M) losses by the laws floor + exp(t x)."""
    return floor + np.exp(slope_KA @ weight_MA.T)


def after(mixer: Mixer, loss_KM: np.ndarray) -> np.ndarray:
    """(K,) what it draws by once it has seen these losses; before and in that step it draws uniformly."""
    asked = [step for step in range(STEPS) if mixer.wants(step)]
    assert asked == [STEPS // 5 - 1], "one look, at the end of the first fifth"
    for step in range(STEPS):
        if step <= asked[0]:
            np.testing.assert_array_equal(mixer.sampling_weights(step), np.full(len(loss_KM), 1 / len(loss_KM)))
        signals = {Signal.ADAPTER_LOSS: loss_KM.copy()} if mixer.wants(step) else {}
        mixer.observe(StepStats(step, np.ones(len(loss_KM)), signals))
    return mixer.sampling_weights(STEPS)


def helper(k: int = K) -> np.ndarray:
    """(K, A) slopes of laws in which the first domain lowers every loss, and no other mixture changes any."""
    slope_KA = np.full((k, k + 1), 0.5)
    slope_KA[:, 1] -= 0.4
    return slope_KA


# --- the law ---


@pytest.mark.parametrize("seed", range(4))
def test_a_planted_law_is_recovered(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slope_A, weight_MA = rng.normal(0.5, 0.5, 5), rng.dirichlet(np.ones(5), 30)
    found_A = fit_law(weight_MA, laws(slope_A[None], weight_MA)[0])
    np.testing.assert_allclose(found_A, slope_A, atol=0.02)


def test_one_wild_loss_hardly_moves_the_law() -> None:
    rng = np.random.default_rng(0)
    slope_A, weight_MA = np.array([0.6, 0.1, 0.9]), rng.dirichlet(np.ones(3), 30)
    loss_M = laws(slope_A[None], weight_MA)[0]
    loss_M[7] += 5.0
    everywhere_MA = rng.dirichlet(np.ones(3), 100)
    found_M, true_M = (np.exp(everywhere_MA @ slope) for slope in (fit_law(weight_MA, loss_M), slope_A))
    np.testing.assert_allclose(found_M - found_M.mean(), true_M - true_M.mean(), atol=0.02)


def test_more_numbers_than_losses_still_give_a_law_through_them() -> None:
    rng = np.random.default_rng(1)
    weight_MA = rng.dirichlet(np.ones(9), 4)
    loss_M = np.array([2.0, 2.1, 1.9, 2.2])
    part_M = np.exp(weight_MA @ fit_law(weight_MA, loss_M))
    np.testing.assert_allclose(part_M - part_M[0], loss_M - loss_M[0], atol=1e-3)


# --- the solution ---


def expansion(k: int) -> np.ndarray:
    return np.vstack([np.full(k, 1 / k), np.eye(k)])


@pytest.mark.parametrize("pull", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_no_point_of_a_grid_costs_less_than_the_solution(seed: int, pull: float) -> None:
    rng, n = np.random.default_rng(seed), 60
    slope_KA, objective_K, prior_K = rng.normal(0, 1, (2, 3)), np.array([0.3, 0.7]), np.array([0.9, 0.1])

    def cost(x_A: np.ndarray) -> float:
        mixture_K = np.maximum(x_A @ expansion(2), 1e-300)
        return float(objective_K @ np.exp(slope_KA @ x_A) + pull * mixture_K @ np.log(mixture_K / prior_K))

    grid = [(i / n, j / n, (n - i - j) / n) for i, j in itertools.product(range(n + 1), repeat=2) if i + j <= n]
    cheapest = min(cost(np.array(point)) for point in grid)
    found_A = solve(slope_KA, objective_K, expansion(2), prior_K, pull)
    assert found_A.min() >= 0 and found_A.sum() == pytest.approx(1)
    assert cheapest - 2e-3 < cost(found_A) < cheapest + 1e-6


def test_where_all_mixtures_do_the_same_the_sizes_decide() -> None:
    """Of the cost only pull KL(p || q) is left, which is least at p = q."""
    prior_K = simplex(np.array([5.0, 3.0, 1.0]))
    found_A = solve(np.full((3, 4), 0.7), np.full(3, 1 / 3), expansion(3), prior_K, 0.05)
    np.testing.assert_allclose(found_A @ expansion(3), prior_K, atol=1e-3)


def test_a_case_worked_by_hand() -> None:
    """One loss exp(-x_1), two domains of one size: with p_1 = x_1 + x_old / 2 the old mix buys nothing that half of either does
    not, so x_old = 0, and -exp(-p) + pull log(p / (1 - p)) = 0. At p = 3/4 that is pull = exp(-3/4) / log 3."""
    pull = np.exp(-0.75) / np.log(3)
    found_A = solve(np.array([[-0.5, -1.0, 0.0]]), np.ones(1), expansion(2), np.full(2, 0.5), pull)
    assert found_A @ expansion(2) == pytest.approx([0.75, 0.25], abs=1e-5)


# --- the mixer ---


def test_domains_in_another_order_are_drawn_by_as_much() -> None:
    """The contract's check does not ask, because the models that are tried are random: here they move with the domains."""
    rng, order = np.random.default_rng(4), np.array([2, 0, 3, 1])
    moved = np.concatenate([[0], 1 + order])  # of the adapters, the old mix first
    prior_K, slope_KA = np.array([4.0, 3.0, 2.0, 1.0]), rng.normal(0.5, 0.2, (K, K + 1))
    one, other = started(prior_K=prior_K), started(prior_K=prior_K[order])
    other._weight_MA = one._weight_MA[:, moved]
    loss_KM = laws(slope_KA, one.adapters().weight_MA)
    mixture_K = after(one, loss_KM)
    assert np.ptp(mixture_K) > 0.1
    np.testing.assert_allclose(after(other, loss_KM[order]), mixture_K[order], atol=1e-3)


def test_a_domain_that_helps_all_is_drawn_more() -> None:
    mixer = started()
    mixture_K = after(mixer, laws(helper(), mixer.adapters().weight_MA))
    assert mixture_K[0] > 0.9 and mixture_K.sum() == pytest.approx(1)


def test_it_draws_for_the_losses_that_count() -> None:
    slope_KA = np.full((K, K + 1), 0.5)
    slope_KA[0, 1] -= 0.4  # the first two help themselves alone
    slope_KA[1, 2] -= 0.4
    for i in (0, 1):
        mixer = started(objective_K=np.eye(K)[i])
        loss_KM = laws(slope_KA, mixer.adapters().weight_MA)
        loss_KM[3] = np.nan  # of a domain that does not count
        assert after(mixer, loss_KM).argmax() == i


def test_models_that_diverged_are_left_out() -> None:
    whole, mixer = started(), started()
    loss_KM = laws(helper(), mixer.adapters().weight_MA)
    expected_K = after(whole, loss_KM.copy())
    loss_KM[:, ::4], loss_KM[1, 1] = np.inf, np.nan
    np.testing.assert_allclose(after(mixer, loss_KM), expected_K, atol=0.02)


@pytest.mark.parametrize("known", [0, 1])
def test_where_nothing_was_learned_the_old_mix_goes_on(known: int) -> None:
    mixer = started()
    loss_KM = laws(helper(), mixer.adapters().weight_MA)
    loss_KM[0, known:] = np.nan
    np.testing.assert_array_equal(after(mixer, loss_KM), np.full(K, 1 / K))


@pytest.mark.parametrize(("k", "models"), [(1, 20), (K, 20), (22, 24)])
def test_what_it_asks_for(k: int, models: int) -> None:
    asked = started(k, length=0.5).adapters()
    assert asked.weight_MA.shape == (models, k + 1) and asked.steps == max(1, round(50 / (k + 1)))
    np.testing.assert_allclose(asked.weight_MA.sum(1), 1)
    np.testing.assert_allclose(asked.mixture_AK[0], 1 / k)
    np.testing.assert_allclose(asked.mixture_AK[1:], 0.9 * np.eye(k) + 0.1 / k)


def test_one_domain_is_drawn_alone() -> None:
    mixer = started(1)
    assert after(mixer, laws(helper(1), mixer.adapters().weight_MA)) == pytest.approx([1.0])


@pytest.mark.parametrize("options", [{"prefix": 1.0}, {"length": 0.0}, {"replay": 1.0}, {"pull": -0.1}])
def test_options_that_mean_nothing_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        started(**options)
