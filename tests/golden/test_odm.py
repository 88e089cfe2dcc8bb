"""ODM against values that the released program's own updaters gave (see methods.json)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Signal, Start, StepStats

GOLDEN = json.loads((Path(__file__).parent / "methods.json").read_text())
CASES = [
    pytest.param(case, rule, id=f"{rule}-{case['domains']}")
    for name, rule in (("odm_smoothed_mean", "released"), ("odm_exp3", "exp3"))
    for case in GOLDEN[name]
]


def path_of(case: dict, **options: object) -> np.ndarray:
    """(T, K) shares after each observation of the case's losses."""
    k, losses_TK = case["domains"], np.array(case["rewards"])
    mixer = build_mixer("odm", {"warmup": 0.0, **options})
    prior = np.array(case["initial_weights"])
    mixer.start(
        Start(
            domains=tuple(f"d{i}" for i in range(k)),
            prior=prior,
            tokens_available=prior * 1e6,
            total_steps=len(losses_TK),
            rng=np.random.default_rng(0),
        )
    )
    np.testing.assert_allclose(mixer.sampling_weights(0), prior)
    shares = []
    for step, loss_K in enumerate(losses_TK):
        mixer.observe(StepStats(step, np.full(k, 8), {Signal.LOSS: loss_K}))
        shares.append(mixer.sampling_weights(step + 1).copy())
    return np.array(shares)


@pytest.mark.parametrize(("case", "rule"), CASES)
def test_reproduces_the_release(case: dict, rule: str) -> None:
    assert case["first_iteration"] == 1
    options = {"alpha": case["smoothing_factor"]} if rule == "released" else {}
    mixture_TK, golden_TK = path_of(case, rule=rule, **options), np.array(case["probabilities"])
    np.testing.assert_allclose(mixture_TK, golden_TK, rtol=1e-6)


# With 22 domains the exploration rate is 1 / K until step 68: the 40 golden steps are uniform and tell nothing apart.
@pytest.mark.parametrize(("case", "rule"), [case for case in CASES if case.values[0]["domains"] < 22])
def test_the_golden_values_tell_the_rules_apart(case: dict, rule: str) -> None:
    assert np.ptp(np.array(case["probabilities"]), axis=0).max() > 1e-3, "the golden path moves"
    for other in {"paper", "released", "exp3"} - {rule}:
        options = {"alpha": case["smoothing_factor"] or 0.9}
        assert np.abs(path_of(case, rule=other, **options) - np.array(case["probabilities"])).max() > 1e-4
