"""The state that the actor sees: s^t of AC-ODM's MDP, in three forms."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from acodm_core.acodm.reward import average, filled, standardised

Block = Literal["counts", "loss", "change", "norms", "time"]
BLOCKS: tuple[Block, ...] = ("counts", "loss", "change", "norms", "time")
Form = Literal["relative", "paper", "released"]


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
        std = np.sqrt(self.m2 / (self.count - 1)) if self.count > 1 else 1.0
        return np.clip((x - self.mean) / (std + 1e-3), -5, 5)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "mean": self.mean.copy(), "m2": self.m2.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self.mean, self.m2 = int(state["count"]), np.array(state["mean"]), np.array(state["m2"])


class StateTracker:
    """Turns what a step measured into the vector s^t.

    Forms, each a concatenation of the blocks counts, loss, change, norms, time:

    ``relative``: log of the cumulative share over the uniform share (K); loss, a moving average over its appearances (K);
        slope of that average (K); mean and last relative growth of the probed weights' norms (2); share of the training done
        (1). Normalised over time. The same length for every model, in units that carry over, so that an actor can move.
    ``paper``: samples so far (K), batch losses (K), their one-step change (K), norms of L weight tensors and of their
        one-step change (2L), time (1): arXiv 2505.23878, the MDP's state, 3K + 2L + 1 numbers. It states no scale; this is the
        release's: each block, and either half of the norms, standardised over its own entries and clamped to +-3, and
        t / T * 100. (So tokens serve for samples: they are in proportion.)
    ``released``: the same with the samples of this step, and with losses minus those of the first step (release at e95863e,
        megatron/data/agent.py:352-376, where norms of changes are taken against the first step, too).

    Args:
        blocks: which blocks to show; none at all leaves a constant.
        tensors: L, number of probed weight tensors (``relative`` does not depend on it).
    """

    def __init__(
        self,
        domains: int,
        total_steps: int,
        *,
        form: Form = "relative",
        blocks: tuple[Block, ...] = BLOCKS,
        tensors: int = 0,
        signal_decay: float = 0.9,
    ) -> None:
        self.domains, self.total_steps, self.form, self.signal_decay = domains, total_steps, form, signal_decay
        self.tensors = 0 if form == "relative" else tensors  # listed in the state
        norms = 2 if form == "relative" else 2 * tensors
        sizes = {"counts": domains, "loss": domains, "change": domains, "norms": norms, "time": 1}
        self.blocks = tuple(block for block in BLOCKS if block in blocks)
        self.size = max(1, sum(sizes[block] for block in self.blocks))
        self.normaliser = Normaliser(self.size)
        self.tokens_K = np.zeros(domains)
        self.loss_K = np.full(domains, np.nan)  # of the last appearance, or its moving average
        self.first_loss_K = np.full(domains, np.nan)
        self.change_K = np.zeros(domains)
        self.first_norm_L: np.ndarray | None = None

    def observe(
        self, step: int, tokens_K: np.ndarray, loss_K: np.ndarray, norm_L: np.ndarray, step_norm_L: np.ndarray
    ) -> np.ndarray:
        """The state after ``step``; a domain that was absent keeps its last loss. ``step_norm_L`` is unread if ``relative``."""
        decay = self.signal_decay if self.form == "relative" else 0.0
        self.tokens_K = self.tokens_K + tokens_K
        # NaN where absent and at the first appearance.
        change_K = (1 - decay) * (loss_K - self.loss_K)
        self.change_K = average(self.change_K, change_K, decay)
        self.loss_K = average(self.loss_K, loss_K, decay)
        if self.first_norm_L is None:
            self.first_norm_L = norm_L.copy()
        loss_K = filled(self.loss_K)
        if self.form == "relative":
            growth_L = np.log(norm_L / self.first_norm_L)
            tokens_K = self.tokens_K + 1.0
            shown = {
                "counts": np.log(tokens_K * (self.domains / tokens_K.sum())),
                "loss": loss_K,
                "change": self.change_K,
                "norms": np.array([growth_L.mean(), growth_L[-1]]),
                "time": np.array([(step + 1) / self.total_steps]),
            }
        else:
            paper = self.form == "paper"
            self.first_loss_K = np.where(np.isnan(self.first_loss_K), self.loss_K, self.first_loss_K)
            from_first_K = np.where(np.isnan(self.first_loss_K), 0.0, loss_K - self.first_loss_K)
            shown = {
                "counts": standardised(self.tokens_K if paper else tokens_K),
                "loss": standardised(loss_K),
                "change": standardised(self.change_K if paper else from_first_K),
                "norms": np.concatenate([standardised(norm_L), standardised(step_norm_L)]),
                "time": np.array([100 * (step + 1) / self.total_steps]),
            }
        state = np.concatenate([shown[block] for block in self.blocks]) if self.blocks else np.ones(1)
        if self.form != "relative":
            return state
        self.normaliser.update(state)
        return self.normaliser(state)

    _KEPT = ("tokens_K", "loss_K", "first_loss_K", "change_K", "first_norm_L")

    def state_dict(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in self._KEPT}
        return {"normaliser": self.normaliser.state_dict()} | {
            name: None if value is None else value.copy() for name, value in kept.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.normaliser.load_state_dict(state["normaliser"])
        for name in self._KEPT:
            setattr(self, name, None if state[name] is None else np.array(state[name]))
