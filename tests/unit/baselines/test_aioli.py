"""Aioli on losses that fall by a planted law: L(t+1) = L(t) - A p(t)."""

import numpy as np
import pytest

from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Mixer, Signal, Start, StepStats

K = 4


def started(objective_weights: np.ndarray | None = None, steps: int = 1000, k: int = K, **options: float) -> Mixer:
    mixer = build_mixer("aioli", options)
    names, even_K = tuple(f"d{i}" for i in range(k)), np.full(k, 1 / k)
    mixer.start(
        Start(
            domains=names,
            prior=even_K,
            tokens_available=even_K,
            total_steps=steps,
            rng=np.random.default_rng(3),
            objective_weights=objective_weights,
        )
    )
    return mixer


def train(mixer: Mixer, effect_KK: np.ndarray, steps: range, loss_K: np.ndarray | None = None) -> np.ndarray:
    """(T, K) shares asked for, while the losses fall by the law."""
    loss_K, shares = np.full(len(effect_KK), 9.0) if loss_K is None else loss_K, []
    for step in steps:
        shares.append(mixer.sampling_weights(step).copy())
        loss_K = loss_K - effect_KK @ shares[-1]
        signals = {Signal.VALID_LOSS: loss_K} if mixer.wants(step) else {}
        mixer.observe(StepStats(step, shares[-1] * 64, signals))
    return np.array(shares)


def planted(seed: int) -> np.ndarray:
    """An A in which domains help each other, and some hurt."""
    return np.random.default_rng(seed).normal(0.002, 0.002, (K, K)) + 0.01 * np.eye(K)


@pytest.mark.parametrize("sweeps", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_recovers_a_planted_law(seed: int, sweeps: int) -> None:
    """Through its decisions alone: with one target domain i, the log-shares after a round are row i of A, up to its scale."""
    effect_KK, found_KK = planted(seed), np.zeros((K, K))
    for i in range(K):
        mixer = started(objective_weights=np.eye(K)[i], sweeps=sweeps, trial=2, measure=0.5, step_size=1.0)
        mixture_K = train(mixer, effect_KK, range(1 + sweeps * 2 * K + 1))[-1]
        found_KK[i] = np.log(mixture_K)
    shifted_KK = effect_KK - min(0.0, effect_KK.min())
    expected_KK = K * shifted_KK / shifted_KK.sum()
    np.testing.assert_allclose(
        found_KK - found_KK.mean(1, keepdims=True), expected_KK - expected_KK.mean(1, keepdims=True), atol=1e-9
    )


def test_follows_what_lowers_the_sum_of_losses_round_by_round() -> None:
    effect_KK = np.full((K, K), 0.001)
    effect_KK[:, 2] = 0.004  # helps everybody
    mixture_TK = train(started(trial=1), effect_KK, range(1 + 10 * 2 * K))
    after_RK = mixture_TK[2 * K :: 2 * K]  # the last step of each round
    assert len(after_RK) == 10 and (np.diff(after_RK[:, 2]) > 0).all() and after_RK[-1, 2] > 0.8


def test_with_memory_it_starts_from_uniform_every_round() -> None:
    effect_KK = planted(0)
    mixture_TK = train(started(trial=1, memory=0.5), effect_KK, range(1 + 5 * 2 * K))
    after_RK = mixture_TK[2 * K :: 2 * K]
    np.testing.assert_allclose(after_RK, np.tile(after_RK[0], (5, 1)), rtol=1e-9)


def test_a_change_of_the_law_is_followed_as_slowly_as_memory_says() -> None:
    first_KK, second_KK = planted(0), planted(1)
    rounds = 1 + 2 * K
    mixers = [started(trial=1, memory=memory) for memory in (0.0, 0.5)]
    shares = [[train(mixer, first_KK, range(rounds))[-1]] for mixer in mixers]
    for mixer, path in zip(mixers, shares, strict=True):
        path.append(train(mixer, second_KK, range(rounds, rounds + 2 * K), np.full(K, 9.0) - K * 0.01)[-1])
    (old_K, new_K), (_, between_K) = np.log(shares)
    centred = [log_K - log_K.mean() for log_K in (old_K, new_K, between_K)]
    assert np.abs(centred[0] - centred[1]).max() > 0.01
    np.testing.assert_allclose(centred[2], (centred[0] + centred[1]) / 2, atol=1e-9)


def test_every_domain_is_tried_once_a_sweep_in_an_order_of_its_own() -> None:
    mixer = started(sweeps=2, trial=3, measure=0.9, focus=0.7)
    mixture_TK = train(mixer, planted(0), range(1 + 2 * 3 * K))
    np.testing.assert_array_equal(mixture_TK[0], np.full(K, 1 / K))
    trials_TK = mixture_TK[1:].reshape(2, K, 3, K)
    assert (trials_TK == trials_TK[:, :, :1]).all(), "three steps each"
    orders = trials_TK[:, :, 0].argmax(2)
    assert all(sorted(order) == list(range(K)) for order in orders)
    np.testing.assert_allclose(np.sort(trials_TK[0, 0, 0]), [0.1, 0.1, 0.1, 0.7])


def test_looks_at_held_out_losses_only_where_trials_and_rounds_end() -> None:
    mixer = started(sweeps=2, trial=3, measure=0.25)
    looked = [step for step in range(1 + 4 * 2 * 3 * K) if mixer.wants(step)]
    assert looked == [0, *range(3, 2 * 3 * K + 1, 3), 4 * 2 * 3 * K]


def test_a_run_shorter_than_a_round_is_uniform_on_the_whole() -> None:
    mixture_TK = train(started(k=22, trial=1), np.eye(22) / 100, range(23))
    np.testing.assert_allclose(mixture_TK.mean(0), np.full(22, 1 / 22))


def test_a_trial_is_the_releases_share_of_a_long_run_and_two_steps_of_a_short_one() -> None:
    for steps, expected in ((300, 2), (10_000, 2), (40_000, 10), (80_000, 20)):
        mixer = started(steps=steps)
        looked = [step for step in range(1, 3 * expected + 1) if mixer.wants(step)]
        assert looked == [expected, 2 * expected, 3 * expected]
