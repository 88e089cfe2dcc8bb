"""The reward of AC-ODM: how well each domain's gradient agrees with the others'."""

from __future__ import annotations

from typing import Literal

import numpy as np

Importance = Literal["none", "sum", "literal"]


def alignment(gram_KK: np.ndarray) -> np.ndarray:
    """(K,) off-diagonal row sums of the Gram, W_i = <g_i, sum_{j != i} g_j>; NaN for absent domains.

    Source: arXiv 2505.23878, raw reward; release at e95863e, megatron/data/agent.py:88-99 before its norm scaling.
    """
    present = np.isfinite(np.diag(gram_KK))
    row_K = np.where(np.isfinite(gram_KK), gram_KK, 0.0).sum(1) - np.where(present, np.diag(gram_KK), 0.0)
    return np.where(present, row_K, np.nan)


def released_reward(gram_KK: np.ndarray) -> np.ndarray:
    """(K,) the release's reward: alignment over the mean gradient norm, clipped, standardised over domains, clamped to +-3.

    Source: release at e95863e, megatron/data/agent.py:88-99. All domains must be present, as its forced floor guarantees.
    """
    scaled_K = np.clip(alignment(gram_KK) / np.sqrt(np.diag(gram_KK)).mean(), -999, 999)
    return np.clip((scaled_K - scaled_K.mean()) / (scaled_K.std(ddof=1) + 1e-8), -3, 3)


def relative_alignment(gram_KK: np.ndarray, share_K: np.ndarray, importance: Importance = "none") -> np.ndarray:
    """(K,) mean agreement with the other domains in units of the mean squared gradient norm: free of the loss's scale.

    Args:
        share_K: (K,) probabilities with which the batch was drawn.
        importance: ``none``; ``literal`` divides by the share, as the paper writes it, although g_i is a mean over the
            domain's samples and does not grow with it; ``sum`` corrects the domains' contributions P_i g_i to the step, which
            gives <g_i, sum_{j != i} P_j g_j>.
    """
    present = np.isfinite(np.diag(gram_KK))
    if not present.any():
        return np.full(len(gram_KK), np.nan)
    scale = np.diag(gram_KK)[present].mean() + 1e-30
    if importance == "sum":
        return alignment(gram_KK * share_K[None, :]) / scale
    reward_K = alignment(gram_KK) / (scale * max(1, present.sum() - 1))
    return reward_K / np.maximum(share_K, 1e-6) if importance == "literal" else reward_K
