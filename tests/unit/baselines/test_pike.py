"""PiKE: more slope, less noise; the closed form is the minimum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from acodm_baselines.pike import minimise
from acodm_core.errors import UserError
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Mixer, Signal, Start, StepStats

TOKENS = 64  # a step


def started(k: int, steps: int = 100, **options: object) -> Mixer:
    mixer = build_mixer("pike", options)
    names, mixture_K = tuple(f"d{i}" for i in range(k)), np.full(k, 1 / k)
    mixer.start(
        Start(
            domains=names,
            prior=mixture_K,
            tokens_available=mixture_K * 1e6,
            total_steps=steps,
            rng=np.random.default_rng(0),
            tokens_per_step=TOKENS,
        )
    )
    return mixer


def observe(mixer: Mixer, step: int, square: list[float], noise: list[float], loss: list[float] | None = None) -> None:
    loss_K = np.array(loss or [2.0] * len(square))
    measured = {Signal.GRAD_SELF: np.array(square), Signal.GRAD_NOISE: np.array(noise), Signal.LOSS: loss_K}
    wanted = {signal: value for signal, value in measured.items() if signal in mixer.wants(step)}
    mixer.observe(StepStats(step, np.full(len(square), TOKENS / len(square)), wanted))


def run(
    mixer: Mixer, steps: int, square: list[float], noise: list[float], loss: list[float] | None = None
) -> np.ndarray:
    for step in range(steps):
        observe(mixer, step, square, noise, loss)
    return mixer.sampling_weights(steps)


@pytest.mark.parametrize("rule", ["practical", "conceptual"])
def test_leaves_the_domain_whose_gradients_are_noise(rule: str) -> None:
    noisy, quiet, steep = run(started(3, rule=rule), 100, [1.0, 1.0, 1.3], [900.0, 50.0, 50.0])
    assert noisy < 0.12 and noisy < quiet < steep


def test_the_practical_rule_is_the_papers_update_on_statistics_over_their_means() -> None:
    mixer = started(2, steps=2, every=0.5, slope=0.3, noise=0.2, memory=0.5, uniform_fraction=0.1)
    observe(mixer, 0, [3.0, 1.0], [10.0, 30.0])
    w = np.exp([0.3 * 1.5 - 0.2 * 0.5, 0.3 * 0.5 - 0.2 * 1.5])
    np.testing.assert_allclose(mixer.sampling_weights(1), 0.9 * w / w.sum() + 0.05)
    observe(mixer, 1, [1.0, 5.0], [30.0, 10.0])  # averages of both updates: (2, 3) and (20, 20)
    w = w * np.exp([0.3 * 0.8 - 0.2, 0.3 * 1.2 - 0.2])
    np.testing.assert_allclose(mixer.sampling_weights(2), 0.9 * w / w.sum() + 0.05)


def test_the_conceptual_rule_minimises_the_papers_bound() -> None:
    square, noise, step_size = np.array([1.0, 2.0, 0.5, 1.5]), np.array([10.0, 200.0, 5.0, 60.0]), 0.7
    found = run(started(4, rule="conceptual", step_size=step_size, uniform_fraction=0.0), 1, list(square), list(noise))
    lambda_K = -square + step_size * noise / (2 * TOKENS)

    def bound(w: np.ndarray) -> float:
        return lambda_K @ w + step_size * square @ w**2 / 2

    simplex = {"type": "eq", "fun": lambda w: w.sum() - 1}
    best = minimize(bound, np.full(4, 0.25), bounds=[(0, 1)] * 4, constraints=simplex, tol=1e-12)
    np.testing.assert_allclose(found, best.x, atol=1e-5)


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(0.01, 10)), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_nothing_on_the_simplex_is_below_the_closed_form(pairs: list[tuple[float, float]], seed: int) -> None:
    lambda_K, kappa_K = np.array(pairs).T
    found = minimise(lambda_K, kappa_K)
    assert (found >= 0).all() and abs(found.sum() - 1) < 1e-9
    slope_K = lambda_K + kappa_K * found
    assert slope_K[found > 0].max() <= slope_K.min() + 1e-7, "no weight can move to where it would cost less"
    other_SK = np.random.default_rng(seed).dirichlet(np.full(len(pairs), 0.5), size=50)
    cost = lambda w: w @ lambda_K + w**2 @ kappa_K / 2  # noqa: E731
    assert (cost(other_SK) >= cost(found) - 1e-9).all()


def test_neither_rule_depends_on_the_scale_of_the_loss() -> None:
    for rule in ("practical", "conceptual"):
        small, large = (run(started(2, rule=rule), 3, [s, 3 * s], [20 * s, 90 * s]) for s in (1e-6, 1e6))
        np.testing.assert_allclose(small, large, rtol=1e-9)


def test_balanced_pike_turns_to_the_domain_that_lags_behind() -> None:
    losses = [2.0, 2.0, 3.0]
    plain, balanced = started(3), started(3, balance=3.0)
    assert np.ptp(run(plain, 20, [1.0] * 3, [50.0] * 3, losses)) < 1e-9
    mixture_K = run(balanced, 20, [1.0] * 3, [50.0] * 3, losses)
    assert mixture_K[2] > mixture_K[:2].max() + 0.1
    assert plain.loss_weights(20) is None
    weight_K = balanced.loss_weights(20)
    np.testing.assert_allclose(weight_K / weight_K[0], [1, 1, np.exp(3.0)])


def test_balanced_pike_weighs_both_statistics_by_the_square_of_the_dual() -> None:
    y = np.exp(2.0 * np.array([1.0, 1.5]))
    square, noise = np.array([3.0, 1.0]), np.array([10.0, 30.0])
    balanced = run(started(2, balance=2.0), 1, list(square), list(noise), [1.0, 1.5])
    np.testing.assert_allclose(balanced, run(started(2), 1, list(square * y**2), list(noise * y**2)))


def test_asks_for_gradients_only_where_weights_change() -> None:
    mixer = started(2, steps=400)
    assert [step for step in range(12) if mixer.wants(step)] == [3, 7, 11]


def test_a_domain_that_is_not_measured_keeps_its_last_statistics() -> None:
    one, other = (started(3, memory=0.0) for _ in range(2))
    for mixer in (one, other):
        observe(mixer, 0, [3.0, 1.0, 1.0], [10.0, 30.0, 20.0])
    observe(one, 1, [np.nan, 2.0, 1.0], [np.nan, 10.0, 20.0])
    observe(other, 1, [3.0, 2.0, 1.0], [10.0, 10.0, 20.0])
    np.testing.assert_array_equal(one.sampling_weights(2), other.sampling_weights(2))


def test_a_domain_never_measured_counts_as_the_mean_one() -> None:
    mixture_K = run(started(3), 10, [2.0, 1.0, np.nan], [20.0, 40.0, np.nan])
    expected_K = run(started(3), 10, [2.0, 1.0, 1.5], [20.0, 40.0, 30.0])
    np.testing.assert_allclose(mixture_K, expected_K)


def test_squared_norms_below_zero_count_as_none() -> None:
    one, other = (run(started(2), 5, [1.0, square], [30.0, 30.0]) for square in (-0.5, 0.0))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(run(started(2), 5, [-1.0, -2.0], [30.0, 30.0]), [0.5, 0.5])


def test_refuses_options_out_of_range() -> None:
    for options, match in (
        ({"uniform_fraction": 1.0}, "uniform_fraction and memory"),
        ({"balance": -1.0}, "not be negative"),
    ):
        with pytest.raises(UserError, match=match):
            build_mixer("pike", options)
    with pytest.raises(UserError, match="'practical' or 'conceptual'"):
        build_mixer("pike", {"rule": "theoretical"})
