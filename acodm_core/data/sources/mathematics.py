"""Procedural mathematics: DeepMind's ``mathematics_dataset`` (Apache-2.0), mended in memory.

Saxton et al., "Analysing Mathematical Reasoning Abilities of Neural Models", 2019. Release 1.0.1 is from 2019. Since
then sympy moved a function and numpy dropped ``np.object`` and ``ndarray.itemset``; and it iterates over sets of
strings and of plain objects, so that two runs from one seed differ. Two files are therefore read, changed at the places
listed below and loaded under their own names; the installed package stays as it is.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from acodm_core.errors import UserError

PROBLEMS_PER_DOCUMENT = 16
LEVELS = 3  # easy, medium, hard: equal slices of each module's range of entropy
LONGEST_QUESTION, LONGEST_ANSWER = 160, 30  # characters: the limits of the published data set

_MENDS = {
    "mathematics_dataset.sample.polynomials": {
        "sympy.solvers.diophantine import": "sympy.solvers.diophantine.diophantine import",
        "np.object)": "object)",
        "coeffs.itemset(index, value)": "coeffs[index] = value",
        "expanded_coefficients.itemset(power, coeffs)": "expanded_coefficients[power] = coeffs",
    },
    "mathematics_dataset.util.composition": {
        "entities = set(context.child_entities)": "entities = dict.fromkeys(context.child_entities)",
        "entities.add(maybe_entity)": "entities[maybe_entity] = None",
        "random.choice(list(allowed))": "random.choice(sorted(allowed))",
    },
}

LEFT_OUT = "probability"  # two of 56 modules, and half of the time

Sampler = Callable[[], Any]


def documents(seed: int, megabytes: float) -> Iterator[str]:
    """Yield documents of ``PROBLEMS_PER_DOCUMENT`` problems of one kind, until they hold ``megabytes`` (10^6 bytes).

    Document ``i`` depends on ``(seed, i)`` alone: asking for more appends and changes nothing before it.
    About 20 kB a second on one core.
    """
    samplers = _samplers()
    kinds = sorted(samplers)
    size = number = 0
    while size < megabytes * 1e6:
        with _seeded(f"mathematics:{seed}:{number}"):
            sampler = samplers[random.choice(kinds)]
            document = "\n".join(_problem(sampler) for _ in range(PROBLEMS_PER_DOCUMENT))
        size += len(document.encode())
        number += 1
        yield document


def _problem(sampler: Sampler) -> str:
    while True:
        problem = sampler()
        question, answer = str(problem.question), str(problem.answer)
        if len(question) <= LONGEST_QUESTION and len(answer) <= LONGEST_ANSWER:
            return f"{question}\n{answer}"


@cache
def _samplers() -> dict[str, Sampler]:
    """Samplers of problems by kind: ``level/module/name``."""
    if importlib.util.find_spec("mathematics_dataset") is None:
        raise UserError("mathematics-dataset is not installed", fix="pip install mathematics-dataset==1.0.1")
    for name, mends in _MENDS.items():
        _load_mended(name, mends)
    modules = importlib.import_module("mathematics_dataset.modules.modules")
    flat: dict[str, Sampler] = {}
    for level in range(LEVELS):
        _flatten(modules.train(_slice(level)), str(level), flat)
    return {name: sampler for name, sampler in flat.items() if f"/{LEFT_OUT}/" not in name}


def _load_mended(name: str, mends: Mapping[str, str]) -> None:
    parent_name, _, leaf = name.rpartition(".")
    spec = importlib.util.find_spec(name)
    source = spec.loader.get_source(name)
    for old, new in mends.items():
        if old not in source:
            raise UserError(f"{name} is not the expected release", fix="pip install mathematics-dataset==1.0.1")
        source = source.replace(old, new)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(source, spec.origin, "exec"), module.__dict__)
    setattr(importlib.import_module(parent_name), leaf, module)


def _slice(level: int) -> Callable[[tuple[float, float]], tuple[float, float]]:
    def entropy_range(whole: tuple[float, float]) -> tuple[float, float]:
        low, width = whole[0], (whole[1] - whole[0]) / LEVELS
        return low + level * width, low + (level + 1) * width

    return entropy_range


def _flatten(tree: Mapping[str, Any], prefix: str, flat: dict[str, Sampler]) -> None:
    for key, value in tree.items():
        name = f"{prefix}/{key}"
        if isinstance(value, dict):
            _flatten(value, name, flat)
        else:
            flat[name] = value


@contextmanager
def _seeded(seed: str) -> Iterator[None]:
    """Seed the three generators that the package draws from, and put the caller's states back."""
    import numpy as np
    from sympy.core.random import rng as sympy_rng

    python_state, sympy_state, numpy_state = random.getstate(), sympy_rng.getstate(), np.random.get_state()
    random.seed(seed)
    sympy_rng.seed(random.getrandbits(64))
    np.random.seed(random.getrandbits(32))
    try:
        yield
    finally:
        random.setstate(python_state)
        sympy_rng.setstate(sympy_state)
        np.random.set_state(numpy_state)
