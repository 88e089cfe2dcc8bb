"""What an experiment will cost, before anything is spent: sums of what was counted and timed, and what its seeds can tell apart.

Nothing is measured here: operations come from ``operation_counts``, seconds from ``timing``, bytes from the formulas below.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from acodm_core.errors import UserError
from acodm_core.measure.statistical_power import smallest_difference
from acodm_core.study.config import Experiment, TrainingConfig
from acodm_core.study.planner import Plan, RunSpec

CHECKPOINTS_KEPT = 2
# A step and domain: 115 bytes of the journal, 32 of the three tables; medians of 261 runs of 8 and 12 domains.
RECORD_BYTES = 147
# What a process holds that has imported torch and transformers and trained next to nothing; runs of 44k parameters peaked at 540.
PROCESS_BYTES = 520_000_000
# Activations kept for the backward pass: 34 bytes per token, layer and unit of width at two bytes per number, without attention's
# weights, which its kernels make again (Korthikanti et al. 2022, arXiv 2205.05198, section 4.1); here numbers have four.
ACTIVATION_BYTES = 68
LOGIT_ROWS = 1024  # at a time on a CPU (lm.loss), of four bytes at most


@dataclass(frozen=True)
class Counts:
    """What one run does and keeps; operations are of the whole run."""

    parameters: int
    model_flops: int
    method_flops: int
    evaluation_flops: int
    state_bytes: int  # of the mixer's learned state
    saved_bytes: int  # what the mixer leaves for later runs
    memory_bytes: int  # at the peak


@dataclass(frozen=True)
class Row:
    """All runs of one method to one horizon; seconds are None where nothing was timed."""

    method: str  # "METHOD to N": further trainings of it
    model: str
    parameters: int
    runs: int
    after: tuple[str, ...]  # methods whose runs come first
    compared: bool
    tokens: int
    model_flops: int
    method_flops: int
    evaluation_flops: int
    seconds: float | None
    disk_bytes: int
    memory_bytes: int  # of one run

    @property
    def flops(self) -> int:
        return self.model_flops + self.method_flops + self.evaluation_flops


@dataclass(frozen=True)
class Noise:
    """What earlier seeds say about differences of final test losses (nats)."""

    folder: str
    sd: float  # of the paired differences to the baseline, the median over methods
    methods: int


@dataclass(frozen=True)
class Estimate:
    experiment: str
    rows: tuple[Row, ...]
    corpus_bytes: int | None  # of documents and tokens; None where nobody can know before it is built
    seeds: int
    detectable: (
        float | None
    )  # with ``noise`` in nats, else in standard deviations of the paired differences; None: one seed
    noise: Noise | None
    jobs: int  # training runs at once on this machine
    notes: tuple[str, ...]  # how seconds were come by, and what was assumed

    def total(self, name: str) -> float | None:
        """Sum of a column of the rows; None where a row has none."""
        values = [getattr(row, name) for row in self.rows]
        return None if None in values else sum(values)


def table(plan: Plan, counts: Mapping[str, Counts], seconds: Mapping[str, float]) -> tuple[Row, ...]:
    """One row per group of runs that are alike (``Plan.alike``), inputs first.

    Args:
        counts: name of the group -> what one of its runs does.
        seconds: the same -> of one of its runs; empty where nothing was timed.
    """
    rows = []
    for method, runs in plan.alike().items():
        specs = [plan.runs[run] for run in runs]
        count, n = counts[method], len(specs)
        after = dict.fromkeys(plan.runs[run].method for spec in specs for _, run in spec.needed())
        rows.append(
            Row(
                method=method,
                model=specs[0].model_name,
                parameters=count.parameters,
                runs=n,
                after=tuple(after),
                compared=method in plan.compared,
                tokens=sum(spec.tokens() for spec in specs),
                model_flops=n * count.model_flops,
                method_flops=n * count.method_flops,
                evaluation_flops=n * count.evaluation_flops,
                seconds=n * seconds[method] if seconds else None,
                disk_bytes=n * run_bytes(specs[0], count),
                memory_bytes=count.memory_bytes,
            )
        )
    return tuple(rows)


def run_bytes(spec: RunSpec, count: Counts) -> int:
    """Disk of one run: weights (four bytes per parameter), two checkpoints (weights, AdamW's two moments, the mixer), records."""
    snapshots = len(spec.evaluation.snapshot_steps(spec.training.steps))
    weights = 4 * count.parameters
    checkpoints = CHECKPOINTS_KEPT * (3 * weights + count.state_bytes)
    return (
        (1 + snapshots) * weights
        + count.saved_bytes
        + checkpoints
        + RECORD_BYTES * spec.training.steps * len(spec.domains)
    )


def memory_bytes(parameters: int, kept_bytes: int, vocabulary: int, training: TrainingConfig) -> int:
    """Peak memory of training on a CPU, to within a third or so: the process; weights, gradients and AdamW's moments; what
    the sequences of a micro-batch keep for the backward pass, ``kept_bytes`` each; and the logits of the rows that the loss
    makes at a time. What the allocator holds on to is not in it."""
    sequences = training.micro_batch or training.batch
    return PROCESS_BYTES + 16 * parameters + sequences * kept_bytes + LOGIT_ROWS * 4 * vocabulary


def evaluations(spec: RunSpec) -> int:
    """Validations of one run: before the first step, on the grid, and after the last step."""
    return 1 + math.ceil(spec.training.steps / spec.evaluation.every)


def detectable(seeds: int, noise: Noise | None) -> float | None:
    """The smallest difference that a paired t-test finds with so many seeds at 80 % power; None with fewer than two."""
    return smallest_difference(noise.sd if noise else 1.0, seeds) if seeds > 1 else None


def read_noise(folder: Path) -> Noise:
    """The noise of an earlier experiment, from the card that was rendered for it.

    Raises:
        UserError: no card there, or one of fewer than two seeds.
    """
    import pandas as pd  # heavy

    path = folder / "rendered" / "noise.csv"
    if not path.is_file():
        fix = f"python -m acodm_analysis.render {folder} {folder / 'rendered'}"
        raise UserError("this results folder has no noise card", where=str(path), fix=fix)
    others = pd.read_csv(path)["sd_of_differences"].iloc[1:].dropna()  # the first row is the baseline's own
    if others.empty:
        raise UserError("no method there has two seeds beside the baseline's", where=str(path))
    return Noise(str(folder), float(others.median()), len(others))


def jobs(experiment: Experiment) -> int:
    """Training runs at once on this machine's cores."""
    return max(1, (os.cpu_count() or 1) // experiment.resources.threads)
