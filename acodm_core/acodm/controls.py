"""What stands in the agent's place to show what the agent is worth: the same reward and uniform part, no critic, no network."""

from __future__ import annotations

from typing import Any

import numpy as np

from acodm_core.acodm.interface import Transition
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Signal, Start, StepStats, softmax


class Control:
    """An ``Agent`` that has logits and no network: states are given and not looked at."""

    def __init__(self, anchor_K: np.ndarray, *, uniform_fraction: float) -> None:
        self.log_anchor_K, self.uniform_fraction = np.log(anchor_K), uniform_fraction
        self.logits_K = np.zeros(len(anchor_K))

    def act(self, state: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
        """(K,) the mixture of the logits, above the uniform part."""
        mixture_K = softmax(self.log_anchor_K + self.logits_K + noise)
        return (1 - self.uniform_fraction) * mixture_K + self.uniform_fraction / len(mixture_K)

    def learn(self, transition: Transition, rng: np.random.Generator) -> dict[str, float]:
        """Learn from one transition."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"logits": self.logits_K.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.logits_K = np.array(state["logits"])


class RandomSoftmax(Control):
    """A mixture drawn once and kept: what an actor that is never trained amounts to.

    ``logit_std`` is the deviation of the logits. The release's untrained actor for 22 domains gives shares between about .021
    and .087 with entropy 3.03 (measured over 40 initialisations of its shape), which a deviation of 0.35 reproduces.
    """

    def __init__(
        self, anchor_K: np.ndarray, *, uniform_fraction: float, logit_std: float, rng: np.random.Generator
    ) -> None:
        super().__init__(anchor_K, uniform_fraction=uniform_fraction)
        self.logits_K = rng.normal(0, logit_std, len(anchor_K))


class MirrorAscent(Control):
    """Exponentiated gradient on sum_i a_i r_i: logits <- logits + step_size * r, the agent's reward without critic and state."""

    def __init__(self, anchor_K: np.ndarray, *, uniform_fraction: float, step_size: float) -> None:
        super().__init__(anchor_K, uniform_fraction=uniform_fraction)
        self.step_size = step_size

    def learn(self, transition: Transition, rng: np.random.Generator) -> dict[str, float]:
        self.logits_K = self.logits_K + self.step_size * (transition.reward - transition.reward.mean())
        return {}


class Bandit(Control):
    """ODM's bandit (arXiv 2312.02406) with the agent's reward in the place of the training loss."""

    def __init__(self, anchor_K: np.ndarray, *, uniform_fraction: float, total_steps: int) -> None:
        super().__init__(anchor_K, uniform_fraction=uniform_fraction)
        k = len(anchor_K)
        names = tuple(f"domain {i}" for i in range(k))
        self.bandit = build_mixer("odm", {"warmup": 0.0, "uniform_fraction": uniform_fraction})
        self.bandit.start(
            Start(
                domains=names,
                prior=(1 - uniform_fraction) * anchor_K + uniform_fraction / k,
                tokens_available=np.ones(k),
                total_steps=total_steps,
                rng=np.random.default_rng(0),
            )
        )
        self.step = 0

    def act(self, state: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
        return self.bandit.sampling_weights(self.step)

    def learn(self, transition: Transition, rng: np.random.Generator) -> dict[str, float]:
        self.bandit.observe(StepStats(self.step, np.zeros(len(transition.reward)), {Signal.LOSS: transition.reward}))
        self.step += 1
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"bandit": self.bandit.state_dict(), "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.bandit.load_state_dict(state["bandit"])
        self.step = state["step"]
