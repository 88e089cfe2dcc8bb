"""DoReMi, DoGE and CHAMELEON against values that the released programs gave (see methods.json and doge.json)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Mixer, Signal, Start, StepStats

GOLDEN = json.loads((Path(__file__).parent / "methods.json").read_text())
DOGE = json.loads((Path(__file__).parent / "doge.json").read_text())


def cases(name: str) -> pytest.MarkDecorator:
    return every(GOLDEN[name])


def every(found: list[dict]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(case, id=f"{case['domains']}") for case in found])


def same(found: np.ndarray, golden: np.ndarray) -> None:
    """Equal to 1e-6 of each entry; to 1e-5 of those under a tenth of their vector's largest: releases add in float32."""
    found, golden = np.asarray(found), np.asarray(golden)
    small = golden < 0.1 * golden.max(-1, keepdims=True)
    np.testing.assert_allclose(found[~small], golden[~small], rtol=1e-6)
    np.testing.assert_allclose(found[small], golden[small], rtol=1e-5)


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
    rng, objective_K = np.random.default_rng(0), np.array(case.get("target", prior_K))
    mixer.start(
        Start(
            domains=names,
            prior=prior_K,
            tokens_available=prior_K,
            total_steps=len(case["steps"]),
            rng=rng,
            inputs={"reference": folder},
            objective_weights=objective_K,
        )
    )
    for number, step in enumerate(case["steps"]):
        np.testing.assert_array_equal(mixer.sampling_weights(number), prior_K)
        mixer.observe(StepStats(number, np.full(k, 8), signals(case, step)))
        weights.append(mixer.loss_weights(number + 1).copy())
        mixer.save(folder)
        saved = json.loads((folder / "weights.json").read_text())
        averages.append([saved[name] for name in names])
    return np.array(weights), np.array(averages)


def check(case: dict, weights_TK: np.ndarray, averages_TK: np.ndarray) -> None:
    golden_TK = np.array([step["weights"] for step in case["steps"]])
    assert np.ptp(golden_TK, axis=0).max() > 5e-3, "the golden path moves"
    same(weights_TK, golden_TK)
    same(averages_TK, np.array([step["average_weights"] for step in case["steps"]]))


@cases("doremi")
def test_doremi_is_the_releases(case: dict, tmp_path: Path) -> None:
    (unseen,) = set(case["initial_scores"])
    options = {"step_size": case["step_size"], "smoothing": case["smoothing"], "unseen": unseen}
    check(case, *path_of(case, build_mixer("doremi", options), excess_losses, tmp_path))


def test_doremis_golden_values_cover_domains_that_a_step_misses() -> None:
    missed = [[case["domains"] - len(set(step["domain_ids"])) for step in case["steps"]] for case in GOLDEN["doremi"]]
    assert any(first and not all(later) for first, *later in missed), "one is not seen at first"


def doge(case: dict, **options: object) -> Mixer:
    return build_mixer("doge", {"mu": case["mu"], "smoothing": case["smoothing"], "cap": case["score_max"], **options})


@cases("doge")
def test_doge_with_the_domains_as_targets_is_the_releases(case: dict, tmp_path: Path) -> None:
    assert case["self_term"] and case["score_min"] == 0
    check(case, *path_of(case, doge(case, rule="sum"), gradients, tmp_path))


@every(DOGE["cases"])
def test_doge_is_the_releases_shipped_configuration(case: dict, tmp_path: Path) -> None:
    """Its target is one gradient: that of the mean loss over all domains, or that of one domain."""
    assert len(case["steps"]) == 30 and case["mu"] == 0.01
    check(case, *path_of(case, doge(case), gradients, tmp_path))
    by_the_sum_TK, _ = path_of(case, doge(case, rule="sum"), gradients, tmp_path)
    assert np.abs(by_the_sum_TK - [step["weights"] for step in case["steps"]]).max() > 0.05, "the rules are told apart"


def test_doges_golden_values_cover_gradients_that_are_clipped() -> None:
    def norms(case: dict) -> np.ndarray:
        """(T, K + 1) of the domains' gradients, and of the target's."""
        gradient_TKP = np.array([step["gradients"] for step in case["steps"]])
        target_TP = np.einsum("k,tkp->tp", case["target"], gradient_TKP)
        return np.linalg.norm(np.concatenate([gradient_TKP, target_TP[:, None]], 1), axis=2)

    found = [norms(case) > 5 for case in DOGE["cases"]]
    assert any(long[:, :-1].any() for long in found) and any(long[:, -1].any() for long in found)
    assert not all(long.all() for long in found)


@cases("chameleon")
def test_chameleon_is_the_releases(case: dict, tmp_path: Path) -> None:
    k, embedding_KH = case["domains"], np.array(case["domain_embeddings"])
    mixer = build_mixer("chameleon", {"ridge": case["regularisation"], "temperature": case["temperature"]})
    names, prior_K = tuple(f"d{i}" for i in range(k)), np.full(k, 1 / k)
    mixer.start(
        Start(domains=names, prior=prior_K, tokens_available=prior_K, total_steps=1, rng=np.random.default_rng(0))
    )
    mixer.observe(StepStats(0, np.full(k, 8), {Signal.EMBEDDING: embedding_KH}))
    same(mixer.score_, case["leverage_scores"])
    mixer.save(tmp_path)
    saved = json.loads((tmp_path / "weights.json").read_text())
    same([saved[name] for name in names], case["pretrain_weights"])
    assert np.ptp(case["pretrain_weights"]) > 0.05, "the golden weights are not alike"
