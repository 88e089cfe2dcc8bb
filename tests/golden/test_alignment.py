"""AC-ODM's reward against values that the released program gave on the same gradients (see methods.json)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from acodm_core.acodm.reward import Reward, alignment, relative_alignment, released_reward
from acodm_core.mixing import Signal

CASES = json.loads((Path(__file__).parent / "methods.json").read_text())["acodm_alignment"]
every_case = pytest.mark.parametrize("case", CASES, ids=[str(case["domains"]) for case in CASES])


def gram_of(case: dict) -> np.ndarray:
    gradients_KP = np.array(case["gradients"])
    assert len(gradients_KP) == case["domains"]
    return gradients_KP @ gradients_KP.T


@every_case
def test_alignment(case: dict) -> None:
    np.testing.assert_allclose(alignment(gram_of(case)), case["alignment"], rtol=1e-6)


@every_case
def test_released_reward(case: dict) -> None:
    np.testing.assert_allclose(released_reward(gram_of(case)), case["released_code_reward"], rtol=1e-5)


@every_case
def test_mixer_that_asks_for_the_released_reward_gets_it(case: dict) -> None:
    uniform_K = np.full(case["domains"], 1 / case["domains"])
    reward = Reward("released", uniform_K, importance="none", reward_decay=0.0, scale="raw", signal_decay=0.0)
    paid_K = reward.observe({Signal.GRAD_GRAM: gram_of(case)}, uniform_K)
    np.testing.assert_allclose(paid_K, case["released_code_reward"], rtol=1e-5)


@every_case
def test_relative_alignment_is_the_same_in_other_units(case: dict) -> None:
    """Ours divides the raw alignment by the mean squared norm and the number of other domains, and by nothing else."""
    gram_KK, k = gram_of(case), case["domains"]
    unit = np.diag(gram_KK).mean() * (k - 1)
    ours_K = relative_alignment(gram_KK, np.full(k, 1 / k))
    np.testing.assert_allclose(ours_K * unit, case["alignment"], rtol=1e-6)
    np.testing.assert_allclose(relative_alignment(gram_KK * 4096.0**2, np.full(k, 1 / k)), ours_K, rtol=1e-12)
