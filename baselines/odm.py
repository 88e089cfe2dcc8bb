"""Online Data Mixing: a bandit on the training losses."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from acodm_core.mixing import Mixer, Signal, Start, StepStats, softmax


@dataclass
class Odm(Mixer):
    """An adversarial bandit whose arms are domains and whose reward is their training loss.

    Idea:
        A domain with a high loss has more to teach; explore less as training goes on.
    Update:
        eps_t = min(1/K, sqrt(ln K / (K t))), t the 1-based step observed last; for every domain i drawn in it
        ``paper``:    R_i <- a R_i + (1 - a) l_i / p_i;    p = (1 - K eps_t) softmax(eps_{t-1} R) + eps_t
        ``released``: R_i <- a R_i + (1 - a) exp(l_i);     p = (1 - K eps_t) R / sum R + eps_t
        ``exp3``:     R_i <- R_i + 0.1 l_i / p_i;          p as ``paper``
    Source:
        arXiv 2312.02406, Algorithm 1. Release at edbfdad, megatron/data/data_sampling_utils.py: ``released`` is
        SmoothedMeanWeightUpdater.group_update (the rule of the published runs), ``exp3`` is Exp3WeightUpdater.group_update.
    Differences:
        The release leaves R at 0 during warm-up, so a domain not drawn right after it gets eps_t alone; here R learns from the
        first step (``learn_in_warmup: false`` gives the release's behaviour). The paper leaves ``alpha`` open; 0.9 is the
        release's default, its run scripts use 0.5. The release draws one domain a micro-batch, here a step mixes domains. The
        warm-up is a share of the run (2,000 of 100,000 steps). ``alpha`` averages noise out of a domain's appearances and counts
        these; eps_t counts steps, as the bandit's bound has it: both are the same in runs of any length.
    """

    rule: Literal["paper", "released", "exp3"] = "paper"
    alpha: float = 0.9
    warmup: float = 0.02  # share of the steps drawn from the prior
    learn_in_warmup: bool = True
    uniform_fraction: float = 0.0  # part of the mixture spread evenly, as a control for AC-ODM's; ODM has none

    needs = frozenset({Signal.LOSS})
    cite = "albalak2023odm"

    def __post_init__(self) -> None:
        if self.rule not in ("paper", "released", "exp3"):
            raise ValueError(f"rule must be paper, released or exp3, got {self.rule!r}")
        if not (0 <= self.alpha < 1 and 0 <= self.uniform_fraction < 1 and 0 <= self.warmup <= 1):
            got = f"{self.alpha}, {self.uniform_fraction} and {self.warmup}"
            raise ValueError(f"alpha and uniform_fraction must lie in [0, 1) and warmup in [0, 1], got {got}")

    def start(self, start: Start) -> None:
        self.warmup_steps_ = round(self.warmup * start.total_steps)
        self.reward_ = np.zeros(len(start.domains))
        self.eps_ = 1 / len(start.domains)  # eps_{t-1}
        self.mixture_ = start.prior.copy()

    def sampling_weights(self, step: int) -> np.ndarray:
        return self.mixture_

    def observe(self, stats: StepStats) -> None:
        warming = stats.step + 1 < self.warmup_steps_  # the step to come is still drawn from the prior
        if self.learn_in_warmup or stats.step >= self.warmup_steps_:
            self._learn(stats[Signal.LOSS])
        k, t = len(self.reward_), stats.step + 1
        eps = min(1 / k, math.sqrt(math.log(k) / (k * t))) if k > 1 else 0.0
        if not warming and self.reward_.any():
            exploit = (
                self.reward_ / self.reward_.sum() if self.rule == "released" else softmax(self.eps_ * self.reward_)
            )
            self.mixture_ = (1 - self.uniform_fraction) * ((1 - k * eps) * exploit + eps) + self.uniform_fraction / k
        self.eps_ = eps

    def diagnostics(self) -> dict[str, np.ndarray]:
        return {"rewards": self.reward_}

    def _learn(self, loss_K: np.ndarray) -> None:
        drawn = np.isfinite(loss_K)
        gain = (
            np.exp(np.minimum(loss_K, 50.0)) if self.rule == "released" else loss_K / np.maximum(self.mixture_, 1e-12)
        )
        keep, add = (1.0, 0.1) if self.rule == "exp3" else (self.alpha, 1 - self.alpha)
        self.reward_ = np.where(drawn, keep * self.reward_ + add * np.where(drawn, gain, 0.0), self.reward_)
