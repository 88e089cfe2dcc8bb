"""HDS: the Holistic Data Scheduler, AC-ODM's successor by the same authors, with soft actor-critic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from acodm_core.acodm.mixer import AcOdm, Agent, Anchor
from acodm_core.acodm.reward import Kind, Scale, mean
from acodm_core.mixing import Signal, Start, StepStats


@dataclass
class Hds(AcOdm):
    """Soft actor-critic on a reward of gradient alignment, lexical diversity and stability of the weights.

    Idea:
        Agreement of gradients is not all that makes data good: pay for diverse text and for steady weights, too.
    Update:
        R = sum_i a_i align_i + diversity * (t / T) / TTR + stability * min(5, 1 / sum_l |change of |w_l||), align standardised over
        domains, TTR the mean type-token ratio of the step's domains; SAC with twin scalar critics, target entropy -K.
    Source:
        arXiv 2606.24133; release DANG-ai/LLM-Training-Holistic-Data-Schedule, megatron/data/agent.py:76-98 and 129-146.
    Differences:
        The release cannot run (its critics are built without one of their arguments and its policy has no ``sample``), so this
        follows its reward and constants on AC-ODM's state, networks, floor and warm-up here, where the release has transformer
        encoders. Its policy is a softmax of Gaussian logits. TTR is over the step, the release's over its last micro-batch. Both
        extra terms are one number for all domains, and the first *falls* with lexical diversity, as in the release.
    """

    warmup: float = 0.02
    warmup_mixer: str = "odm"
    agent: Agent = "sac"
    anchor: Anchor = "uniform"
    reward: Kind = "released"
    scale: Scale = "raw"
    xi: float = 0.0
    shrink: bool = False
    noise: tuple[float, float] = (1.0, 1.0)  # in the policy's own deviations
    gamma: float = 0.95
    tau: float = 0.001
    actor_lr: float = 1e-4
    critic_lr: float = 1e-4
    replay: int = 10_000
    min_pool: int = 32
    diversity: float = 10.0
    stability: float = 10.0

    cite = "hds2026"

    @cached_property
    def agent_needs(self) -> frozenset[Signal]:
        return super().agent_needs | ({Signal.TYPE_TOKEN_RATIO} if self.learns else frozenset())

    def start(self, start: Start) -> None:
        super().start(start)
        self.norm_L_: np.ndarray | None = None

    def rewards(self, stats: StepStats) -> np.ndarray:
        norm_L, ratio_K = stats[Signal.PARAM_NORM], stats[Signal.TYPE_TOKEN_RATIO]
        diversity = (stats.step + 1) / self._total / max(mean(ratio_K[np.isfinite(ratio_K)]), 1e-6)
        moved = np.inf if self.norm_L_ is None else np.abs(norm_L - self.norm_L_).sum()
        self.norm_L_ = norm_L.copy()
        bonus = self.diversity * diversity + self.stability * min(5.0, 1.0 / max(moved, 1e-12))
        return super().rewards(stats) + bonus
