"""Which runs would answer what a finished experiment only bounds? Writes the overlay that trains them.

Matched horizon: each method once more with a schedule that ends where its median seed crossed the threshold (--part: earlier, as a
share of that). Under a decaying schedule such a run ends lower than the crossing, so the shortest schedule that gets there is
shorter still: repeat on the new results, or give several parts. Equal compute: the best cheap baseline for as many steps as the
whole compute of each dearer method pays for. Laid over the experiment's configuration the overlay is an experiment of its own,
which shares all runs that are there.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from acodm_analysis import compute_matched
from acodm_analysis.core.frames import THRESHOLDS, crossings, finals, horizon, runs_of, thresholds, title
from acodm_analysis.core.seed_statistics import median
from acodm_core import entry
from acodm_core.errors import UserError, unknown_name
from acodm_core.files import atomic
from acodm_core.results.reader import Results

SUFFIX = "-horizons"


def at_crossings(
    results: Results, threshold: str, parts: Sequence[float], methods: Sequence[str]
) -> dict[str, list[int]]:
    """Method -> steps at ``parts`` of the median crossing, rounded up; nothing for a method whose median seed never crossed."""
    found = crossings(results, methods).query("threshold == @threshold")
    middle = found.groupby("method")["steps"].agg(median)
    return {
        method: sorted({max(1, math.ceil(part * middle[method])) for part in parts})
        for method in methods
        if math.isfinite(middle.get(method, math.nan))
    }


def at_equal_compute(results: Results, methods: Sequence[str]) -> dict[str, list[int]]:
    """The best cheap baseline -> the steps that the whole compute of each of ``methods`` pays for, where that is more than it had.

    A cheap method has only its own; methods of equal compute share a run.
    """
    cheap = compute_matched.cheap(results)
    ends = finals(results).groupby("method")["valid_mean"].agg(median).reindex(cheap)
    ends = ends[np.isfinite(ends)]
    if ends.empty:
        return {}
    best = ends.idxmin()
    runs = runs_of(results, [best])
    step = float(median((runs["model_flops"] + runs["method_flops"]) / runs["steps"]))
    whole = compute_matched.table(results).set_index("method")["whole_flops"].reindex(methods).dropna()
    steps = {math.floor(flops / step * (1 + compute_matched.SLACK)) for flops in whole if math.isfinite(flops)}
    return {best: sorted(one for one in steps if one > horizon(results))}


def horizons(
    results: Results, threshold: str, parts: Sequence[float] = (1.0,), methods: Sequence[str] = ()
) -> dict[str, list[int]]:
    """Method -> steps of further trainings: those that are there, and what these two questions ask for besides."""
    wanted = list(methods) or results.compare
    for method in wanted:
        if method not in results.compare:
            raise unknown_name("compared method", method, results.compare, where="--method")
    further = runs_of(results, further=True)
    found = {method: set(rows["steps"]) for method, rows in further[~further["compared"]].groupby("method")}
    for more in (at_crossings(results, threshold, parts, wanted), at_equal_compute(results, wanted)):
        for method, steps in more.items():
            found.setdefault(method, set()).update(steps)
    kept = {method: sorted(int(one) for one in steps - {horizon(results)}) for method, steps in found.items()}
    return {method: kept[method] for method in results.compare if kept.get(method)}


def overlay(results: Results, threshold: str, found: dict[str, list[int]]) -> str:
    """The YAML of an experiment that trains ``found`` beside what was trained."""
    name = results.experiment["experiment"].removesuffix(SUFFIX)
    setter, loss = thresholds(results).set_index("threshold").loc[threshold, ["method", "loss"]]
    lines = [
        f"# Laid over the configuration of {name}: its methods trained further, on every seed, with schedules to so many steps.",
        f"# Matched horizon: where median seeds crossed {title(results, setter)}'s final loss ({loss:.4f} nats), or parts of that.",
        f"# Equal compute: the best cheap baseline beyond {horizon(results)} steps. Written by `acodm rerun` from the results of"
        f" {results.experiment['experiment']}.",
        f"experiment: {name}{SUFFIX}",
        "horizons:",
        *(f"  {method}: {steps}" for method, steps in found.items()),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m acodm_analysis.pages.rerun",
        description=__doc__,
        epilog="example: python -m acodm_analysis.pages.rerun results/quick quick-horizons.yaml --part 0.8 --part 1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder that `collect` wrote")
    parser.add_argument("out", type=Path, metavar="OUT_YAML", help="the overlay to write")
    parser.add_argument("--threshold", choices=THRESHOLDS, default="natural", help="whose final loss is crossed")
    parser.add_argument(
        "--part", type=float, action="append", help="of the crossing's step, at most 1; default 1; repeat"
    )
    parser.add_argument("--method", action="append", default=[], help="only these; default: all compared; repeat")
    arguments = parser.parse_args()

    def body() -> None:
        parts = arguments.part or [1.0]
        if not all(0 < part <= 1 for part in parts):
            raise UserError(f"got {parts}", where="--part", fix="shares above 0 and at most 1")
        results = Results(arguments.results)
        found = horizons(results, arguments.threshold, parts, arguments.method)
        if not found:
            raise UserError(
                "nothing to run again: no method crossed before its end, and none cost more than a plain run"
            )
        text = overlay(results, arguments.threshold, found)
        with atomic(arguments.out) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(text, end="")

    entry.run("error", body)


if __name__ == "__main__":
    main()
