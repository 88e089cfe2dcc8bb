"""DoGE's proxy stage on gradients of a test's choice."""

import numpy as np
import pytest

from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Mixer, Signal, Start, StepStats, softmax

HELPER, ONE, OTHER, OPPOSED = range(4)  # the first goes along the next two, which know nothing of each other
GRADIENTS_KP = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.2], [0.0, 1.0, 0.2], [-0.9, -0.9, 0.1]])


def started(k: int = 4, objective_weights: list[float] | None = None, **options: object) -> Mixer:
    mixer = build_mixer("doge", {"smoothing": 0.0, **options})
    names, objective_K = (
        tuple(f"d{i}" for i in range(k)),
        None if objective_weights is None else np.array(objective_weights),
    )
    mixer.start(
        Start(
            domains=names,
            prior=np.full(k, 1 / k),
            tokens_available=np.ones(k),
            total_steps=100,
            rng=np.random.default_rng(0),
            objective_weights=objective_K,
        )
    )
    return mixer


def observe(mixer: Mixer, step: int, gradient_KP: np.ndarray, lr: float = 1e-3) -> None:
    signals = {Signal.GRAD_GRAM: gradient_KP @ gradient_KP.T, Signal.LEARNING_RATE: np.array(lr)}
    mixer.observe(StepStats(step, np.isfinite(gradient_KP[:, 0]) * 8, signals))


def learned(mixer: Mixer, steps: int = 50) -> np.ndarray:
    rng = np.random.default_rng(0)
    for step in range(steps):
        observe(mixer, step, GRADIENTS_KP + rng.normal(0, 0.02, GRADIENTS_KP.shape))
    return mixer.loss_weights(steps)


def test_raises_the_domain_that_helps_the_others() -> None:
    weight_K = learned(started())
    assert np.argmax(weight_K) == HELPER and weight_K[OPPOSED] == weight_K.min()


def test_a_target_outside_raises_what_goes_along_it() -> None:
    assert np.argmax(learned(started(objective_weights=[0, 1, 0, 0]))) in (HELPER, ONE)
    weight_K = learned(started(objective_weights=[0, 0, 0, 1]))
    assert np.argmax(weight_K) == OPPOSED
    np.testing.assert_allclose(weight_K[:OPPOSED], weight_K[HELPER])  # no score is negative


def test_the_step_goes_with_the_learning_rate() -> None:
    one, twice, none = started(), started(mu=0.005), started()
    observe(one, 0, GRADIENTS_KP, lr=2e-3)
    observe(twice, 0, GRADIENTS_KP, lr=1e-3)
    observe(none, 0, GRADIENTS_KP, lr=0.0)
    np.testing.assert_allclose(one.loss_weights(1), twice.loss_weights(1))
    np.testing.assert_array_equal(none.loss_weights(1), np.full(4, 0.25))


@pytest.mark.parametrize("rule", ["released", "sum"])
def test_a_long_gradient_is_clipped_first(rule: str) -> None:
    """A domain's own, and the target's: in ``sum`` that is a sum of clipped ones, else it is clipped as a whole."""
    long_KP, clipped_KP = GRADIENTS_KP.copy(), GRADIENTS_KP.copy()
    long_KP[ONE] *= 100
    clipped_KP[ONE] *= 5 / np.linalg.norm(GRADIENTS_KP[ONE])
    target_P = clipped_KP.sum(0) if rule == "sum" else long_KP.mean(0) * 5 / np.linalg.norm(long_KP.mean(0))
    score_K = np.clip(clipped_KP @ target_P / (np.linalg.norm(clipped_KP, axis=1).mean() + 1e-6), 0, 5)
    mixer = started(rule=rule)
    observe(mixer, 0, long_KP)
    np.testing.assert_allclose(mixer.loss_weights(1), softmax(1e-3 / 0.01 * score_K))


def test_the_target_is_one_gradient_however_many_domains_there_are() -> None:
    """The same domains twice over: scores, and so each pair's shares, stay as they were; the rule of the sum doubles them."""
    steps = {}
    for rule in ("released", "sum"):
        once, twice = started(rule=rule), started(8, rule=rule)
        observe(once, 0, 0.1 * GRADIENTS_KP)
        observe(twice, 0, np.vstack([0.1 * GRADIENTS_KP] * 2))
        steps[rule] = [
            np.log(mixer.loss_weights(1)[HELPER] / mixer.loss_weights(1)[OPPOSED]) for mixer in (once, twice)
        ]
    once, twice = steps["released"]
    assert once > 0 and twice == pytest.approx(once)
    assert steps["sum"] == pytest.approx([4 * once, 8 * once])


def test_a_missed_domain_keeps_its_score() -> None:
    mixer = started()
    observe(mixer, 0, GRADIENTS_KP)
    first_K = mixer.loss_weights(1)
    missing_KP = GRADIENTS_KP.copy()
    missing_KP[OTHER] = np.nan
    observe(mixer, 1, missing_KP)
    gained_K = np.log(mixer.loss_weights(2) / first_K) - np.log(first_K * 4)
    assert gained_K[OTHER] - gained_K[OPPOSED] == pytest.approx(0, abs=1e-12), "both as in the step before"


def test_without_the_target_in_a_step_scores_stay_as_they_were() -> None:
    mixer = started(objective_weights=[0, 0, 0, 1])
    missing_KP = GRADIENTS_KP.copy()
    missing_KP[OPPOSED] = np.nan
    observe(mixer, 0, missing_KP)
    np.testing.assert_array_equal(mixer.loss_weights(1), np.full(4, 0.25))
    observe(mixer, 1, GRADIENTS_KP)
    before_K = mixer.loss_weights(2)
    observe(mixer, 2, missing_KP)
    np.testing.assert_allclose(
        np.log(mixer.loss_weights(3) / mixer.loss_weights(3)[0]), 2 * np.log(before_K / before_K[0])
    )
