"""The reward of each domain: the paper's agreement of gradients, the release's form of it, and what else one might pay for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from acodm_core.mixing import Signal

Kind = Literal["alignment", "self", "cosine", "adam", "progress", "instant", "descent", "released"]
Importance = Literal["none", "sum", "literal"]
Scale = Literal["raw", "relative", "running"]
SIGNALS: dict[Kind, frozenset[Signal]] = {
    "alignment": frozenset({Signal.GRAD_GRAM}),
    "self": frozenset({Signal.GRAD_GRAM}),
    "cosine": frozenset({Signal.GRAD_GRAM}),
    "released": frozenset({Signal.GRAD_GRAM}),
    "adam": frozenset({Signal.ADAM_SKETCH}),
    "instant": frozenset({Signal.ADAM_SKETCH, Signal.ADAM_SELF}),
    "descent": frozenset({Signal.ADAM_SKETCH}),
    "progress": frozenset({Signal.LOSS}),
}


def alignment(gram_KK: np.ndarray) -> np.ndarray:
    """(K,) off-diagonal row sums of the Gram, W_i = <g_i, sum_{j != i} g_j>; NaN for absent domains.

    Source: arXiv 2505.23878, raw reward; release at e95863e, megatron/data/agent.py:88-99 before its norm scaling.
    """
    known_KK = np.where(np.isfinite(gram_KK), gram_KK, 0.0)
    return np.where(np.isfinite(gram_KK.diagonal()), known_KK.sum(1) - known_KK.diagonal(), np.nan)


def released_reward(gram_KK: np.ndarray) -> np.ndarray:
    """(K,) the release's reward: alignment over the mean gradient norm, clipped, standardised over domains, clamped to +-3.

    Source: release at e95863e, megatron/data/agent.py:88-99. Its forced micro-batches make every domain present; here
    statistics are over the present ones.
    """
    square_K = gram_KK.diagonal()
    present = np.isfinite(square_K)
    found = alignment(gram_KK)[present] / (np.sqrt(square_K[present]).mean() + 1e-30)
    reward_K = np.full(len(gram_KK), np.nan)
    reward_K[present] = standardised(np.clip(found, -999, 999))
    return reward_K


def relative_alignment(
    gram_KK: np.ndarray, mixture_K: np.ndarray, importance: Importance = "none", *, diagonal: bool = False
) -> np.ndarray:
    """(K,) mean agreement with the other domains in units of the mean squared gradient norm: free of the loss's scale.

    Args:
        mixture_K: (K,) probabilities with which the batch was drawn.
        importance: ``none``; ``literal`` divides by the share, as the paper writes it, although g_i is a mean over the
            domain's samples and does not grow with it; ``sum`` corrects the domains' contributions P_i g_i to the step, which
            gives <g_i, sum_{j != i} P_j g_j>.
        diagonal: add the domain's agreement with itself, which its own sampling noise biases upward.
    """
    present = np.isfinite(np.diag(gram_KK))
    if not present.any():
        return np.full(len(gram_KK), np.nan)
    scale = np.diag(gram_KK)[present].mean() + 1e-30
    gram_KK = gram_KK * mixture_K[None, :] if importance == "sum" else gram_KK
    reward_K = alignment(gram_KK) + (np.diag(gram_KK) if diagonal else 0.0)
    if importance == "sum":
        return reward_K / scale
    reward_K = reward_K / (scale * max(1, present.sum() - 1))
    return reward_K / np.maximum(mixture_K, 1e-6) if importance == "literal" else reward_K


def cosines(gram_KK: np.ndarray) -> np.ndarray:
    """The Gram of the gradients' directions: <g_i, g_j> / (|g_i| |g_j|)."""
    norm_K = np.sqrt(np.maximum(np.diag(gram_KK), 1e-30))
    return gram_KK / np.outer(norm_K, norm_K)


class Reward:
    """A moving average of each domain's reward, in a scale that the agent can learn from.

    Kinds: ``alignment`` W_i of the paper; ``self`` with the diagonal; ``cosine`` of directions instead of gradients; ``adam``
    alignment in AdamW's metric; ``released``; ``progress`` how fast the domain's own training loss falls. Two pay for how fast
    a step on the domain lowers the objective loss, to first order, in AdamW's metric with objective weights w:
    ``instant`` sum_j w_j <g_i, g_j> of one step, the term j = i without its sampling noise; ``descent`` sum_j w_j <g_i, m_j>
    with m_j a moving average of domain j's *earlier* gradients. Other samples make every term unbiased there, too, so that a
    domain of nothing but noise earns nothing; and a direction that merely swings about the optimum, as a learned domain's
    gradient does at any learning rate, is not paid for either.

    Scales: ``raw``; ``relative``, tanh of the difference to the mean over domains in units of the mean magnitude, so that no
    domain's early gains drown the others; ``running``, standardised with mean and deviation over all domains and steps so far.

    Args:
        reward_decay: what the reward's average keeps of itself per measurement (the paper's xi).
        signal_decay: the same of ``descent``'s gradients, ``instant``'s products (they stand in for those that a step could not
            measure) and ``progress``'s losses.
        shrinkage: draw the averages to their mean over domains by the share of their spread that noise explains (James and
            Stein), and where they do not promise that the step taken lowers the loss: a first-order account that contradicts
            the training it accounts for is not believed.
    """

    def __init__(
        self,
        kind: Kind,
        objective_K: np.ndarray,
        *,
        importance: Importance = "none",
        reward_decay: float,
        scale: Scale,
        signal_decay: float,
        shrinkage: bool = False,
    ) -> None:
        k = len(objective_K)
        self.kind, self.importance, self.reward_decay, self.scale = kind, importance, reward_decay, scale
        self.signal_decay, self.shrinkage = signal_decay, shrinkage
        self._objective_K = objective_K
        self.average_K, self.square_K = np.full(k, np.nan), np.zeros(k)  # of the reward, and of its squared surprises
        self.seen_K = np.zeros(k)  # how often it was measured; counted for `shrinkage` alone
        self.gradients_KD = np.full((k, 1), np.nan)  # descent: averages so far, of a width that the first step tells
        self.products_KK = np.full((k, k), np.nan)  # instant: averages so far
        self.loss_K = np.full(k, np.nan)  # progress: averages so far
        self.certainty = 1.0  # what ``shrinkage`` multiplied the last differences by
        self.count, self.mean, self.m2 = 0, 0.0, 0.0  # running: over all domains and steps

    def observe(self, signals: Mapping[Signal, np.ndarray], mixture_K: np.ndarray) -> np.ndarray:
        """(K,) the reward after a step drawn with ``mixture_K``; an absent domain holds its last, a never seen one has the mean."""
        fresh_K = self._fresh(signals, mixture_K)
        if self.shrinkage:
            self._count_surprise(fresh_K)
        self.average_K = average(self.average_K, fresh_K, self.reward_decay)
        if not np.isfinite(self.average_K).any():
            return np.zeros(len(fresh_K))
        reward_K = filled(self.average_K)
        if self.shrinkage or self.scale == "relative":
            size_K, middle = np.abs(reward_K), reward_K.mean()
            apart_K = reward_K - middle
            if self.shrinkage:
                self.certainty = self._certainty(apart_K, (mixture_K @ reward_K) / (mixture_K @ size_K + 1e-30))
                apart_K *= self.certainty
            if self.scale == "relative":  # to the size before shrinking: little is made of what is little certain
                return np.tanh(apart_K / (size_K.mean() + 1e-30))
            reward_K = middle + apart_K
        return self._standardised(reward_K) if self.scale == "running" else reward_K

    def _count_surprise(self, fresh_K: np.ndarray) -> None:
        seen = np.isfinite(fresh_K)
        surprise_K = np.where(seen & (self.seen_K > 0), fresh_K - self.average_K, 0.0)
        decayed_K = self.reward_decay * self.square_K + (1 - self.reward_decay) * surprise_K**2
        self.square_K = np.where(seen, decayed_K, self.square_K)
        self.seen_K = self.seen_K + seen

    def _certainty(self, apart_K: np.ndarray, promise: float) -> float:
        """In [0, 1]: how much of the rewards' spread is not noise, times how firmly they ``promise`` a decrease."""
        known = self.seen_K > 1
        if known.sum() < 2:
            return 0.0
        decay = self.reward_decay
        start_K = decay ** (self.seen_K[known] - 1)  # what the first one, which the average starts at, weighs by now
        noise, steady = self.square_K[known] / (1 - start_K), (1 - decay) / (1 + decay)
        noise *= steady + (1 - steady) * start_K**2
        spread = float((apart_K**2).sum()) / (len(apart_K) - 1)
        return max(0.0, 1.0 - float(noise.mean()) / (spread + 1e-300)) * max(0.0, float(promise))

    def _fresh(self, signals: Mapping[Signal, np.ndarray], mixture_K: np.ndarray) -> np.ndarray:
        if self.kind == "progress":
            before_K, self.loss_K = self.loss_K, average(self.loss_K, signals[Signal.LOSS], self.signal_decay)
            return np.where(np.isfinite(signals[Signal.LOSS]), before_K - self.loss_K, np.nan)
        if self.kind == "instant":
            return self._instant(signals[Signal.ADAM_SKETCH], signals[Signal.ADAM_SELF])
        if self.kind == "descent":
            return self._descent(signals[Signal.ADAM_SKETCH])
        if self.kind == "released":
            return released_reward(signals[Signal.GRAD_GRAM])
        if self.kind == "adam":
            gram_KK = signals[Signal.ADAM_SKETCH] @ signals[Signal.ADAM_SKETCH].T
        else:
            gram_KK = cosines(signals[Signal.GRAD_GRAM]) if self.kind == "cosine" else signals[Signal.GRAD_GRAM]
        return relative_alignment(gram_KK, mixture_K, self.importance, diagonal=self.kind == "self")

    def _descent(self, sketch_KD: np.ndarray) -> np.ndarray:
        known = np.isfinite(self.gradients_KD[:, 0])
        fresh_K = np.full(len(sketch_KD), np.nan)
        if known.any():
            fresh_K = sketch_KD @ (self._objective_K[known] @ self.gradients_KD[known])
        self.gradients_KD = average(np.broadcast_to(self.gradients_KD, sketch_KD.shape), sketch_KD, self.signal_decay)
        return fresh_K

    def _instant(self, sketch_KD: np.ndarray, self_K: np.ndarray) -> np.ndarray:
        fresh_KK = sketch_KD @ sketch_KD.T
        np.fill_diagonal(fresh_KK, self_K)
        self.products_KK = average(self.products_KK, fresh_KK, self.signal_decay)
        known_KK = np.nan_to_num(np.where(np.isfinite(fresh_KK), fresh_KK, self.products_KK))
        return np.where(np.isfinite(sketch_KD[:, 0]), known_KK @ self._objective_K, np.nan)

    def _standardised(self, reward_K: np.ndarray) -> np.ndarray:
        fresh, size = reward_K.mean(), len(reward_K)
        total, delta = self.count + size, fresh - self.mean
        self.m2 += ((reward_K - fresh) ** 2).sum() + delta**2 * self.count * size / total
        self.mean, self.count = self.mean + delta * size / total, total
        return (reward_K - self.mean) / (np.sqrt(self.m2 / max(1, self.count - 1)) + 1e-6)

    _KEPT = (
        "average_K",
        "square_K",
        "seen_K",
        "gradients_KD",
        "products_KK",
        "loss_K",
        "certainty",
        "count",
        "mean",
        "m2",
    )

    def state_dict(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in self._KEPT}
        return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in kept.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self._KEPT:
            value = state[name]
            setattr(self, name, value.copy() if isinstance(value, np.ndarray) else value)


def standardised(values: np.ndarray) -> np.ndarray:
    """A vector less its mean, over its standard deviation, clamped to +-3."""
    std = values.std(ddof=1) if len(values) > 1 else 0.0
    return np.clip((values - values.mean()) / (std + 1e-8), -3, 3)


def filled(values_K: np.ndarray) -> np.ndarray:
    """``values_K`` with the mean of the numbers in the place of NaN; at least one is a number."""
    known = np.isfinite(values_K)
    return np.where(known, values_K, values_K[known].mean())


def average(old: np.ndarray, new: np.ndarray, decay: float) -> np.ndarray:
    """Moving average, entry by entry: starts at the first number, and holds where ``new`` is NaN."""
    mixed = decay * old + (1 - decay) * new if decay else new
    return np.where(np.isfinite(mixed), mixed, np.where(np.isfinite(new), new, old))
