"""What a job asks a scheduler for: what the configuration says, else what ``acodm plan --save`` estimated, with room to spare.

Read whenever the Snakefile is, so nothing is counted, timed or imported for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from acodm_core.data.sources.shards import divide, read_listing
from acodm_core.files import read_json, write_json
from acodm_core.planning.estimate import Estimate
from acodm_core.study.config import Experiment
from acodm_core.study.planner import Plan

FILE = "estimate.json"
MEMORY_MB, MINUTES = 2000, 120  # where nothing is known
SMALL_MB, SMALL_MINUTES = 4000, 120  # of the jobs that nobody estimates: documents, tables, a report
# Peaks of finished runs were up to 1.3 times the estimate, and their seconds 2.2 times on a busy machine (docs/how-to/plan.md).
MEMORY_MARGIN, TIME_MARGIN = 1.5, 3
START_MINUTES = 10  # imports, reading a corpus over a network, a last checkpoint
# A core tokenises a megabyte of text a second; compressed shards are 0.35 of their text (docs/how-to/real-corpora.md).
TEXT_BYTES_A_SECOND, SHARD_OF_TEXT = 1e6, 0.35


def save(estimate: Estimate, plan: Plan, results: Path) -> Path:
    """Write ``results/estimate.json``: run -> seconds (null: not timed) and bytes of memory. A changed run has another name."""
    rows = {row.method: row for row in estimate.rows}
    found = {}
    for name, runs in plan.alike().items():
        row = rows[name]
        seconds = None if row.seconds is None else row.seconds / row.runs
        found |= {run: {"seconds": seconds, "memory_bytes": row.memory_bytes} for run in runs}
    write_json(path := results / FILE, found)
    return path


class Requests:
    """Megabytes and minutes of the jobs of one experiment.

    Args:
        results: the experiment's folder; its ``estimate.json`` may be missing, or older than the configuration.
    """

    def __init__(self, experiment: Experiment, plan: Plan, results: Path) -> None:
        self.experiment, self.plan, self.given = experiment, plan, experiment.resources
        path = results / FILE
        self.known = read_json(path) if path.is_file() else {}

    def memory_mb(self, run: str, attempt: int = 1) -> int:
        """Of training ``run``. What was derived grows with each attempt: the last one may have ended for want of it."""
        if self.given.memory_mb:
            return self.given.memory_mb
        return attempt * self._memory_mb([run]) * max(1, self.given.gpus)

    def minutes(self, run: str) -> int:
        """Of training ``run``, the start of its program included."""
        return self.given.minutes or self._minutes(self._seconds(run))

    def evaluation_minutes(self) -> int:
        """Of a downstream task, which nobody estimates."""
        return self.given.minutes or MINUTES

    def probe_memory_mb(self, threads: int) -> int:
        """Of the probe: the process that timed all methods, and ``threads`` more in which memory is read."""
        return (1 + threads) * (self.given.memory_mb or self._memory_mb(self.plan.probed().values()))

    def probe_minutes(self) -> int:
        """Of the probe: its steps, with the plain ones beside each method's, and the start of a process for each memory."""
        probe, seconds = self.experiment.probe, 0.0
        for run in self.plan.probed().values():
            if (known := self._seconds(run)) is None:
                return MINUTES
            step = known / self.plan.runs[run].training.steps
            seconds += 2 * (probe.warmup + probe.blocks * probe.steps) * step
            seconds += probe.memory_repeats * (probe.warmup * step + 30)
        return self._minutes(seconds)

    def _memory_mb(self, runs: Iterable[str]) -> int:
        peaks = [self.known[run]["memory_bytes"] for run in runs if run in self.known]
        return math.ceil(MEMORY_MARGIN * max(peaks) / 1e6) if peaks else MEMORY_MB

    def _seconds(self, run: str) -> float | None:
        return self.known.get(run, {}).get("seconds")

    def _minutes(self, seconds: float | None) -> int:
        return MINUTES if seconds is None else START_MINUTES + math.ceil(TIME_MARGIN * seconds / 60)


@cache
def piece_minutes(listing: str, pieces: int) -> int:
    """Of tokenising the largest of ``pieces`` of the shards in ``listing`` on one core.

    Raises:
        FileNotFoundError: there is no list yet; Snakemake then asks again before the job.
    """
    Path(listing).stat()
    size = max(sum(shard.bytes for shard in piece) for piece in divide(read_listing(Path(listing)), pieces))
    return START_MINUTES + math.ceil(TIME_MARGIN * size / SHARD_OF_TEXT / TEXT_BYTES_A_SECOND / 60)
