"""How long an experiment still takes: what each of its jobs is expected to need, corrected by what the ended ones needed."""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from acodm_core.study.config import Experiment
from acodm_core.study.planner import Plan, RunSpec

START_SECONDS = 8.0  # until a program has imported what it needs; while none has shown how long it takes
FIRST_RATE = 2e10  # operations per second of a training, until one has run; a small model on one core does 3e10
SEEN = 0.05  # of a run, from which on it says how fast runs are
EXTRA = 1.3  # a training's evaluations, checkpoints and signals over its bare steps
TRAININGS = ("train", "train_first")
PROBE = "probe"
# Seconds of one job of the embedded corpus and of a small experiment's tables, on one core; corrected as jobs end.
SECONDS = {
    "fetch": 5.0, "documents": 8.0, "tokenizer": 15.0, "tokenize": 5.0, "seal": 6.0, "shards": 30.0, "piece": 600.0,
    "join": 60.0, "evaluate": 120.0, "contamination": 30.0, "questions": 20.0, "scores": 6.0, "collect": 6.0,
    "render": 60.0, "report": 6.0, "cards": 6.0, "paper": 30.0, "export": 60.0,
}  # fmt: skip
ALONE = {"tokenizer", "seal", "shards", "collect", "render", "report", "scores"}  # nothing else can run beside these
SILENT = {"all", "spec", "corpus_spec", "experiment", "asked"}  # one line of text each
_DONE = re.compile(r"(\d+)/(\d+)")


@dataclass
class Job:
    """A job that runs."""

    rule: str
    name: str  # of the run, the domain or the archive; may be empty
    log: Path | None
    began: float
    done: int = 0
    total: int = 0
    first: tuple[float, int] | None = None  # when progress was first seen, and how far it was: a run may be continued
    note: str = ""  # the program's own last words

    def read(self, now: float) -> None:
        """Bring progress up to date from the last lines of the log, in which programs write DONE/TOTAL."""
        if self.log is None or not self.log.is_file():
            return
        with open(self.log, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 2000))
            lines = file.read().decode(errors="replace").splitlines()
        for line in reversed(lines):
            if found := _DONE.search(line):
                self.done, self.total = int(found[1]), int(found[2])
                self.note = line[found.end() :].strip()
                self.first = self.first or (now, self.done)
                return

    def left(self, now: float) -> float | None:
        """Seconds by its own pace; None where it has not shown one."""
        if self.first is None or self.done <= self.first[1]:
            return None
        return (now - self.first[0]) * (self.total - self.done) / (self.done - self.first[1])


@dataclass
class Work:
    """All jobs of an experiment.

    Args:
        slots: trainings that run at once on this machine.
        cores: small jobs that do.
    """

    experiment: Experiment
    plan: Plan
    slots: int
    cores: int
    waiting: Counter[str] = field(default_factory=Counter)  # rule -> jobs that have not begun
    totals: Counter[str] = field(default_factory=Counter)  # rule -> jobs
    running: dict[int, Job] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)  # rule -> jobs that are done, or failed
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    starts: list[float] = field(default_factory=list)  # seconds of the starts of ended trainings
    trained: list[tuple[float, float]] = field(default_factory=list)  # operations and seconds of ended trainings
    untrained: set[str] = field(default_factory=set)  # runs that have not begun
    began: float = field(default_factory=time.monotonic)

    def expect(self, jobs: Mapping[str, int]) -> None:
        """What Snakemake is going to run: rule -> jobs."""
        self.totals = Counter({rule: n for rule, n in jobs.items() if rule not in SILENT and rule != "total"})
        self.waiting = self.totals.copy()
        self.untrained = {run for run in self.plan.runs if not Path("results/runs", run, "manifest.json").exists()}

    def start(self, number: int, job: Job) -> None:
        if job.rule in self.totals:
            self.running[number] = job
            self.waiting[job.rule] -= 1
            self.untrained.discard(job.name)

    def end(self, number: int, *, well: bool) -> Job | None:
        """The job that ended; None for one of those that nobody waits for."""
        job = self.running.pop(number, None)
        if job is None:
            return None
        self.ended[job.rule] += 1
        took = time.monotonic() - job.began
        if well and job.rule in TRAININGS and job.name in self.plan.runs:
            share = 1 - job.first[1] / job.total if job.first else 1.0  # of the steps that were seen
            start = job.first[0] - job.began if job.first else min(took, self._start())
            self.starts.append(start)
            if share > SEEN:
                self.trained.append((share * _operations(self.plan.runs[job.name]), max(0.1, took - start)))
        elif well:
            self.seconds[job.rule].append(took)
        return job

    def count(self, *rules: str) -> tuple[int, int]:
        """How many jobs of these rules have ended, and how many there are."""
        return sum(self.ended[rule] for rule in rules), sum(self.totals[rule] for rule in rules)

    def read(self) -> None:
        """Bring the progress of running jobs up to date."""
        for job in self.running.values():
            job.read(time.monotonic())

    def left(self) -> float:
        """Seconds until all is done, by what is known now."""
        now, rate = time.monotonic(), self._rate()
        trainings, small, alone = [], 0.0, 0.0
        for job in self.running.values():
            expected = self._expected(job.rule, job.name, rate)
            rest = job.left(now)
            if rest is None:
                rest = max(0.1 * expected, expected - (now - job.began))
            if job.rule in TRAININGS:
                trainings.append(rest)
            elif job.rule in ALONE or job.rule == PROBE:
                alone += rest
            else:
                small += rest
        longest = max(trainings, default=0.0)
        known = sorted(self.untrained)
        wait = sum(self.waiting[rule] for rule in TRAININGS)
        if known and wait:  # where Snakemake trains again what was finished, or less than all, their mean
            mean = sum(self._expected(TRAININGS[0], run, rate) for run in known) / len(known)
            trainings += [mean] * wait
        for rule, n in self.waiting.items():
            if rule not in TRAININGS:
                seconds = n * self._expected(rule, "", rate)
                alone, small = (alone + seconds, small) if rule in ALONE or rule == PROBE else (alone, small + seconds)
        at_once = max(1, min(self.slots, len(trainings)))
        return max(longest, sum(trainings) / at_once) + small / self.cores + alone

    def _start(self) -> float:
        """Seconds until a training has imported what it needs; more on a busy machine."""
        now = time.monotonic()
        begun = [job for job in self.running.values() if job.rule in TRAININGS]
        seen = [(job.first[0] if job.first else max(now, job.began + START_SECONDS)) - job.began for job in begun]
        return sum(self.starts + seen) / len(self.starts + seen) if self.starts or seen else START_SECONDS

    def _rate(self) -> float:
        """Operations per second of one training beside the others."""
        now = time.monotonic()
        pairs = list(self.trained)
        for job in self.running.values():
            share = (job.done - job.first[1]) / job.total if job.first else 0.0
            if job.rule in TRAININGS and share > SEEN and job.name in self.plan.runs:
                pairs.append((share * _operations(self.plan.runs[job.name]), now - job.first[0]))
        return sum(one for one, _ in pairs) / sum(took for _, took in pairs) if pairs else FIRST_RATE

    def _expected(self, rule: str, name: str, rate: float) -> float:
        if rule in TRAININGS:
            spec = self.plan.runs.get(name) or next(iter(self.plan.runs.values()))
            return self._start() + _operations(spec) / rate
        if rule == PROBE:
            return self._probe(rate)
        took = self.seconds[rule]
        return sum(took) / len(took) if took else SECONDS.get(rule, 10.0)

    def _probe(self, rate: float) -> float:
        """Blocks of all methods one after the other, then a process for each memory, as many at once as there are cores."""
        probe, seconds, processes = self.experiment.probe, self._start(), 0.0
        for run in self.plan.probed().values():
            spec = self.plan.runs[run]
            step = _operations(spec) / rate / spec.training.steps
            seconds += (probe.warmup + probe.blocks * probe.steps) * step
            processes += probe.memory_repeats * (2 * self._start() + probe.warmup * step)
        return seconds + processes / self.cores


def _operations(spec: RunSpec) -> float:
    """Roughly, to weigh runs against each other: forward and backward passes over all tokens."""
    shape = spec.model.config
    width = _first(shape, ("hidden_size", "n_embd", "d_model"), 256)
    layers = _first(shape, ("num_hidden_layers", "n_layer"), 4)
    return 6 * EXTRA * spec.tokens() * (12 * layers * width**2 + 2048 * width)


def _first(shape: Mapping[str, object], names: tuple[str, ...], otherwise: int) -> int:
    return next((int(shape[name]) for name in names if isinstance(shape.get(name), int)), otherwise)
