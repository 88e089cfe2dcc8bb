"""Skill-it: a graph of which domain teaches which, then weight on what teaches the domains that are still hard."""

from dataclasses import dataclass

import numpy as np

from acodm_core.errors import UserError
from acodm_core.mixing import Mixer, Signal, Start, StepStats, read_swarm, softmax


@dataclass
class Skillit(Mixer):
    """Draws a domain the more, the more it lowered the losses that are high now, by a graph of short runs on one domain each.

    Idea:
        Domains are skills, some of which teach others: train on what the skills not learned yet are learned from.
    Update:
        A_ij = max(0, (L_j before - L_j after) / L_j before) in the run on domain i alone; every ``every``-th of the steps, with
        the last ``window`` held-out losses L:    p_i = exp(eta sum_j K w_j A_ij sum_L L_j) / sum
        begun with 1 in the place of the losses. w, the objective weights; uniform is the paper's sum.
    Source:
        arXiv 2307.14430, Algorithm 1; constants of the port to pre-training in the release of arXiv 2411.05735 at a236112,
        trainer/skillit_trainer.py and its script for 7 domains: eta = 0.2, window = 3, every = 0.01. No product of old weights:
        each update starts from uniform, as there.
    Differences:
        every = 0.05, a share of the run (the port: 400 of 40,000 steps), for runs of hundreds of steps, each with a new look at
        the losses (the port looks less often than it updates). Graph runs are short and end at their own horizon; L before is
        that after their first step. What the port does to entries of exactly 1, written by hand, is left out; and it does not cut
        at 0, which is the paper's.
    """

    step_size: float = 0.2  # eta
    window: int = 3  # looks at the losses
    every: float = 0.05  # of the steps

    needs = frozenset({Signal.VALID_LOSS})
    swarms = frozenset({"graph"})
    cite = "chen2023skillit"

    def __post_init__(self) -> None:
        if not (self.step_size >= 0 and self.window >= 1 and 0 < self.every <= 1):
            got = f"{self.step_size}, {self.window} and {self.every}"
            raise ValueError(f"step_size must not be negative, window at least 1, every in (0, 1], got {got}")

    def required_inputs(self) -> tuple[str, ...]:
        return ("graph",)

    def start(self, start: Start) -> None:
        k = len(start.domains)
        drawn_NK, before_NK, after_NK = read_swarm(start.swarm("graph"), start.domains, "weights", "initial", "final")
        order_N = drawn_NK.argmax(1).argsort()  # by the domain that each drew
        if not (np.array_equal(drawn_NK[order_N], np.eye(k)) and np.isfinite(before_NK + after_NK).all()):
            fix = "use a swarm with  mixture: one_domain, members: domains  whose runs finished"
            raise UserError("the graph needs one run on each domain alone, with losses before and after", fix=fix)
        effect_KK = np.maximum(0.0, 1 - after_NK / before_NK)[order_N]
        self._effect_KK = effect_KK * k * start.objective_weights
        self._period, self._last = max(1, round(self.every * start.total_steps)), start.total_steps - 1
        self.recent_ = []  # the last losses, at most `window`
        self.mixture_ = self._mixture(np.ones(k))

    def _mixture(self, loss_K: np.ndarray) -> np.ndarray:
        return softmax(self.step_size * self._effect_KK @ loss_K)

    def sampling_weights(self, step: int) -> np.ndarray:
        return self.mixture_

    def wants(self, step: int) -> frozenset[Signal]:
        return self.needs if (step + 1) % self._period == 0 and step < self._last else frozenset()

    def observe(self, stats: StepStats) -> None:
        if self.wants(stats.step):
            self.recent_ = [*self.recent_, stats[Signal.VALID_LOSS].copy()][-self.window :]
            self.mixture_ = self._mixture(np.sum(self.recent_, axis=0))
