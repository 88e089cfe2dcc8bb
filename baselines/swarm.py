"""One run of a swarm: a fixed mixture of its own, and the held-out losses that it led to."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from acodm_core.errors import UserError
from acodm_core.mixing import Mixer, Signal, Start, StepStats, save_member, simplex


@dataclass
class Swarm(Mixer):
    """Draw by a mixture that the run's number decides, and write down what a model learns from it.

    Idea:
        Many cheap runs on different mixtures show how a mixture decides the losses; a method with a swarm reads them all.
    Update:
        ``random``: q_i' = q_i^0.5 / sum, q the natural shares; p ~ Dirichlet(s q'), s one of 15 strengths, log-spaced in
        [0.1, 5], until no p_i > 15 q_i (15 epochs of a domain where the others together have one); then shares under
        2e-4 to 0, all to multiples of it, and none twice in a swarm.
        ``one_domain``: all of one domain, the one of the run's number.
        member.json: ``weights``, and the held-out losses ``final``, after the last step, and ``initial``, after the first
        (one_domain only).
    Source:
        arXiv 2407.01492, section 3; release at b004d3a, mixture_config/synthesize_mixture.py. One domain a run: the skills
        graph of arXiv 2307.14430.
    Differences:
        Mixtures are taken in the order drawn, where the release draws 100 times too many, drops those that are nearly equal
        and picks at random: so a swarm that grows keeps the runs that it has. Each seed has a swarm of its own. Initial
        losses are those after one step, at the learning rate's first, small value.
    """

    member: int = 0
    mixture: Literal["random", "one_domain"] = "random"

    needs = frozenset({Signal.VALID_LOSS})
    cite = "liu2025regmix"

    def __post_init__(self) -> None:
        if self.member < 0:
            raise ValueError(f"member is a number from 0, got {self.member}")

    def check(self, domains: tuple[str, ...], *, where: str) -> None:
        if self.mixture == "one_domain" and self.member >= len(domains):
            what = f"no domain has number {self.member}: there are {len(domains)}, from 0"
            raise UserError(what, where=f"{where}.member", fix="write  members: domains")

    def start(self, start: Start) -> None:
        k = len(start.domains)
        self._domains, self._last = start.domains, start.total_steps - 1
        if self.mixture == "one_domain":
            self.mixture_ = np.eye(k)[self.member]
        else:
            self.mixture_ = _mixture(start.prior, self.member, start.rng)
        self.initial_, self.final_ = np.full(k, np.nan), np.full(k, np.nan)

    def sampling_weights(self, step: int) -> np.ndarray:
        return self.mixture_

    def wants(self, step: int) -> frozenset[Signal]:
        looks = (0, self._last) if self.mixture == "one_domain" else (self._last,)
        return self.needs if step in looks else frozenset()

    def observe(self, stats: StepStats) -> None:
        wanted = self.wants(stats.step)
        if wanted and stats.step == 0:
            self.initial_ = stats[Signal.VALID_LOSS].copy()
        if wanted and stats.step == self._last:
            self.final_ = stats[Signal.VALID_LOSS].copy()

    def save(self, folder: Path) -> None:
        save_member(folder, self._domains, {"weights": self.mixture_, "initial": self.initial_, "final": self.final_})


def _draws(prior_K: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[float, ...]]:
    """Random mixtures around the tempered natural shares, in multiples of 2e-4; a try that passes a cap gives none."""
    tempered_K, strengths, least = simplex(np.sqrt(prior_K)), np.geomspace(0.1, 5.0, 15), 2e-4
    while True:
        mixture_K = rng.dirichlet(tempered_K * rng.choice(strengths))
        if (mixture_K <= 15 * prior_K).all():
            yield tuple(np.round(simplex(np.where(mixture_K < least, 0.0, mixture_K)) / least))


def _mixture(prior_K: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """(K,) the random mixture of this number, unlike those of smaller numbers unless there are no more."""
    distinct: dict[tuple[float, ...], None] = {}
    for share in itertools.islice(_draws(prior_K, rng), 100 * (number + 1)):
        distinct[share] = None
        if len(distinct) > number:
            break
    return simplex(list(distinct)[number % len(distinct)])
