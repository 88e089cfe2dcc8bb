"""From an experiment to its runs: pure, deterministic, complete. The planner names runs; nobody else does.

A run is method x model x corpus x recipe x seed x inputs. Its identity is the digest of all of these, so a changed option
gives a new run to the method and to what depends on it, and leaves every other run as it is. A swarm is a method of which
many runs stand in one role; each is a run like any other, with its number among its options.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from acodm_core import ARITHMETIC, PROTOCOL
from acodm_core.errors import UserError
from acodm_core.files import digest, read_json
from acodm_core.mixing import Inputs
from acodm_core.settings.types import Strict, checked
from acodm_core.study.axes import Variant, variants
from acodm_core.study.checks import check
from acodm_core.study.config import (
    EvaluationConfig,
    Experiment,
    MethodConfig,
    ModelConfig,
    TrainingConfig,
)
from acodm_core.study.resolved import MEMBER, ResolvedMethod, resolve

MOST_RUNS = 20_000  # of an experiment: a workflow of more takes hours to plan


class RunSpec(Strict):
    """Everything that decides a run's result."""

    protocol: int = PROTOCOL
    arithmetic: int = Field(ARITHMETIC, description="Number of what the trainer computes.")
    method: str
    mixer: str
    options: dict[str, Any] = Field(description="All options of the mixer, defaults written out.")
    code: str = Field(description="Digest of the mixer's code.")
    files: dict[str, str] = Field(description="Option that names a file -> SHA-256 of the file.")
    model_name: str
    model: ModelConfig
    corpus: str = Field(description="Id of the corpus: its name and digest.")
    domains: tuple[str, ...]
    training: TrainingConfig
    evaluation: EvaluationConfig
    seed: int
    inputs: dict[str, str | tuple[str, ...]] = Field(description="Role -> run, or the runs of a swarm.")
    groups: dict[str, tuple[str, ...]] | None = Field(
        None, description="Group -> domains, where the mixer sees groups."
    )

    @property
    def digest(self) -> str:
        """Of all that decides the result: names of methods and models are for people and not part of it."""
        return digest(self.model_dump(mode="json", exclude={"method", "model_name"}))

    @property
    def run(self) -> str:
        """The run's name, and its folder's; of a swarm's run it shows the number."""
        number = f".{self.options[MEMBER]:02d}" if MEMBER in self.options else ""
        return f"{self.method}{number}-s{self.seed}-{self.digest}"

    def needed(self) -> list[tuple[str, str]]:
        """(role, run) of every run that this one reads; the runs of a swarm each with the same role."""
        lists = {role: (runs,) if isinstance(runs, str) else runs for role, runs in self.inputs.items()}
        return [(role, run) for role, runs in lists.items() for run in runs]

    def input_folders(self, root: Path) -> Inputs:
        """Role -> folder of its run, or of each run of a swarm, below ``root``."""
        return {
            role: root / runs if isinstance(runs, str) else tuple(root / run for run in runs)
            for role, runs in self.inputs.items()
        }

    def tokens(self) -> int:
        """Training tokens of the whole run."""
        return self.training.steps * self.training.batch * self.training.context


class Plan(Strict):
    """All runs of an experiment, inputs before those that need them."""

    runs: dict[str, RunSpec]
    compared: dict[str, tuple[str, ...]] = Field(description="Method -> its runs, one per seed.")
    methods: dict[str, MethodConfig] = Field(
        description="Every method that has runs: compared, stage, value of an axis."
    )
    axes: dict[str, dict[str, str]] = Field(description="Axis -> label -> the method whose runs stand for it.")

    def ancestors(self, run: str) -> list[str]:
        """Runs that ``run`` depends on, nearest first, each once."""
        found: list[str] = []
        queue = [name for _, name in self.runs[run].needed()]
        while queue:
            name = queue.pop(0)
            if name not in found:
                found.append(name)
                queue.extend(name for _, name in self.runs[name].needed())
        return found

    def alike(self) -> dict[str, list[str]]:
        """Method -> its runs, which all cost the same; "METHOD to N" -> its further trainings to N steps."""
        own, groups = {}, {}
        for run, spec in self.runs.items():  # the compared runs come before the further ones
            steps = spec.training.steps
            name = spec.method if own.setdefault(spec.method, steps) == steps else f"{spec.method} to {steps}"
            groups.setdefault(name, []).append(run)
        return groups

    def probed(self) -> dict[tuple[str, str], str]:
        """(method, model) -> one run that trains so, of the compared methods and what they need: what the probe times.

        One run of a swarm stands for all.
        """
        compared = [run for runs in self.compared.values() for run in runs]
        needed = {*compared, *(ancestor for run in compared for ancestor in self.ancestors(run))}
        pairs: dict[tuple[str, str], str] = {}
        for name, spec in self.runs.items():
            if name in needed:
                pairs.setdefault((spec.method, spec.model_name), name)
        return pairs


def plan(experiment: Experiment) -> Plan:
    """Close the compared methods and the axes over their inputs and name every run.

    Raises:
        UserError: unknown method, mixer, option, role, model or domain, a cycle of inputs, a missing baseline; too many runs.
    """
    values = variants(experiment)
    methods = experiment.methods | {value.method: value.entry for value in values}
    reachable = check(experiment, methods, values)
    domains = tuple(experiment.corpus.domains)
    runs = _Runs(experiment, {name: resolve(name, methods[name], domains) for name in reachable})
    compared = {method: runs.train(method) for method in experiment.compare}
    axes = _train_axes(experiment, values, runs)
    for method, horizons in experiment.horizons.items():  # what a method reads of other runs stays what it was
        for steps in sorted(set(horizons)):
            runs.train(method, steps)
    planned = {spec.method: methods[spec.method] for spec in runs.planned.values()}
    return Plan(runs=runs.planned, compared=compared, methods=planned, axes=axes)


def _train_axes(experiment: Experiment, values: list[Variant], runs: _Runs) -> dict[str, dict[str, str]]:
    """Axis -> label -> the method whose runs stand for it: a value that changes nothing trains nothing."""
    bases = {axis.of: runs.train(axis.of) for axis in experiment.axes.values()}
    owner = {spec.digest: spec.method for spec in runs.planned.values()}
    owner |= {runs.planned[run].digest: base for base, its_runs in bases.items() for run in its_runs}
    axes: dict[str, dict[str, str]] = {name: {} for name in experiment.axes}
    for value in values:
        digest_of_first = runs.spec(value.method, experiment.seeds[0]).digest
        method = owner.setdefault(digest_of_first, value.method)
        axes[value.axis][value.label] = method
        if method == value.method:
            runs.train(method)
    return axes


class _Runs:
    """The runs planned so far, inputs before those that need them."""

    def __init__(self, experiment: Experiment, methods: Mapping[str, ResolvedMethod]) -> None:
        self.experiment, self.methods = experiment, methods
        self.planned: dict[str, RunSpec] = {}

    def train(self, method: str, steps: int = 0) -> tuple[str, ...]:
        """Plan the method's runs, one per seed, for so many steps (0: as the method says); their names."""
        return tuple(self._add(self.spec(method, seed, steps=steps)) for seed in self.experiment.seeds)

    def spec(self, method: str, seed: int, *, member: int | None = None, steps: int = 0) -> RunSpec:
        """Of one run; the runs that it reads are planned, itself is not."""
        experiment, resolved = self.experiment, self.methods[method]
        entry = resolved.entry
        model_name = experiment.roles[entry.model]
        steps = steps or max(1, round(experiment.training.steps * entry.length))
        return RunSpec(
            method=method,
            mixer=entry.mixer,
            options=resolved.options if member is None else resolved.options | {MEMBER: member},
            code=resolved.code,
            files=resolved.files,
            model_name=model_name,
            model=experiment.models[model_name],
            corpus=experiment.corpus.id,
            domains=tuple(experiment.corpus.domains),
            training=experiment.training.model_copy(update={"steps": steps}),
            evaluation=experiment.evaluation,
            seed=seed,
            inputs={role: self._read(name, seed) for role, name in entry.inputs.items()},
            groups=resolved.groups,
        )

    def _read(self, method: str, seed: int) -> str | tuple[str, ...]:
        """Plan what another run reads: the method's run of this seed, or all of its swarm."""
        members = self.methods[method].members
        if members is None:
            return self._add(self.spec(method, seed))
        return tuple(self._add(self.spec(method, seed, member=member)) for member in range(members))

    def _add(self, spec: RunSpec) -> str:
        name = spec.run
        self.planned.setdefault(name, spec)
        if len(self.planned) > MOST_RUNS:
            raise UserError(
                f"more than {MOST_RUNS:,} runs: {len(self.experiment.seeds)} seeds of every method, and of every member of a swarm",
                where="seeds",
                fix="fewer seeds, methods or members; or several experiments, which share runs",
            )
        return name


def read_experiment(path: Path) -> tuple[Experiment, Plan]:
    """The experiment that a workflow wrote as JSON, and its plan.

    Raises:
        UserError: the file is missing, truncated, or not an experiment.
    """
    fix = "write it again: snakemake, or acodm plan --write"
    try:
        experiment = checked(Experiment, read_json(path, fix=fix), where=str(path))
    except UserError as error:
        raise UserError(error.what, where=error.where, fix=error.fix or fix) from None
    return experiment, plan(experiment)
