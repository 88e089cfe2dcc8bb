"""DoReMi's proxy stage on excess losses of a test's choice."""

import json
from pathlib import Path

import numpy as np
import pytest

from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Mixer, Signal, Start, StepStats

EASY, HARD, NOISE = 0, 1, 2  # the reference is as good as the proxy on the first and, at a high loss, on the last


def started(k: int = 3, **options: float) -> Mixer:
    mixer = build_mixer("doremi", options)
    names = tuple(f"d{i}" for i in range(k))
    mixer.start(
        Start(
            domains=names,
            prior=np.full(k, 1 / k),
            tokens_available=np.ones(k),
            total_steps=100,
            rng=np.random.default_rng(0),
        )
    )
    return mixer


def observe(mixer: Mixer, step: int, excess_K: list[float]) -> None:
    mixer.observe(StepStats(step, np.ones(len(excess_K)), {Signal.EXCESS_LOSS: np.array(excess_K)}))


def test_raises_what_is_hard_and_can_be_learned_but_not_noise() -> None:
    mixer, rng = started(), np.random.default_rng(0)
    losses_K, reference_K = np.array([1.0, 4.0, 6.0]), np.array([1.0, 2.5, 6.0])
    for step in range(40):
        tokens_KT = losses_K[:, None] + rng.normal(0, 0.1, (3, 200))
        observe(mixer, step, np.maximum(tokens_KT - reference_K[:, None], 0).mean(1))
    weight_K = mixer.loss_weights(40)
    assert weight_K[HARD] > 0.9 and weight_K[NOISE] < 0.05 and weight_K[EASY] < 0.05


def test_a_domain_that_the_proxy_has_learned_stops_rising() -> None:
    mixer = started()
    for step in range(5):
        observe(mixer, step, [0.1, 0.6, 0.1])
    peak = mixer.loss_weights(5)[HARD]
    for step in range(5, 40):
        observe(mixer, step, [0.1, 0.0, 0.1])
    assert mixer.loss_weights(40)[HARD] < 0.2 < 0.8 < peak


def test_weights_the_loss_and_draws_uniformly() -> None:
    mixer = started()
    observe(mixer, 0, [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(mixer.sampling_weights(1), np.full(3, 1 / 3))
    e = np.exp(1.0)
    np.testing.assert_allclose(mixer.loss_weights(1), 0.999 * np.array([1, e, 1]) / (2 + e) + 0.001 / 3)


def test_a_missed_domain_keeps_its_score_and_one_never_seen_has_the_mean() -> None:
    mixer, full = started(), started()
    observe(mixer, 0, [0.2, 0.4, np.nan])
    observe(full, 0, [0.2, 0.4, 0.3])
    np.testing.assert_allclose(mixer.loss_weights(1), full.loss_weights(1))
    observe(mixer, 1, [np.nan, 0.8, 0.6])
    observe(full, 1, [0.2, 0.8, 0.6])
    np.testing.assert_allclose(mixer.loss_weights(2), full.loss_weights(2))


def test_saves_the_average_of_its_weights_by_domain(tmp_path: Path) -> None:
    mixer, weights = started(), []
    for step, excess_K in enumerate(np.random.default_rng(1).uniform(0, 1, (7, 3))):
        observe(mixer, step, excess_K)
        weights.append(mixer.loss_weights(step + 1))
    mixer.save(tmp_path)
    static = build_mixer("static", {})
    domains = ("d2", "d0", "d1")  # by name, not by place
    static.start(
        Start(
            domains=domains,
            prior=np.full(3, 1 / 3),
            tokens_available=np.ones(3),
            total_steps=1,
            rng=np.random.default_rng(0),
            inputs={"weights": tmp_path},
        )
    )
    np.testing.assert_allclose(static.sampling_weights(0), np.mean(weights, axis=0)[[2, 0, 1]])
    assert sum(json.loads((tmp_path / "weights.json").read_text()).values()) == pytest.approx(1)


def test_needs_a_reference() -> None:
    assert build_mixer("doremi", {}).required_inputs() == ("reference",)
