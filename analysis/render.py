"""Every table and figure in one go: what the separate programs write, into one folder."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from acodm_analysis import (
    ablation,
    amortised,
    comparison,
    compute_matched,
    cost,
    currencies,
    curves,
    diagnostics,
    domains,
    downstream,
    mixtures,
    noise,
    overhead,
    paired,
    regret,
    repetition,
    steps_to_threshold,
)
from acodm_analysis.core.frames import ORACLE
from acodm_analysis.core.tables import program
from acodm_analysis.paper import claims
from acodm_core.results.tables import Results

OUTPUTS = (
    comparison,
    paired,
    curves,
    steps_to_threshold,
    domains,
    mixtures,
    repetition,
    diagnostics,
    ablation,
    overhead,
    cost,
    currencies,
    amortised,
    compute_matched,
    noise,
    claims,
)


def outputs(results: Results) -> tuple[ModuleType, ...]:
    """What these results have something for: regret needs an oracle, downstream scores need questions."""
    known = (*OUTPUTS, regret) if ORACLE in results.compare else OUTPUTS
    return (*known, downstream) if downstream.has_scores(results) else known


def render(results: Results, out: Path) -> None:
    for output in outputs(results):
        output.render(results, out)


if __name__ == "__main__":
    program("render", __doc__, render, comparison.show)
