"""What mixers compute themselves, without the signals that are measured for them: CPU milliseconds at 22 domains.

    python benchmarks/mixers.py                              # every mixer of the baselines and AC-ODM's variants
    python benchmarks/mixers.py hds odm my_package.my_mixer

Each run is one of 200 made-up steps, as `acodm check` times them; runs of all mixers take turns, so that a change in the speed of
the machine meets them all. Printed: medians over runs of the mean, the median and the longest step, and of the start, where a
mixer that reads other runs fits what it found in them. A mixer that refits now and then has a longest step far above its median.
Mixers should stay under 3 ms per step, refits aside.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from acodm_core.contract.case import Case, case_of, domain_names, start
from acodm_core.contract.checks import MOST_DOMAINS
from acodm_core.contract.speed import step_seconds
from acodm_core.lm.kernels.device import prepare
from acodm_core.measure import provenance
from acodm_core.mixers.find import baseline_names

VARIANTS = ("acodm", "hds", "acodm_released", "acodm_paper")


def measure(case: Case) -> tuple[float, float, float, float]:
    """Seconds: the mean, the median and the longest step of one run, and the start."""
    begin = time.process_time()
    start(case, domain_names(MOST_DOMAINS), steps=200)
    started = time.process_time() - begin
    seconds = step_seconds(case)
    return float(seconds.mean()), float(np.median(seconds)), float(seconds.max()), started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mixers", nargs="*", default=[*baseline_names(), *VARIANTS], help="names of mixers or methods")
    parser.add_argument("--runs", type=int, default=5, help="of each mixer (5)")
    options = parser.parse_args()
    prepare("cpu", threads=1)
    console, found = Console(), defaultdict(list)
    cases = {name: case_of(name) for name in options.mixers}
    for case in cases.values():
        step_seconds(case, 20)  # imports what it needs, and makes the runs that it reads
    for _ in track(range(options.runs), "runs", console=console):
        for name, case in cases.items():
            found[name].append(measure(case))
    console.print(
        f"{provenance.hardware('cpu')}, {MOST_DOMAINS} domains, medians of {options.runs} runs, ms of CPU time"
    )
    table = Table("mixer", *("mean step", "median step", "longest step", "start"))
    for name, runs in found.items():
        table.add_row(name, *(f"{1e3 * value:,.3f}" for value in np.median(runs, axis=0)))
    console.print(table)


if __name__ == "__main__":
    main()
