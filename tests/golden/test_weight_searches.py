"""DoReMi, DoGE and CHAMELEON against values that the released programs gave (see methods.json)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from acodm_core.mixing import Mixer, Signal, Start, StepStats, build_mixer

GOLDEN = json.loads((Path(__file__).parent / "methods.json").read_text())


def cases(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(case, id=f"{case['domains']}") for case in GOLDEN[name]])


def excess_losses(case: dict, step: dict) -> dict[Signal, np.ndarray]:
    """Each domain's mean over its valid tokens of the excess, cut at 0 token by token."""
    excess_BT, valid_BT = np.maximum(step["excess_loss"], 0.0), np.array(step["token_mask"], dtype=float)
    member_KB = np.arange(case["domains"])[:, None] == np.array(step["domain_ids"])
    tokens_K = member_KB @ valid_BT.sum(1)
    mean_K = np.divide(
        member_KB @ (excess_BT * valid_BT).sum(1), tokens_K, out=np.full(len(tokens_K), np.nan), where=tokens_K > 0
    )
    return {Signal.EXCESS_LOSS: mean_K}


def gradients(case: dict, step: dict) -> dict[Signal, np.ndarray]:
    gradient_KP = np.array(step["gradients"])
    return {Signal.GRAD_GRAM: gradient_KP @ gradient_KP.T, Signal.LEARNING_RATE: np.array(step["learning_rate"])}


def path_of(
    case: dict, mixer: Mixer, signals: Callable[[dict, dict], dict[Signal, np.ndarray]], folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """(T, K) weights after each of the case's steps, and their averages as a target would read them."""
    k, weights, averages = case["domains"], [], []
    names, prior_K = tuple(f"d{i}" for i in range(k)), np.full(k, 1 / k)
    mixer.start(Start(names, prior_K, prior_K, len(case["steps"]), np.random.default_rng(0), {"reference": folder}))
    for number, step in enumerate(case["steps"]):
        np.testing.assert_array_equal(mixer.sampling(number), prior_K)
        mixer.observe(StepStats(number, np.full(k, 8), signals(case, step)))
        weights.append(mixer.loss_weights(number + 1).copy())
        mixer.save(folder)
        saved = json.loads((folder / "weights.json").read_text())
        averages.append([saved[name] for name in names])
    return np.array(weights), np.array(averages)


def check(case: dict, weights_TK: np.ndarray, averages_TK: np.ndarray) -> None:
    golden_TK = np.array([step["weights"] for step in case["steps"]])
    assert np.ptp(golden_TK, axis=0).max() > 5e-3, "the golden path moves"
    np.testing.assert_allclose(weights_TK, golden_TK, rtol=0, atol=1e-6)
    golden_TK = np.array([step["average_weights"] for step in case["steps"]])
    np.testing.assert_allclose(averages_TK, golden_TK, rtol=0, atol=1e-6)


@cases("doremi")
def test_doremi_is_the_releases(case: dict, tmp_path: Path) -> None:
    (unseen,) = set(case["initial_scores"])
    options = {"step_size": case["step_size"], "smoothing": case["smoothing"], "unseen": unseen}
    check(case, *path_of(case, build_mixer("doremi", options), excess_losses, tmp_path))


def test_doremis_golden_values_cover_domains_that_a_step_misses() -> None:
    (case,) = (case for case in GOLDEN["doremi"] if case["domains"] == 7)
    assert any(len(set(step["domain_ids"])) < 7 for step in case["steps"])
    assert len(set(case["steps"][0]["domain_ids"])) < 7, "one is not seen at first"


@cases("doge")
def test_doge_is_the_releases(case: dict, tmp_path: Path) -> None:
    assert case["self_term"] and case["score_min"] == 0
    options = {"mu": case["mu"], "smoothing": case["smoothing"], "cap": case["score_max"]}
    check(case, *path_of(case, build_mixer("doge", options), gradients, tmp_path))


@cases("chameleon")
def test_chameleon_is_the_releases(case: dict, tmp_path: Path) -> None:
    k, embedding_KH = case["domains"], np.array(case["domain_embeddings"])
    mixer = build_mixer("chameleon", {"ridge": case["regularisation"], "temperature": case["temperature"]})
    names, prior_K = tuple(f"d{i}" for i in range(k)), np.full(k, 1 / k)
    mixer.start(Start(names, prior_K, prior_K, 1, np.random.default_rng(0)))
    mixer.observe(StepStats(0, np.full(k, 8), {Signal.EMBEDDING: embedding_KH}))
    np.testing.assert_allclose(mixer.score_, case["leverage_scores"], rtol=0, atol=1e-6)
    mixer.save(tmp_path)
    saved = json.loads((tmp_path / "weights.json").read_text())
    np.testing.assert_allclose([saved[name] for name in names], case["pretrain_weights"], rtol=0, atol=1e-6)
    assert np.ptp(case["pretrain_weights"]) > 0.05, "the golden weights are not alike"
