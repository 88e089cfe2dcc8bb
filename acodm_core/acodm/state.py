"""The state that the actor sees: the same length for every model, in units that carry over from a proxy to its target."""

from __future__ import annotations

from typing import Any

import numpy as np


class Normaliser:
    """Running mean and variance of vectors (Welford); ``frozen`` stops the updates, as an actor in transfer needs."""

    def __init__(self, size: int) -> None:
        self.count, self.mean, self.m2, self.frozen = 0, np.zeros(size), np.zeros(size), False

    def update(self, x: np.ndarray) -> None:
        if self.frozen:
            return
        self.count += 1
        delta = x - self.mean
        self.mean = self.mean + delta / self.count
        self.m2 = self.m2 + delta * (x - self.mean)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """``x`` in standard deviations from the mean, clipped to +-5."""
        std = np.sqrt(self.m2 / max(1, self.count - 1)) if self.count > 1 else np.ones_like(self.mean)
        return np.clip((x - self.mean) / (std + 1e-3), -5, 5)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "mean": self.mean.copy(), "m2": self.m2.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self.mean, self.m2 = int(state["count"]), np.array(state["mean"]), np.array(state["m2"])


class StateTracker:
    """Turns what a step measured into the vector s^t of AC-ODM's MDP.

    Per domain: log of the cumulative share over the uniform share, loss (moving average over its appearances), slope of that
    average. Once: mean and last relative growth of the probed weights' norms, share of the training done. The paper's blocks
    are counts, losses, loss changes, norms and norm changes; relative norms and fixed-length summaries let an actor move to a
    model of another depth and width.
    """

    def __init__(self, domains: int, total_steps: int, memory: float = 0.9) -> None:
        self.domains, self.total_steps, self.memory = domains, total_steps, memory
        self.tokens_K = np.zeros(domains)
        self.loss_K = np.full(domains, np.nan)
        self.slope_K = np.zeros(domains)
        self.first_norm_L: np.ndarray | None = None

    @property
    def size(self) -> int:
        return 3 * self.domains + 3

    def observe(self, step: int, tokens_K: np.ndarray, loss_K: np.ndarray, norm_L: np.ndarray) -> np.ndarray:
        """(3K + 3,) the state after ``step``; a domain that was absent keeps its last loss."""
        self.tokens_K = self.tokens_K + tokens_K
        seen, first = np.isfinite(loss_K), np.isnan(self.loss_K)
        new_K = np.where(first, loss_K, self.memory * self.loss_K + (1 - self.memory) * loss_K)
        change_K = np.where(seen & ~first, new_K - self.loss_K, 0.0)
        self.slope_K = np.where(seen, self.memory * self.slope_K + (1 - self.memory) * change_K, self.slope_K)
        self.loss_K = np.where(seen, new_K, self.loss_K)
        if self.first_norm_L is None:
            self.first_norm_L = norm_L.copy()
        growth_L = np.log(norm_L / self.first_norm_L)
        share_K = (self.tokens_K + 1.0) / (self.tokens_K + 1.0).sum()
        loss_K = np.where(np.isnan(self.loss_K), np.nanmean(self.loss_K), self.loss_K)
        done = (step + 1) / self.total_steps
        return np.concatenate(
            [np.log(share_K * self.domains), loss_K, self.slope_K, [growth_L.mean(), growth_L[-1], done]]
        )

    def state_dict(self) -> dict[str, Any]:
        return {"tokens": self.tokens_K, "loss": self.loss_K, "slope": self.slope_K, "first_norm": self.first_norm_L}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tokens_K, self.loss_K = np.array(state["tokens"]), np.array(state["loss"])
        self.slope_K = np.array(state["slope"])
        self.first_norm_L = None if state["first_norm"] is None else np.array(state["first_norm"])
