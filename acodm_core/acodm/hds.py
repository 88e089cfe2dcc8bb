"""HDS: the Holistic Data Scheduler, AC-ODM's successor by the same authors, with soft actor-critic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from acodm_core.acodm.mixer import AcOdm, AgentName, Anchor
from acodm_core.acodm.reward import Kind, Scale
from acodm_core.mixing import Signal, Start, StepStats


@dataclass
class Hds(AcOdm):
    """Soft actor-critic on a reward of gradient alignment, lexical diversity and stability of the weights.

    Idea:
        Agreement of gradients is not all that makes data good: pay for diverse text and for steady weights, too.
    Update:
        R = sum_i a_i align_i + diversity_weight (t / T) / TTR + stability_weight min(5, 1 / sum_l |change of |w_l||), align
        standardised over domains, TTR the mean over the step's domains of their sequences' type-token ratios; SAC with twin
        scalar critics, squared errors, and a temperature that moves the policy's entropy to -K.
    Source:
        arXiv 2606.24133; release DANG-ai/LLM-Training-Holistic-Data-Schedule at 99fb906, megatron/data/agent.py: compute_rewards,
        update_pools, update.
    Differences:
        The release cannot run (its critics are built without one of their arguments and its policy has no
        ``sample``), so this follows its reward, losses and constants on AC-ODM's state, networks, uniform part and
        warm-up here, where the release has transformer encoders. Its policy is a softmax of Gaussian logits;
        untrained, it has the target entropy, a deviation of .089 per logit. The release's TTR is of its last micro-
        batch alone. Both extra terms are one number for all domains, and the first *falls* with lexical diversity, as
        in the release. Rewards are weighed by the mixture for scalar critics; the release has one output per domain.
        Updates begin with the first transition; the release waits for 32.
        The release's gamma .95, tau .001, buffer of 10,000 and learning rates of 1e-4 are those of 41,667 steps, and the same
        shares of any other run: Adam moves a number by its learning rate per step, so a shorter run has a larger one. The
        temperature's in full; the actor's up to 3e-4 and the critics' up to .01, for both to train. ``reference_steps: 0`` with
        ``rescale_lr: false`` takes all as they are, with which nothing is learned in some hundred steps.
    """

    warmup: float = 0.02
    warmup_mixer: str = "odm"
    agent: AgentName = "sac"
    anchor: Anchor = "uniform"
    reward: Kind = "released"
    reward_scale: Scale = "raw"
    reward_decay: float = 0.0
    shrinkage: bool = False
    exploration_noise: tuple[float, float] = (1.0, 1.0)  # in the policy's own deviations
    discount: float = 0.95
    target_rate: float = 0.001
    actor_lr: float = 1e-4
    critic_lr: float = 1e-4
    replay_size: int = 10_000
    min_transitions: int = 1
    reference_steps: int = 41_667
    rescale_lr: bool = True
    robust: bool = False
    diversity_weight: float = 10.0
    stability_weight: float = 10.0

    cite = "hds2026"

    @cached_property
    def agent_needs(self) -> frozenset[Signal]:
        return super().agent_needs | ({Signal.TYPE_TOKEN_RATIO} if self.learns else frozenset())

    def start(self, start: Start) -> None:
        super().start(start)
        self.norm_L_: np.ndarray | None = None

    def rewards(self, stats: StepStats) -> np.ndarray:
        norm_L, ratio_K = stats[Signal.PARAM_NORM], stats[Signal.TYPE_TOKEN_RATIO]
        diversity = (stats.step + 1) / self._total / max(np.nanmean(ratio_K), 1e-6)
        moved = np.inf if self.norm_L_ is None else np.abs(norm_L - self.norm_L_).sum()
        self.norm_L_ = norm_L.copy()
        bonus = self.diversity_weight * diversity + self.stability_weight * min(5.0, 1.0 / max(moved, 1e-12))
        return super().rewards(stats) + bonus
