"""The reward of each domain: the paper's agreement of gradients, the release's form of it, and what else one might pay for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from acodm_core.mixing import Signal

Kind = Literal["alignment", "self", "cosine", "adam", "progress", "descent", "released"]
Importance = Literal["none", "sum", "literal"]
Scale = Literal["raw", "relative", "running"]
SIGNAL: dict[Kind, Signal] = {
    "alignment": Signal.GRAD_GRAM,
    "self": Signal.GRAD_GRAM,
    "cosine": Signal.GRAD_GRAM,
    "released": Signal.GRAD_GRAM,
    "adam": Signal.ADAM_SKETCH,
    "descent": Signal.ADAM_SKETCH,
    "progress": Signal.LOSS,
}


def alignment(gram_KK: np.ndarray) -> np.ndarray:
    """(K,) off-diagonal row sums of the Gram, W_i = <g_i, sum_{j != i} g_j>; NaN for absent domains.

    Source: arXiv 2505.23878, raw reward; release at e95863e, megatron/data/agent.py:88-99 before its norm scaling.
    """
    present = np.isfinite(np.diag(gram_KK))
    row_K = np.where(np.isfinite(gram_KK), gram_KK, 0.0).sum(1) - np.where(present, np.diag(gram_KK), 0.0)
    return np.where(present, row_K, np.nan)


def released_reward(gram_KK: np.ndarray) -> np.ndarray:
    """(K,) the release's reward: alignment over the mean gradient norm, clipped, standardised over domains, clamped to +-3.

    Source: release at e95863e, megatron/data/agent.py:88-99. Its forced micro-batches make every domain present; here
    statistics are over the present ones.
    """
    scaled_K = np.clip(alignment(gram_KK) / (np.nanmean(np.sqrt(np.diag(gram_KK))) + 1e-30), -999, 999)
    spread = np.nanstd(scaled_K, ddof=1) if np.isfinite(scaled_K).sum() > 1 else 0.0
    return np.clip((scaled_K - np.nanmean(scaled_K)) / (spread + 1e-8), -3, 3)


def relative_alignment(
    gram_KK: np.ndarray, share_K: np.ndarray, importance: Importance = "none", *, diagonal: bool = False
) -> np.ndarray:
    """(K,) mean agreement with the other domains in units of the mean squared gradient norm: free of the loss's scale.

    Args:
        share_K: (K,) probabilities with which the batch was drawn.
        importance: ``none``; ``literal`` divides by the share, as the paper writes it, although g_i is a mean over the
            domain's samples and does not grow with it; ``sum`` corrects the domains' contributions P_i g_i to the step, which
            gives <g_i, sum_{j != i} P_j g_j>.
        diagonal: add the domain's agreement with itself, which its own sampling noise biases upward.
    """
    present = np.isfinite(np.diag(gram_KK))
    if not present.any():
        return np.full(len(gram_KK), np.nan)
    scale = np.diag(gram_KK)[present].mean() + 1e-30
    gram_KK = gram_KK * share_K[None, :] if importance == "sum" else gram_KK
    reward_K = alignment(gram_KK) + (np.diag(gram_KK) if diagonal else 0.0)
    if importance == "sum":
        return reward_K / scale
    reward_K = reward_K / (scale * max(1, present.sum() - 1))
    return reward_K / np.maximum(share_K, 1e-6) if importance == "literal" else reward_K


def cosines(gram_KK: np.ndarray) -> np.ndarray:
    """The Gram of the gradients' directions: <g_i, g_j> / (|g_i| |g_j|)."""
    norm_K = np.sqrt(np.maximum(np.diag(gram_KK), 1e-30))
    return gram_KK / np.outer(norm_K, norm_K)


class Reward:
    """A moving average of each domain's reward, in a scale that the agent can learn from.

    Kinds: ``alignment`` W_i of the paper; ``self`` with the diagonal; ``cosine`` of directions instead of gradients; ``adam``
    alignment in AdamW's metric; ``released``; ``progress`` how fast the domain's own training loss falls; ``descent`` how fast
    a step on the domain lowers the loss that is compared by, to first order: <g_i, sum_j w_j m_j> in AdamW's metric, w the
    target weights and m_j a moving average of domain j's *earlier* gradients. The average makes the term j = i unbiased (other
    samples, other noise), so a domain of pure noise earns nothing, and it is the least noisy estimate at hand.

    Scales: ``raw``; ``relative``, divided by the mean magnitude over domains of the same step; ``running``, standardised with
    mean and deviation over all domains and steps so far.

    Args:
        xi: memory of the reward's average. memory: memory of ``descent``'s average of gradients.
    """

    def __init__(
        self, kind: Kind, target_K: np.ndarray, *, importance: Importance, xi: float, scale: Scale, memory: float
    ) -> None:
        self.kind, self.importance, self.xi, self.scale, self.memory = kind, importance, xi, scale, memory
        self._target_K = target_K
        self.average_K = np.full(len(target_K), np.nan)
        self.gradients_KD: np.ndarray | None = None  # descent: averages of earlier gradients, NaN before the first
        self.loss_K = np.full(len(target_K), np.nan)  # progress: averages of earlier losses
        self.count, self.mean, self.m2 = 0, 0.0, 0.0  # running: over all domains and steps

    def observe(self, signals: Mapping[Signal, np.ndarray], share_K: np.ndarray) -> np.ndarray:
        """(K,) the reward after a step drawn with ``share_K``; an absent domain holds its last, a never seen one has the mean."""
        fresh_K = self._fresh(signals, share_K)
        known_K = np.where(np.isnan(self.average_K), fresh_K, self.xi * self.average_K + (1 - self.xi) * fresh_K)
        self.average_K = np.where(np.isfinite(fresh_K), known_K, self.average_K)
        if not np.isfinite(self.average_K).any():
            return np.zeros(len(fresh_K))
        reward_K = np.where(np.isfinite(self.average_K), self.average_K, np.nanmean(self.average_K))
        if self.scale == "relative":
            return reward_K / (np.abs(reward_K).mean() + 1e-30)
        return self._standardised(reward_K) if self.scale == "running" else reward_K

    def _fresh(self, signals: Mapping[Signal, np.ndarray], share_K: np.ndarray) -> np.ndarray:
        measured = signals[SIGNAL[self.kind]]
        if self.kind == "progress":
            return self._progress(measured)
        if self.kind == "descent":
            return self._descent(measured)
        if self.kind == "released":
            return released_reward(measured)
        gram_KK = measured @ measured.T if self.kind == "adam" else measured
        gram_KK = cosines(gram_KK) if self.kind == "cosine" else gram_KK
        return relative_alignment(gram_KK, share_K, self.importance, diagonal=self.kind == "self")

    def _progress(self, loss_K: np.ndarray) -> np.ndarray:
        before_K = self.loss_K
        after_K = np.where(np.isnan(before_K), loss_K, self.memory * before_K + (1 - self.memory) * loss_K)
        self.loss_K = np.where(np.isfinite(loss_K), after_K, before_K)
        return before_K - after_K

    def _descent(self, gradient_KD: np.ndarray) -> np.ndarray:
        if self.gradients_KD is None:
            self.gradients_KD = np.full_like(gradient_KD, np.nan)
        goal_D = self._target_K @ np.nan_to_num(self.gradients_KD)
        known = np.isfinite(self.gradients_KD[:, :1])
        mixed_KD = np.where(known, self.memory * self.gradients_KD + (1 - self.memory) * gradient_KD, gradient_KD)
        self.gradients_KD = np.where(np.isfinite(gradient_KD[:, :1]), mixed_KD, self.gradients_KD)
        return gradient_KD @ goal_D if known.any() else np.full(len(gradient_KD), np.nan)

    def _standardised(self, reward_K: np.ndarray) -> np.ndarray:
        fresh, size = reward_K.mean(), len(reward_K)
        total, delta = self.count + size, fresh - self.mean
        self.m2 += ((reward_K - fresh) ** 2).sum() + delta**2 * self.count * size / total
        self.mean, self.count = self.mean + delta * size / total, total
        return (reward_K - self.mean) / (np.sqrt(self.m2 / max(1, self.count - 1)) + 1e-6)

    _KEPT = ("average_K", "gradients_KD", "loss_K", "count", "mean", "m2")

    def state_dict(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in self._KEPT}
        return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in kept.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self._KEPT:
            value = state[name]
            setattr(self, name, value.copy() if isinstance(value, np.ndarray) else value)
