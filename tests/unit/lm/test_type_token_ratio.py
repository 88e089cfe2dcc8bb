"""How varied a domain's sequences are, each by itself."""

from __future__ import annotations

import numpy as np
import tiny_model

from acodm_core.data.sampler import Batch
from acodm_core.lm.step import TrainStep
from acodm_core.mixing import Signal

RATIO = Signal.TYPE_TOKEN_RATIO


def ratios(train_step: TrainStep, tokens_BT: np.ndarray, counts_K: list[int]) -> np.ndarray:
    """(K,) what a step on these targets measures; the first token of a sequence is only read."""
    tokens_BS = np.pad(tokens_BT, ((0, 0), (1, 0)), constant_values=tiny_model.VOCABULARY - 1)
    return train_step.step(Batch(tokens_BS, np.array(counts_K)), 0, {RATIO}).signals[RATIO]


def test_it_is_the_mean_over_sequences_and_absent_domains_have_none() -> None:
    rng, counts_K = np.random.default_rng(0), [3, 0, 1, 4]
    tokens_BT = rng.integers(0, 9, (8, tiny_model.CONTEXT))
    by_hand_B = [len(set(row)) / len(row) for row in tokens_BT.tolist()]
    expected_K = [np.mean(by_hand_B[:3]), np.nan, by_hand_B[3], np.mean(by_hand_B[4:])]
    train_step = tiny_model.train_step("gpt_neox", needs=frozenset({RATIO}))
    np.testing.assert_allclose(ratios(train_step, tokens_BT, counts_K), expected_K, rtol=1e-12)


def test_it_does_not_depend_on_how_many_sequences_were_drawn() -> None:
    """Pooled, eight sequences with the same words would have an eighth of one's ratio."""
    row_T = np.arange(tiny_model.CONTEXT) % 5
    train_step = tiny_model.train_step("gpt_neox", needs=frozenset({RATIO}))
    found_K = ratios(train_step, np.tile(row_T, (8, 1)), [1, 2, 5, 0])
    np.testing.assert_allclose(found_K[:3], 5 / tiny_model.CONTEXT, rtol=1e-12)
