"""Every table and figure in one go: what the separate programs write, into one folder."""

from __future__ import annotations

from pathlib import Path

from acodm_core.study.results import Results

from . import comparison, cost, curves, domains, mixtures, overhead, paired, repetition, steps_to_target
from .tables import program

OUTPUTS = (comparison, paired, curves, steps_to_target, domains, mixtures, repetition, overhead, cost)


def render(results: Results, out: Path) -> None:
    for output in OUTPUTS:
        output.render(results, out)


if __name__ == "__main__":
    program("render", __doc__, render, comparison.show)
