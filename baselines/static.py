"""Fixed weights: a literal, a published vector, a file or another run's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from acodm_core.errors import UserError, unknown_name
from acodm_core.mixing import Mixer, Start, simplex


@dataclass
class Static(Mixer):
    """Draw every domain by given weights.

    Idea:
        The last stage of every method that searches weights first, and the home of published weight vectors.
    Update:
        p_i = w_i / sum_j w_j, fixed.
    Source:
        One of ``weights`` (domain -> weight), ``published`` (a vector of baselines/published.yaml, which says where each is
        from), ``file`` (JSON, domain -> weight), or the input run ``weights`` (its weights.json).
    Differences:
        None. Weights must name exactly the experiment's domains: a missing one is an error, never a zero.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    published: str = ""
    file: str = ""

    cite = ""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.weights, self.published, self.file))) > 1:
            raise ValueError("give one of weights, published and file, not several")
        # What stands elsewhere is read at once and becomes `weights`: a run is named by its options, so by the weights that it
        # is drawn by. The same file changed is another run, and a run does not miss a file that has gone.
        if self.published:
            self.weights, self.published = _published(self.published), ""
        if self.file:
            self.weights, self.file = _read(Path(self.file), "file"), ""

    def required_inputs(self) -> tuple[str, ...]:
        return () if self.weights else ("weights",)

    def check(self, domains: tuple[str, ...], *, where: str) -> None:
        if self.weights:
            _vector(self.weights, domains, f"{where}.weights")

    def start(self, start: Start) -> None:
        path = None if self.weights else start.input("weights") / "weights.json"
        weights = _read(path, str(path)) if path else self.weights
        self.mixture_ = _vector(weights, start.domains, str(path or "weights"))

    def sampling_weights(self, step: int) -> np.ndarray:
        return self.mixture_


def _published(name: str) -> Mapping[str, float]:
    vectors = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
    if name not in vectors:
        raise unknown_name("published vector", name, vectors, where="published")
    return vectors[name]["weights"]


def _read(path: Path, where: str) -> Mapping[str, float]:
    try:
        weights = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(weights, dict) or not weights:
            raise ValueError("not a JSON object of weights")
    except (OSError, ValueError) as error:
        what = f"cannot read weights from {path}: {error}"
        raise UserError(what, where=where, fix='write {"domain": weight, ...}') from None
    return weights


def _vector(weights: Mapping[str, float], domains: tuple[str, ...], where: str) -> np.ndarray:
    if set(weights) != set(domains):
        missing, extra = sorted(set(domains) - set(weights)), sorted(set(weights) - set(domains))
        raise UserError(
            f"weights must name exactly the domains; missing {missing}, unknown {extra}",
            where=where,
            fix=f"the domains are: {', '.join(domains)}\n     the weights name: {', '.join(weights)}",
        )
    try:
        return simplex(np.array([weights[d] for d in domains], dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise UserError(str(error), where=where, fix="weights are numbers, none negative, not all zero") from None
