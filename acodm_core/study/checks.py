"""Everything that can be wrong with an experiment whose values are valid one by one: names, cycles, what a mixer refuses."""

from __future__ import annotations

from collections.abc import Mapping

from acodm_core.errors import UserError, unknown_name
from acodm_core.mixers.find import baseline_names, build_mixer
from acodm_core.mixing import Mixer
from acodm_core.settings.mixer_options import failed
from acodm_core.study.axes import Variant
from acodm_core.study.config import Experiment, MethodConfig
from acodm_core.study.resolved import MEMBER, resolved_groups, resolved_members


def check(experiment: Experiment, methods: Mapping[str, MethodConfig], values: list[Variant]) -> list[str]:
    """Names of the methods that have runs: those compared, those of the axes, and all their inputs, each once.

    Args:
        methods: those of the experiment, and those of the axes' ``values``.

    Raises:
        UserError: an unknown name, a name that stands twice, a missing role or baseline, a cycle of inputs, an option or
            an input that a mixer refuses; with its YAML path.
    """
    _check_roles(experiment)
    _check_compared(experiment)
    _check_objective(experiment)
    named = {name: f"compare[{i}]" for i, name in enumerate(experiment.compare)}
    named |= {axis.of: f"axes.{name}.of" for name, axis in experiment.axes.items() if axis.of not in named}
    named |= {value.method: value.where for value in values}
    places = {name: f"methods.{name}" for name in methods} | {value.method: value.where for value in values}
    reachable = _reachable(methods, named, places)
    for name in reachable:
        _check_method(experiment, methods, methods[name], where=places[name])
    for name, where in named.items():
        _check_row(name, methods[name], where=where, place=places[name])
    _check_cycles(methods, named)
    return reachable


def _check_roles(experiment: Experiment) -> None:
    for role, model in experiment.roles.items():
        if model not in experiment.models:
            raise unknown_name("model", model, experiment.models, where=f"roles.{role}")
    if "target" not in experiment.roles:
        raise UserError("no model to compare on", where="roles", fix="add  target: NAME_OF_A_MODEL")


def _check_compared(experiment: Experiment) -> None:
    if len(set(experiment.seeds)) != len(experiment.seeds):
        raise UserError(f"a seed is named twice: {experiment.seeds}", where="seeds")
    if len(set(experiment.compare)) != len(experiment.compare):
        raise UserError(f"a method is named twice: {experiment.compare}", where="compare")
    if experiment.baseline not in experiment.compare:
        raise UserError(
            f"baseline {experiment.baseline!r} is not compared, but its final loss is the threshold",
            where="baseline",
            fix=f"add it to compare, or choose one of: {', '.join(experiment.compare)}",
        )
    for method in experiment.horizons:
        if method not in experiment.compare:
            raise unknown_name("compared method", method, experiment.compare, where=f"horizons.{method}")


def _check_objective(experiment: Experiment) -> None:
    weights, domains = experiment.evaluation.objective_weights, experiment.corpus.domains
    for domain in [] if isinstance(weights, str) else weights:
        if domain not in domains:
            raise unknown_name("domain", domain, domains, where=f"evaluation.objective_weights.{domain}")


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
    _check_inputs(mixer, entry, methods, where=f"{where}.inputs")
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


def _check_inputs(mixer: Mixer, entry: MethodConfig, methods: Mapping[str, MethodConfig], *, where: str) -> None:
    required = mixer.required_inputs()
    for role, name in entry.inputs.items():
        if role not in required:
            said = unknown_name(f"input of mixer {entry.mixer!r}", role, required, where=f"{where}.{role}")
            fix = f"{said.fix}; a mixer of your own names the inputs that it reads in required_inputs()"
            raise UserError(said.what, where=said.where, fix=fix)
        _check_number(entry.mixer, role, name, role in mixer.swarms, methods, where=f"{where}.{role}")
    for role in required:
        if role not in entry.inputs:
            raise UserError(
                f"mixer {entry.mixer!r} needs an input run {role!r}",
                where=where,
                fix=f"add  inputs: {{{role}: NAME_OF_A_METHOD}}",
            )


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


def _check_row(name: str, entry: MethodConfig, *, where: str, place: str) -> None:
    """Refuse what cannot be a row of a table; ``where`` it is named, and the ``place`` of its definition."""
    if entry.members is not None:
        raise UserError(
            f"{name!r} is a swarm: many runs per seed, where the table has one",
            where=where,
            fix=f"compare a method that reads it, with  inputs: {{ROLE: {name}}}",
        )
    if entry.length != 1:
        raise UserError(
            f"compared runs share one horizon, but this method's length is {entry.length}",
            where=f"{place}.length",
            fix="only a method that is an input of another may be longer or shorter",
        )


def _check_cycles(methods: Mapping[str, MethodConfig], named: Mapping[str, str]) -> None:
    done: set[str] = set()

    def follow(method: str, trail: tuple[str, ...]) -> None:
        if method in trail:
            raise UserError(
                f"inputs form a cycle: {' -> '.join((*trail[trail.index(method) :], method))}",
                where=f"methods.{method}.inputs",
                fix="a method's inputs may only name methods that do not depend on it",
            )
        if method not in done:
            for name in methods[method].inputs.values():
                follow(name, (*trail, method))
            done.add(method)

    for method in named:
        follow(method, ())
