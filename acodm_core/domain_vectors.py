"""Vectors with one number per domain: points of the simplex, and the files in which a run leaves vectors to later runs.

Legend: K domains, N runs of a swarm.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from acodm_core.errors import UserError


def simplex(weights: np.ndarray, *, name: str = "weights") -> np.ndarray:
    """``weights`` as a float64 point of the simplex; ValueError if an entry is negative, not finite, or all are zero."""
    w = np.asarray(weights, dtype=np.float64)
    total = w.sum()
    if w.ndim != 1 or not (0 < total < np.inf and w.min() >= 0):
        raise ValueError(f"{name} must be finite, non-negative and not all zero: {np.array2string(w, precision=4)}")
    return w / total


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax of a vector, safe for large entries."""
    z = np.exp(logits - np.max(logits))
    return z / z.sum()


def save_weights(folder: Path, domains: tuple[str, ...], weight_K: np.ndarray) -> None:
    """Write ``folder/weights.json``, what the mixer `static` draws by when it has the run as its input ``weights``."""
    _write_json(folder / "weights.json", _by_domain(domains, weight_K))


def save_member(folder: Path, domains: tuple[str, ...], vectors: Mapping[str, np.ndarray]) -> None:
    """Write ``folder/member.json``, what ``read_swarm`` reads of one run: name -> (K,) vector; null where it is NaN."""
    _write_json(folder / "member.json", {name: _by_domain(domains, vector_K) for name, vector_K in vectors.items()})


def read_swarm(folders: tuple[Path, ...], domains: tuple[str, ...], *names: str) -> list[np.ndarray]:
    """What the runs of a swarm saved: for each name an array (N, K), a row a run; NaN where a run has no value.

    Raises:
        UserError: a run that saved nothing, no vector of such a name, or one of other domains.
    """
    members = []
    for folder in folders:
        path = folder / "member.json"
        try:
            member = json.loads(path.read_text(encoding="utf-8"))
            members.append([[member[name][domain] for domain in domains] for name in names])
        except (OSError, ValueError) as error:
            raise UserError(f"not a run of a swarm: {error}", where=str(path)) from None
        except KeyError as error:
            fix = "its runs must see the same domains, or groups of them, and measure what this mixer reads"
            raise UserError(f"the swarm has nothing for {error}", where=str(path), fix=fix) from None
    return list(np.array(members, dtype=np.float64).transpose(1, 0, 2))


def _by_domain(domains: tuple[str, ...], vector_K: np.ndarray) -> dict[str, float | None]:
    values = [value if np.isfinite(value) else None for value in vector_K.tolist()]
    return dict(zip(domains, values, strict=True))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
