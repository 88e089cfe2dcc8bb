"""Fixed weights from a literal, a file or another run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from acodm_core.errors import UserError
from acodm_core.mixing import Mixer, Start, simplex


@dataclass
class Static(Mixer):
    """Draw every domain by given weights.

    Idea:
        The last stage of every method that searches weights first, and the home of published weight vectors.
    Update:
        p_i = w_i / sum_j w_j, fixed.
    Source:
        ``weights`` (domain -> weight), or ``file`` (JSON, domain -> weight), or the input run ``weights`` (its weights.json).
    Differences:
        None. Weights must name exactly the experiment's domains: a missing one is an error, never a zero.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    file: str = ""

    cite = ""

    def __post_init__(self) -> None:
        if self.weights and self.file:
            raise ValueError("give weights or file, not both")

    def required_inputs(self) -> tuple[str, ...]:
        return () if self.weights or self.file else ("weights",)

    def check(self, domains: tuple[str, ...], *, where: str) -> None:
        if self.weights:
            _vector(self.weights, domains, f"{where}.weights")
        elif self.file:
            _vector(_read(Path(self.file), f"{where}.file"), domains, f"{where}.file")

    def start(self, start: Start) -> None:
        path = Path(self.file) if self.file else None if self.weights else start.input("weights") / "weights.json"
        weights = _read(path, str(path)) if path else self.weights
        self.share_ = _vector(weights, start.domains, str(path or "weights"))

    def sampling(self, step: int) -> np.ndarray:
        return self.share_


def _read(path: Path, where: str) -> Mapping[str, float]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read weights from {path}: {error}", where=where, fix='write {"domain": weight, ...}'
        ) from None


def _vector(weights: Mapping[str, float], domains: tuple[str, ...], where: str) -> np.ndarray:
    if set(weights) != set(domains):
        missing, extra = sorted(set(domains) - set(weights)), sorted(set(weights) - set(domains))
        raise UserError(f"weights must name exactly the domains; missing {missing}, unknown {extra}", where=where)
    try:
        return simplex(np.array([weights[d] for d in domains], dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise UserError(str(error), where=where, fix="weights are numbers, none negative, not all zero") from None
