"""What passes between the mixer and its agent: states go in, mixtures come out, transitions teach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np


class Transition(NamedTuple):
    """What one decision led to; in a minibatch every array has a first axis B."""

    state: np.ndarray  # (S,) before the decision
    action: np.ndarray  # (K,) the mixture that was drawn by
    reward: np.ndarray  # (K,) of each domain, or (1,) of the mixture
    next_state: np.ndarray  # (S,) after it


class Agent(Protocol):
    """What decides for ``AcOdm``: an actor-critic (``agent.py``), or one of the controls in its place (``controls.py``)."""

    def act(self, state: np.ndarray, noise: np.ndarray | float = 0.0) -> np.ndarray:
        """(K,) the mixture for ``state``, with ``noise``, (K,) or 0, on the logits."""

    def learn(self, transition: Transition, rng: np.random.Generator) -> dict[str, float]:
        """Learn from one transition, whose reward is (K,); returns diagnostics."""

    def state_dict(self) -> dict[str, Any]:
        """All that ``act`` and ``learn`` change. Its arrays may be the agent's own: ``Mixer.state_dict`` copies them."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an actor-critic is told: options of ``AcOdm``, rescaled to the run's length."""

    hidden_size: int
    layers: int
    actor_lr: float
    critic_lr: float
    discount: float
    target_rate: float  # by which target networks follow, per update
    uniform_fraction: float
    start_at_anchor: bool  # else the untrained policy is a random mixture
    temperature: float  # of DDPG: weight of the divergence from the anchor, in units of the critic's values
    temperature_lr: float  # of SAC, whose temperature is learned
    replay_size: int  # transitions kept
    minibatch_size: int  # transitions drawn per update
    min_transitions: int  # before the first update
    updates: int  # per transition
    robust: bool  # Huber loss, and gradients held to a norm of 1; else squared errors, and gradients as they are
