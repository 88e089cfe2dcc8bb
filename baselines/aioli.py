"""Aioli: tries the domains one after the other inside the run, and shifts towards what lowered the losses."""

from dataclasses import dataclass

import numpy as np

from acodm_core.mixing import Mixer, Signal, Start, StepStats, softmax

TRIAL = 10 / 40_000  # steps of a trial in the release's script, as a share of its run


@dataclass
class Aioli(Mixer):
    """Learns by short trials how much each domain lowers every held-out loss, then shifts weight to what lowers their sum.

    Idea:
        Losses fall linearly in the mixture over a short time, L_i(t+1) = L_i(t) - sum_j A_ij p_j: measure A, and follow it.
    Update:
        A round begins with ``sweeps`` times, in a random order, ``trial`` steps on o_j for every domain j: ``focus`` on j, the
        rest spread evenly. With O the rows o_j and D_ij the decrease of loss i in the trials of j:  A = D O^-T,  A <- A -
        min(0, min A),  A <- A / sum A.  The rest of the round, which is 1 - ``measure`` of it, is drawn by
        p_j <- p_j exp(eta sum_i K w_i A_ij) / sum;  with ``memory`` = b instead  M <- (1 - b) A + b M,
        p_j = exp(eta sum_i K w_i M_ij) / sum.  w, the objective weights; uniform is the paper's sum.
    Source:
        arXiv 2411.05735, Aioli and its LearnParams. Release at a236112, trainer/aioli_trainer.py; ``memory`` as there. Its script
        for 7 domains: eta = 1, focus = 0.75, 2 sweeps of 10 steps a trial, 70 % of a round, memory 0.1, 40k steps.
    Differences:
        A trial has the release's share of the run, and 2 steps at least. Defaults are for runs of hundreds of steps, in which
        that is long: one sweep, half of a round. The first step is drawn uniformly, so that there is a loss to start from. A sums
        to 1, so that K w A has a mean of 1 / K a column: eta = 1 moves p by some percent a round. Held-out losses are those of
        the validation split's last sequences.
    """

    step_size: float = 1.0  # eta
    focus: float = 0.75
    sweeps: int = 1
    trial: int = 2  # steps, at least
    measure: float = 0.5  # share of a round that is trials
    memory: float | None = None

    needs = frozenset({Signal.VALID_LOSS})
    cite = "chen2025aioli"

    def __post_init__(self) -> None:
        if not (0.5 < self.focus <= 1 and 0 < self.measure < 1):
            got = f"{self.focus} and {self.measure}"
            raise ValueError(f"focus must lie in (0.5, 1] and measure between 0 and 1, got {got}")
        if self.sweeps < 1 or self.trial < 1 or self.step_size < 0:
            got = f"{self.sweeps}, {self.trial} and {self.step_size}"
            raise ValueError(f"sweeps and trial must be at least 1 and step_size not negative, got {got}")
        if self.memory is not None and not 0 <= self.memory < 1:
            raise ValueError(f"memory must lie in [0, 1), or be left out, got {self.memory}")

    def start(self, start: Start) -> None:
        k = len(start.domains)
        self._target_K = start.objective_weights
        self._trial_KK = np.full((k, k), (1 - self.focus) / max(1, k - 1))
        np.fill_diagonal(self._trial_KK, self.focus if k > 1 else 1.0)
        self._trial = max(self.trial, round(TRIAL * start.total_steps))
        self._trials = self.sweeps * k * self._trial  # steps of a round
        self._round = max(self._trials + 1, round(self._trials / self.measure))
        self.rng_ = start.rng
        self.weight_ = np.full(k, 1 / k)
        self.loss_ = np.zeros(k)  # at the end of the last trial or round
        self.effect_: np.ndarray | None = None  # A, or its average
        self._begin()

    def _begin(self) -> None:
        k = len(self.weight_)
        self.order_ = np.concatenate([np.argsort(self.rng_.random(k)) for _ in range(self.sweeps)])
        self.decrease_ = np.zeros((k, k))

    def _place(self, step: int) -> int:
        """Place of a step in its round, from 0; the very first step is the last of a round of which there was no more."""
        return (step - 1) % self._round

    def sampling_weights(self, step: int) -> np.ndarray:
        place = self._place(step)
        return self._trial_KK[self.order_[place // self._trial]] if place < self._trials else self.weight_

    def wants(self, step: int) -> frozenset[Signal]:
        place = self._place(step)
        ends_trial = place < self._trials and (place + 1) % self._trial == 0
        return self.needs if ends_trial or place == self._round - 1 else frozenset()

    def observe(self, stats: StepStats) -> None:
        if not self.wants(stats.step):
            return
        before_K, self.loss_ = self.loss_, stats[Signal.VALID_LOSS].copy()
        place = self._place(stats.step)
        if place < self._trials:
            self.decrease_[:, self.order_[place // self._trial]] += before_K - self.loss_
        if place == self._trials - 1:
            self._learn()
            self._begin()

    def _learn(self) -> None:
        effect_KK = np.linalg.solve(self._trial_KK, self.decrease_.T).T
        effect_KK -= min(0.0, effect_KK.min())
        if not effect_KK.any():  # nothing was learned
            return
        effect_KK /= effect_KK.sum()
        log_K = np.log(np.maximum(self.weight_, 1e-30))
        if self.memory is not None:
            past_KK = effect_KK if self.effect_ is None else self.effect_
            effect_KK, log_K = (1 - self.memory) * effect_KK + self.memory * past_KK, 0.0
        self.effect_ = effect_KK
        self.weight_ = softmax(log_K + self.step_size * len(self.weight_) * self._target_K @ effect_KK)
