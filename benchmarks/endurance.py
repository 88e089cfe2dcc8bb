"""Whether a long run stays as fast and as small as it began: time a step and resident memory over many steps of a tiny model.

    python benchmarks/endurance.py workflow/config/synthetic.yaml [--steps 20000] [--method acodm] [--out endurance]

The real trainer with the experiment's corpus, the method named, and evaluation and checkpoints as the experiment has them, in one
process with one thread. Writes OUT.csv (a row a block of 200 steps) and OUT.svg. A shared machine is slower at one time than at
another, in processor seconds too, so a fixed piece of work is timed after each block: what counts is a step in units of that. The
first block, where buffers fill, is left out of the comparison.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from acodm_core.data.corpus import Corpus
from acodm_core.lm.train import Trainer
from acodm_core.measure.ratio import ratio_of_medians
from acodm_core.study.config import load_experiment
from acodm_core.study.planner import plan

BLOCK = 200  # steps
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def resident() -> float:
    """MB of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def reference() -> float:
    """Processor ms of work that is always the same: the median of small matrix products and of Python loops between them."""
    matrix = torch.ones(256, 256)
    times = []
    for _ in range(15):
        began = time.process_time()
        for _ in range(20):
            torch.mm(matrix, matrix)
            sum(range(2000))
        times.append(1e3 * (time.process_time() - began))
    return float(np.median(times))


def watched(trainer: Trainer) -> list[dict[str, float]]:
    """Rows that fill while ``trainer`` runs: one after each BLOCK steps, everything between two steps included."""
    rows: list[dict[str, float]] = []
    take, began = trainer.train_step.step, [time.perf_counter(), time.process_time()]

    def step(batch, number, *rest):
        if number and number % BLOCK == 0:
            clock, cpu = time.perf_counter(), time.process_time()
            spent = (1e3 * (clock - began[0]) / BLOCK, 1e3 * (cpu - began[1]) / BLOCK)
            row = dict(step=number, wall_ms=spent[0], processor_ms=spent[1], reference_ms=reference())
            rows.append(row | {"resident_mb": resident()})
            began[:] = time.perf_counter(), time.process_time()
        return take(batch, number, *rest)

    trainer.train_step.step = step
    return rows


def draw(table: pd.DataFrame, title: str, out: Path) -> None:
    figure, (time_axis, memory_axis) = plt.subplots(2, 1, figsize=(7, 4), sharex=True, layout="constrained")
    time_axis.plot(table.step, table.processor_ms, color="#b9c7d6", label="as measured, on a shared machine")
    steady = table.processor_ms / table.reference_ms * table.reference_ms.median()
    time_axis.plot(table.step, steady, color="#0072b2", label="at the machine's median speed")
    memory_axis.plot(table.step, table.resident_mb, color="#d55e00")
    time_axis.set(ylabel="processor ms a step", ylim=(0, None), title=title)
    memory_axis.set(ylabel="resident MB", ylim=(0, None), xlabel="step")
    time_axis.legend(frameon=False, loc="lower right")
    for axis in (time_axis, memory_axis):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--corpora", type=Path, default=Path("data/corpora"))
    parser.add_argument("--method", default="acodm")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("endurance"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    experiment = load_experiment(options.config)
    recipe = experiment.training.model_copy(update={"steps": options.steps, "batch": options.batch})
    roles = experiment.roles | {"target": experiment.roles["proxy"]}
    small = experiment.model_copy(update={"training": recipe, "roles": roles, "seeds": (0,)})
    (spec,) = (spec for spec in plan(small).runs.values() if spec.method == options.method)
    corpus = Corpus.open(options.corpora / experiment.corpus.id)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(spec, corpus, Path(folder), {}, "cpu")
        rows = watched(trainer)
        status = trainer.run()
    table = pd.DataFrame(rows)
    table.to_csv(options.out.with_suffix(".csv"), index=False, float_format="%.3f")
    tenth = max(1, len(table) // 10)
    early, late = table[1 : 1 + tenth], table[-tenth:]
    steady = [(part.processor_ms / part.reference_ms).to_numpy() for part in (late, early)]
    ratio, low, high = ratio_of_medians(*steady)
    growth = late.resident_mb.median() - early.resident_mb.median()
    title = f"{options.method}, {options.steps:,} steps: the last tenth takes {ratio:.3f} of the first's time, {growth:+.1f} MB"
    draw(table, title, options.out.with_suffix(".svg"))
    print(f"{status}: a step in units of fixed work, last tenth / first: {ratio:.3f}  [{low:.3f}, {high:.3f}]")
    print(f"that work took {late.reference_ms.median() / early.reference_ms.median():.3f} of its first time")
    print(f"resident memory, last tenth - first: {growth:+.1f} MB of {early.resident_mb.median():.0f} MB")


if __name__ == "__main__":
    main()
