"""A schedule written by hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np

from acodm_core.errors import UserError, unknown_name
from acodm_core.mixing import Mixer, Start, simplex

EXAMPLE = "points: [{at: 0.0, weights: natural}, {at: 0.8, weights: natural}, {at: 1.0, weights: {DOMAIN: 1.0, ...}}]"


@dataclass(frozen=True)
class Point:
    """The mixture at one time: a word, or the weight of every domain."""

    at: float  # share of the training steps
    weights: Literal["natural", "uniform"] | Mapping[str, float]

    __pydantic_config__: ClassVar = {"extra": "forbid"}  # a misspelt key is an error


@dataclass
class Curriculum(Mixer):
    """Draw by weights that go in straight lines from point to point over the training.

    Idea:
        People order data by hand: the clean and the small last, the noisy and the large first.
    Update:
        p(t) = (1 - c) p_a + c p_b, where training is at the share c of the way from point a to point b; before the first point
        p is that point's mixture, after the last that one's. Training goes from 0 at its first step to 1 at its last.
    Source:
        Folklore; two-stage and annealed mixtures of language models are special cases.
    Differences:
        None. The default, uniform at first and natural at last, is ours and an example more than a claim.
    """

    points: tuple[Point, ...] = (Point(0.0, "uniform"), Point(1.0, "natural"))

    cite = "folklore"

    def __post_init__(self) -> None:
        times = [point.at for point in self.points]
        if not times:
            raise ValueError(f"a curriculum has at least one point: {EXAMPLE}")
        if any(not 0 <= at <= 1 for at in times):
            raise ValueError(f"`at` is a share of the training, from 0.0 to 1.0, got {times}")
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise ValueError(f"points are in ascending order of `at`, each at its own time, got {times}")

    def check(self, domains: tuple[str, ...], *, where: str) -> None:
        for i, point in enumerate(self.points):
            _mixture(point, domains, np.ones(len(domains)), f"{where}.points[{i}].weights")

    def start(self, start: Start) -> None:
        self.last_ = max(1, start.total_steps - 1)
        self.at_ = np.array([point.at for point in self.points])
        self.mixture_ = np.array([_mixture(point, start.domains, start.prior, "points") for point in self.points])

    def sampling_weights(self, step: int) -> np.ndarray:
        return np.array([np.interp(step / self.last_, self.at_, mixture_P) for mixture_P in self.mixture_.T])


def _mixture(point: Point, domains: tuple[str, ...], prior_K: np.ndarray, where: str) -> np.ndarray:
    """(K,) the point's mixture; UserError where its weights do not fit the domains."""
    if point.weights == "natural":
        return simplex(prior_K)
    if point.weights == "uniform":
        return simplex(np.ones(len(domains)))
    for domain in point.weights:
        if domain not in domains:
            raise unknown_name("domain", domain, domains, where=f"{where}.{domain}")
    if missing := [domain for domain in domains if domain not in point.weights]:
        raise UserError(f"no weight for {missing} at {point.at}", where=where, fix="name every domain; 0.0 is a weight")
    try:
        return simplex(np.array([point.weights[domain] for domain in domains]))
    except ValueError as error:
        raise UserError(str(error), where=where, fix="weights are numbers, none negative, not all zero") from None
