"""What stands in the agent's place to show what the agent is worth: the same reward and floor, no critic, no network."""

from __future__ import annotations

from typing import Any

import numpy as np

from acodm_core.acodm.replay import Transition
from acodm_core.mixing import Signal, Start, StepStats, build_mixer, softmax


class Control:
    """The agent's interface. ``act`` and ``learn`` are those of ``agent.Learner``; states are given and not looked at."""

    def __init__(self, anchor_K: np.ndarray, *, floor: float) -> None:
        self.log_anchor_K, self.floor = np.log(anchor_K), floor
        self.logits_K = np.zeros(len(anchor_K))

    def act(self, state: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
        """(K,) the mixture of the logits, above the floor."""
        mixture_K = softmax(self.log_anchor_K + self.logits_K + noise)
        return (1 - self.floor) * mixture_K + self.floor / len(mixture_K)

    def learn(self, transition: Transition, rng: np.random.Generator) -> dict[str, float]:
        """Learn from one transition."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"logits": self.logits_K.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.logits_K = np.array(state["logits"])


class RandomSoftmax(Control):
    """A mixture drawn once and kept: what an actor that is never trained amounts to.

    ``spread`` is the deviation of the logits. The release's untrained actor for 22 domains gives shares between about .021
    and .087 with entropy 3.03 (measured over 40 initialisations of its shape), which a spread of 0.35 reproduces.
    """

    def __init__(self, anchor_K: np.ndarray, *, floor: float, spread: float, rng: np.random.Generator) -> None:
        super().__init__(anchor_K, floor=floor)
        self.logits_K = rng.normal(0, spread, len(anchor_K))


class MirrorAscent(Control):
    """Exponentiated gradient on sum_i a_i r_i: logits <- logits + rate * r, the agent's reward without critic and state."""

    def __init__(self, anchor_K: np.ndarray, *, floor: float, rate: float) -> None:
        super().__init__(anchor_K, floor=floor)
        self.rate = rate

    def learn(self, transition: Transition, rng: np.random.Generator) -> dict[str, float]:
        self.logits_K = self.logits_K + self.rate * (transition.reward - transition.reward.mean())
        return {}


class Bandit(Control):
    """ODM's bandit (arXiv 2312.02406) with the agent's reward in the place of the training loss."""

    def __init__(self, anchor_K: np.ndarray, *, floor: float, total_steps: int) -> None:
        super().__init__(anchor_K, floor=floor)
        k = len(anchor_K)
        names, first_K = tuple(f"domain {i}" for i in range(k)), (1 - floor) * anchor_K + floor / k
        self.bandit = build_mixer("odm", {"warmup": 0.0, "floor": floor})
        self.bandit.start(
            Start(
                domains=names,
                prior=first_K,
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
