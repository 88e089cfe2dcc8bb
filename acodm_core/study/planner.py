"""From an experiment to its runs: pure, deterministic, complete. The planner names runs; nobody else does.

A run is method x model x corpus x recipe x seed x inputs. Its identity is the digest of all of these, so a changed option
gives a new run to the method and to what depends on it, and leaves every other run as it is. A swarm is a method of which
many runs stand in one role; each is a run like any other, with its number among its options.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from acodm_core import ARITHMETIC, PROTOCOL
from acodm_core.errors import UserError, unknown_name
from acodm_core.files import digest, read_json
from acodm_core.mixers.grouped import partition
from acodm_core.mixing import Inputs, baseline_names, build_mixer
from acodm_core.settings.mixer_options import failed
from acodm_core.settings.types import checked
from acodm_core.study.axes import Variant, variants
from acodm_core.study.config import (
    EvaluationConfig,
    Experiment,
    MethodConfig,
    ModelConfig,
    Section,
    TrainingConfig,
)
from acodm_core.study.identity import mixer_code, option_files

MOST_RUNS = 20_000  # of an experiment: a workflow of more takes hours to plan
MEMBER = "member"  # the option that holds a run's number in its swarm


class RunSpec(Section):
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


class Plan(Section):
    """All runs of an experiment, inputs before those that need them."""

    runs: dict[str, RunSpec]
    compared: dict[str, tuple[str, ...]] = Field(description="Method -> its runs, one a seed.")
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
        UserError: unknown method, mixer, option, role, model or domain, a cycle of inputs, a missing baseline.
    """
    values = variants(experiment)
    methods = experiment.methods | {value.method: value.entry for value in values}
    _check_names(experiment, methods, values)
    corpus = experiment.corpus
    runs: dict[str, RunSpec] = {}

    @cache
    def options(method: str) -> dict[str, Any]:
        return resolved_options(methods[method])

    @cache
    def code_and_files(method: str) -> tuple[str, dict[str, str]]:
        entry = methods[method]
        mixer = build_mixer(entry.mixer, entry.options)
        return mixer_code(entry.mixer, mixer), option_files(mixer, where=f"methods.{method}.options")

    @cache
    def groups(method: str) -> dict[str, tuple[str, ...]] | None:
        return resolved_groups(methods[method], tuple(corpus.domains))

    def spec_of(
        method: str, seed: int, trail: tuple[str, ...] = (), member: int | None = None, steps: int = 0
    ) -> RunSpec:
        if method in trail:
            raise UserError(
                f"inputs form a cycle: {' -> '.join((*trail[trail.index(method) :], method))}",
                where=f"methods.{method}.inputs",
                fix="a method's inputs may only name methods that do not depend on it",
            )
        entry = methods[method]
        model_name = experiment.roles[entry.model]
        steps = steps or max(1, round(experiment.training.steps * entry.length))
        return RunSpec(
            method=method,
            mixer=entry.mixer,
            options=options(method) if member is None else options(method) | {MEMBER: member},
            code=code_and_files(method)[0],
            files=code_and_files(method)[1],
            model_name=model_name,
            model=experiment.models[model_name],
            corpus=corpus.id,
            domains=tuple(corpus.domains),
            training=experiment.training.model_copy(update={"steps": steps}),
            evaluation=experiment.evaluation,
            seed=seed,
            inputs={role: runs_of(name, seed, (*trail, method)) for role, name in entry.inputs.items()},
            groups=groups(method),
        )

    def runs_of(method: str, seed: int, trail: tuple[str, ...]) -> str | tuple[str, ...]:
        if methods[method].members is None:
            return add(spec_of(method, seed, trail))
        count = resolved_members(methods[method], groups(method) or corpus.domains)
        return tuple(add(spec_of(method, seed, trail, member)) for member in range(count))

    def add(spec: RunSpec) -> str:
        name = spec.run
        runs.setdefault(name, spec)
        if len(runs) > MOST_RUNS:
            raise UserError(
                f"more than {MOST_RUNS:,} runs: {len(experiment.seeds)} seeds of every method, and of every member of a swarm",
                where="seeds",
                fix="fewer seeds, methods or members; or several experiments, which share runs",
            )
        return name

    def train(method: str, steps: int = 0) -> tuple[str, ...]:
        return tuple(add(spec_of(method, seed, steps=steps)) for seed in experiment.seeds)

    compared = {method: train(method) for method in experiment.compare}
    bases = {axis.of: train(axis.of) for axis in experiment.axes.values()}
    owner = {spec.digest: spec.method for spec in runs.values()}  # a value that changes nothing trains nothing
    owner |= {runs[run].digest: base for base, its_runs in bases.items() for run in its_runs}
    axes: dict[str, dict[str, str]] = {name: {} for name in experiment.axes}
    for value in values:
        method = owner.setdefault(spec_of(value.method, experiment.seeds[0]).digest, value.method)
        axes[value.axis][value.label] = method
        if method == value.method:
            train(method)
    for method, horizons in experiment.horizons.items():  # what a method reads of other runs stays what it was
        for steps in sorted(set(horizons)):
            train(method, steps)
    planned = {spec.method: methods[spec.method] for spec in runs.values()}
    return Plan(runs=runs, compared=compared, methods=planned, axes=axes)


def resolved_options(entry: MethodConfig) -> dict[str, Any]:
    """The mixer's options with its defaults written out: a changed default is a changed run."""
    options = dataclasses.asdict(build_mixer(entry.mixer, entry.options))
    return json.loads(json.dumps(options, default=str))  # tuples as the lists that they are in a spec, paths as text


def resolved_groups(
    entry: MethodConfig, domains: tuple[str, ...], *, where: str = ""
) -> dict[str, tuple[str, ...]] | None:
    """Group -> domains, None where the mixer sees every domain by itself under its own name."""
    if entry.groups is None:
        return None
    groups = partition(entry.groups, domains, where=where)
    return None if tuple(groups) == domains else groups


def resolved_members(entry: MethodConfig, seen: Collection[str]) -> int:
    """Runs of a swarm whose mixers see the domains or groups ``seen``."""
    return len(seen) if entry.members == "domains" else entry.members


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


def _check_names(experiment: Experiment, methods: Mapping[str, MethodConfig], values: list[Variant]) -> None:
    for role, model in experiment.roles.items():
        if model not in experiment.models:
            raise unknown_name("model", model, experiment.models, where=f"roles.{role}")
    if "target" not in experiment.roles:
        raise UserError("no model to compare on", where="roles", fix="add  target: NAME_OF_A_MODEL")
    if len(set(experiment.seeds)) != len(experiment.seeds):
        raise UserError(f"a seed is named twice: {experiment.seeds}", where="seeds")
    if len(set(experiment.compare)) != len(experiment.compare):
        raise UserError(f"a method is named twice: {experiment.compare}", where="compare")
    if experiment.baseline not in experiment.compare:
        raise UserError(
            f"baseline {experiment.baseline!r} is not compared, but its final loss is the target",
            where="baseline",
            fix=f"add it to compare, or choose one of: {', '.join(experiment.compare)}",
        )
    for method in experiment.horizons:
        if method not in experiment.compare:
            raise unknown_name("compared method", method, experiment.compare, where=f"horizons.{method}")
    target = experiment.evaluation.objective_weights
    for domain in [] if isinstance(target, str) else target:
        if domain not in experiment.corpus.domains:
            raise unknown_name(
                "domain", domain, experiment.corpus.domains, where=f"evaluation.objective_weights.{domain}"
            )
    named = {name: f"compare[{i}]" for i, name in enumerate(experiment.compare)}
    named |= {axis.of: f"axes.{name}.of" for name, axis in experiment.axes.items() if axis.of not in named}
    named |= {value.method: value.where for value in values}
    places = {name: f"methods.{name}" for name in methods} | {value.method: value.where for value in values}
    for name in _reachable(methods, named, places):
        _check_method(experiment, methods, methods[name], where=places[name])
    for name, where in named.items():
        if methods[name].members is not None:
            raise UserError(
                f"{name!r} is a swarm: many runs a seed, where the table has one",
                where=where,
                fix=f"compare a method that reads it, with  inputs: {{ROLE: {name}}}",
            )
        if methods[name].length != 1:
            raise UserError(
                f"compared runs share one horizon, but this method's length is {methods[name].length}",
                where=f"{places[name]}.length",
                fix="only a method that is an input of another may be longer or shorter",
            )


def _reachable(methods: Mapping[str, MethodConfig], named: Mapping[str, str], places: Mapping[str, str]) -> list[str]:
    """The methods that are ``named`` (at these places) and all their inputs, each once; UserError at a name that is none."""
    valid = sorted({*baseline_names(), *methods})
    order: list[str] = []
    queue = list(named.items())
    while queue:
        name, where = queue.pop(0)
        entry = methods.get(name)
        if entry is None or (entry.mixer == name and "." not in name and name not in baseline_names()):
            raise unknown_name("method", name, [v for v in valid if v != name], where=where)
        if name not in order:
            order.append(name)
            queue.extend((n, f"{places[name]}.inputs.{role}") for role, n in entry.inputs.items())
    return order


def _check_method(
    experiment: Experiment, methods: Mapping[str, MethodConfig], entry: MethodConfig, *, where: str
) -> None:
    if entry.model not in experiment.roles:
        raise unknown_name("role", entry.model, experiment.roles, where=f"{where}.model")
    mixer = build_mixer(entry.mixer, entry.options, where=where)
    if entry.members is not None and (MEMBER not in vars(mixer) or MEMBER in entry.options):
        given = "already has" if MEMBER in entry.options else "takes no"
        raise UserError(
            f"the runs of a swarm are numbered by the option {MEMBER!r}, and mixer {entry.mixer!r} {given} it",
            where=f"{where}.members",
            fix="use a mixer that differs by its number, such as swarm, and let the plan count",
        )
    for role, name in entry.inputs.items():
        if role not in mixer.required_inputs():
            said = unknown_name(
                f"input of mixer {entry.mixer!r}", role, mixer.required_inputs(), where=f"{where}.inputs.{role}"
            )
            fix = f"{said.fix}; a mixer of your own names the inputs that it reads in required_inputs()"
            raise UserError(said.what, where=said.where, fix=fix)
        _check_number(entry.mixer, role, name, role in mixer.swarms, methods, where=f"{where}.inputs.{role}")
    for role in mixer.required_inputs():
        if role not in entry.inputs:
            raise UserError(
                f"mixer {entry.mixer!r} needs an input run {role!r}",
                where=f"{where}.inputs",
                fix=f"add  inputs: {{{role}: NAME_OF_A_METHOD}}",
            )
    domains = tuple(experiment.corpus.domains)
    seen = tuple(resolved_groups(entry, domains, where=f"{where}.groups") or domains)
    if entry.members is not None:  # the last number is the least likely to fit
        options = {**entry.options, MEMBER: resolved_members(entry, seen) - 1}
        mixer = build_mixer(entry.mixer, options, where=where)
    try:
        mixer.check(seen, where=f"{where}.options")
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise failed(entry.mixer, error, f"{where}.options") from error


def _check_number(
    mixer: str, role: str, method: str, many: bool, methods: Mapping[str, MethodConfig], *, where: str
) -> None:
    """Refuse a single run where ``mixer`` reads a swarm, and a swarm where it reads one run."""
    swarms = [name for name, entry in methods.items() if entry.members is not None]
    if many and method not in swarms:
        raise UserError(
            f"mixer {mixer!r} reads a swarm of runs as its {role!r}, and {method!r} is a single run",
            where=where,
            fix=f"give {method!r} `members`, or name a method that has them: {', '.join(swarms) or 'none'}",
        )
    if not many and method in swarms:
        raise UserError(
            f"mixer {mixer!r} reads one run as its {role!r}, and {method!r} is a swarm",
            where=where,
            fix="name a method without `members`",
        )
