"""From an experiment to its runs: pure, deterministic, complete. The planner names runs; nobody else does.

A run is method x model x corpus x recipe x seed x inputs. Its identity is the digest of all of these, so a changed option
gives a new run to the method and to what depends on it, and leaves every other run as it is.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pydantic import Field

from acodm_core import PROTOCOL
from acodm_core.errors import UserError, unknown_name
from acodm_core.files import digest, read_json
from acodm_core.mixing import baseline_names, build_mixer
from acodm_core.study.config import (
    EvaluationConfig,
    Experiment,
    MethodConfig,
    ModelConfig,
    Section,
    TrainingConfig,
    readable_errors,
)


class RunSpec(Section):
    """Everything that decides a run's result."""

    protocol: int = PROTOCOL
    method: str
    mixer: str
    options: dict[str, Any] = Field(description="All options of the mixer, defaults written out.")
    model_name: str
    model: ModelConfig
    corpus: str = Field(description="Id of the corpus: its name and digest.")
    domains: tuple[str, ...]
    training: TrainingConfig
    evaluation: EvaluationConfig
    seed: int
    inputs: dict[str, str] = Field(description="Role -> run.")

    @property
    def run(self) -> str:
        """The run's name, and its folder's. Names of methods and roles are for people and not part of the digest."""
        return f"{self.method}-s{self.seed}-{digest(self.model_dump(mode='json', exclude={'method', 'model_name'}))}"

    def tokens(self) -> int:
        """Training tokens of the whole run."""
        return self.training.steps * self.training.batch * self.training.context


class Plan(Section):
    """All runs of an experiment, inputs before those that need them."""

    runs: dict[str, RunSpec]
    compared: dict[str, tuple[str, ...]] = Field(description="Method -> its runs, one a seed.")

    def ancestors(self, run: str) -> list[str]:
        """Runs that ``run`` depends on, nearest first, each once."""
        found: list[str] = []
        queue = list(self.runs[run].inputs.values())
        while queue:
            name = queue.pop(0)
            if name not in found:
                found.append(name)
                queue.extend(self.runs[name].inputs.values())
        return found

    def probed(self) -> dict[tuple[str, str], str]:
        """(method, model) -> one run that trains so: what the overhead probe has to time."""
        pairs: dict[tuple[str, str], str] = {}
        for name, spec in self.runs.items():
            pairs.setdefault((spec.method, spec.model_name), name)
        return pairs


def plan(experiment: Experiment) -> Plan:
    """Close the compared methods over their inputs and name every run.

    Raises:
        UserError: unknown method, mixer, option, role or model, a cycle of inputs, a missing baseline.
    """
    _check_names(experiment)
    corpus = experiment.corpus
    runs: dict[str, RunSpec] = {}

    def add(method: str, seed: int, trail: tuple[str, ...]) -> str:
        if method in trail:
            raise UserError(
                f"inputs form a cycle: {' -> '.join((*trail[trail.index(method) :], method))}",
                where=f"methods.{method}.inputs",
                fix="a method's inputs may only name methods that do not depend on it",
            )
        entry = experiment.methods[method]
        model_name = experiment.roles[entry.model]
        spec = RunSpec(
            method=method,
            mixer=entry.mixer,
            options=resolved_options(entry),
            model_name=model_name,
            model=experiment.models[model_name],
            corpus=corpus.id,
            domains=tuple(corpus.domains),
            training=experiment.training,
            evaluation=experiment.evaluation,
            seed=seed,
            inputs={role: add(name, seed, (*trail, method)) for role, name in entry.inputs.items()},
        )
        runs.setdefault(spec.run, spec)
        return spec.run

    compared = {m: tuple(add(m, seed, ()) for seed in experiment.seeds) for m in experiment.compare}
    return Plan(runs=runs, compared=compared)


def resolved_options(entry: MethodConfig) -> dict[str, Any]:
    """The mixer's options with its defaults written out: a changed default is a changed run."""
    options = dataclasses.asdict(build_mixer(entry.mixer, entry.options))
    return json.loads(json.dumps(options))  # tuples as the lists that they are in a spec


def read_experiment(path: Path) -> tuple[Experiment, Plan]:
    """The experiment that a workflow wrote as JSON, and its plan.

    Raises:
        UserError: the file is missing, truncated, or not an experiment.
    """
    with readable_errors(str(path), Experiment):
        experiment = Experiment.model_validate(read_json(path))
    return experiment, plan(experiment)


def _check_names(experiment: Experiment) -> None:
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
    for name in _reachable(experiment):
        _check_method(experiment, name, experiment.methods[name])


def _reachable(experiment: Experiment) -> list[str]:
    """The compared methods and all their inputs, each once; UserError at a name that is no method."""
    shipped_only = [m for m in experiment.methods if m not in experiment.compare]
    valid = sorted({*baseline_names(), *shipped_only, *experiment.compare})
    order: list[str] = []
    queue = [(name, f"compare[{i}]") for i, name in enumerate(experiment.compare)]
    while queue:
        name, where = queue.pop(0)
        entry = experiment.methods.get(name)
        if entry is None or (entry.mixer == name and "." not in name and name not in baseline_names()):
            raise unknown_name("method", name, [v for v in valid if v != name], where=where)
        if name not in order:
            order.append(name)
            queue.extend((n, f"methods.{name}.inputs.{role}") for role, n in entry.inputs.items())
    return order


def _check_method(experiment: Experiment, name: str, entry: MethodConfig) -> None:
    where = f"methods.{name}"
    if entry.model not in experiment.roles:
        raise unknown_name("role", entry.model, experiment.roles, where=f"{where}.model")
    mixer = build_mixer(entry.mixer, entry.options, where=where)
    for role in entry.inputs:
        if role not in mixer.required_inputs():
            raise unknown_name(
                f"input of mixer {entry.mixer!r}", role, mixer.required_inputs(), where=f"{where}.inputs.{role}"
            )
    for role in mixer.required_inputs():
        if role not in entry.inputs:
            raise UserError(
                f"mixer {entry.mixer!r} needs an input run {role!r}",
                where=f"{where}.inputs",
                fix=f"add  inputs: {{{role}: NAME_OF_A_METHOD}}",
            )
    mixer.check(tuple(experiment.corpus.domains), where=f"{where}.options")
