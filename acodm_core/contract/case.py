"""How a mixer is set up for its checks: options, made-up domains, and made-up runs where it needs inputs."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from acodm_core.contract.feed import BATCH, CONTEXT, LAYERS, reordered, step_signals, wanted
from acodm_core.errors import UserError, unknown_name
from acodm_core.mixers.find import baseline_names, build_mixer, find_mixer, option_fields
from acodm_core.mixers.guarded import Guarded
from acodm_core.mixing import Mixer, Start, StepStats, simplex
from acodm_core.settings.yaml_files import shipped
from acodm_core.study.config import CORE, MethodConfig
from acodm_core.study.planner import RunSpec

Domains = tuple[str, ...]
STEPS = 20  # of a made-up run
MODEST = {"hidden_size": 64, "hidden_layers": 2}  # of a mixer's networks, at most
PATIENCE = 120.0  # seconds for an answer: most take milliseconds, a fit some seconds, on a busy machine more


@dataclass(frozen=True, eq=False)
class Case:
    """One way to set up a mixer.

    Args:
        mixer: as in a configuration.
        options_of: domains -> options that name them.
        inputs_of: domains -> role -> the case whose made-up run plays it, or each of a swarm; or folders that are there.
    """

    mixer: str
    options: Mapping[str, Any] = field(default_factory=dict)
    options_of: Callable[[Domains], Mapping[str, Any]] = lambda domains: {}
    inputs_of: Callable[[Domains], Mapping[str, Any]] = lambda domains: {}

    def build(self, domains: Domains) -> Mixer:
        return build_mixer(self.mixer, {**self.options, **self.options_of(domains)})


@cache
def modest(case: Case) -> Case:
    """``case``, and the runs that it reads, with networks of ``MODEST`` size where they are larger.

    Promises do not hang on the size, and a battery takes some thousand steps and checkpoints: with 17 million parameters, minutes.
    """
    fields = option_fields(find_mixer(case.mixer))
    sizes = {name: case.options.get(name, fields[name].default) for name in MODEST if name in fields}
    smaller = {name: MODEST[name] for name, size in sizes.items() if isinstance(size, int) and size > MODEST[name]}
    return replace(
        case,
        options={**case.options, **smaller},
        inputs_of=lambda domains: {role: _modest(given) for role, given in case.inputs_of(domains).items()},
    )


def _modest(given: Any) -> Any:
    if isinstance(given, tuple):
        return tuple(map(_modest, given))
    return modest(given) if isinstance(given, Case) else given


def domain_names(k: int) -> Domains:
    return tuple(f"domain_{chr(ord('a') + i)}" for i in range(k))


def places(domains: Domains) -> np.ndarray:
    """(K,) the place of each domain in the alphabet."""
    return np.argsort(np.argsort(domains))


def objective_weights(domains: Domains) -> np.ndarray:
    """(K,) uneven weights; the first of several names has none."""
    place_K = places(domains)
    return simplex(np.where((place_K > 0) | (len(domains) == 1), 1.0 + place_K, 0.0))


class Moved:
    """A generator whose draws over domains come in their order: the noise moves with the domains' names."""

    def __init__(self, rng: np.random.Generator, place_K: np.ndarray) -> None:
        self._rng, self._place_K = rng, place_K

    def normal(self, mean: float, sigma: float, size: int) -> np.ndarray:
        return self._rng.normal(mean, sigma, size)[self._place_K]

    def random(self, size: int) -> np.ndarray:
        return self._rng.random(size)[self._place_K]

    def state_dict(self) -> dict[str, Any]:
        return self._rng.bit_generator.state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._rng.bit_generator.state = state

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rng, name)


def start(
    case: Case,
    domains: Domains,
    *,
    seed: int = 5,
    steps: int = STEPS,
    built_for: Domains | None = None,
) -> Mixer:
    """The case's mixer, started on ``domains`` of uneven sizes that count unevenly; all that is uneven moves with their names.

    Args:
        built_for: the domains that its options name, if those come in another order.
    """
    mixer = Guarded(case.build(built_for or domains), case.mixer, patience=PATIENCE, long=10 * PATIENCE)
    place_K, rng = places(domains), np.random.default_rng(seed)
    if (np.diff(place_K) < 0).any():
        rng = Moved(rng, place_K)
    prior_K = simplex((1.0 + place_K) ** 2)
    inputs = {role: _folders(given, domains, seed) for role, given in case.inputs_of(domains).items()}
    if missing := sorted(set(mixer.required_inputs()) - set(inputs)):
        raise UserError(
            f"it needs input runs {missing}, and no method of the catalogue says which stage leaves them",
            where=case.mixer,
            fix="add the method and its stages to acodm_core/study/methods.yaml",
        )
    mixer.start(
        Start(
            domains=domains,
            prior=prior_K,
            tokens_available=prior_K * 1e6,
            total_steps=steps,
            rng=rng,
            inputs=inputs,
            objective_weights=objective_weights(domains),
            tensors=LAYERS,
            tokens_per_step=BATCH * CONTEXT,
        )
    )
    return mixer


def step_stats(mixer: Mixer, step: int, domains: Domains, kind: str = "random") -> StepStats:
    """What the mixer is shown of a step of this kind: only what it wants. A domain's values move with its name."""
    k, place_K = len(domains), places(domains)
    signals, present_K = step_signals(kind, step, k)
    drawn_K = np.random.default_rng(step).multinomial(BATCH, np.full(k, 1 / k)) + 1
    tokens_K = np.where(present_K, drawn_K, 0) * CONTEXT
    return StepStats(step, tokens_K[place_K], wanted(reordered(signals, place_K), mixer, step))


def step_once(mixer: Mixer, step: int, domains: Domains, kind: str = "random") -> np.ndarray:
    """(K,) the share that the mixer draws at ``step``; then it observes what a step of this kind measures."""
    mixture_K = np.array(mixer.sampling_weights(step), copy=True)
    mixer.loss_weights(step)
    mixer.observe(step_stats(mixer, step, domains, kind))
    return mixture_K


def run(mixer: Mixer, steps: range, domains: Domains, kind: str = "random") -> np.ndarray:
    """(T, K) the path of shares."""
    return np.array([step_once(mixer, step, domains, kind) for step in steps])


def _folders(given: Any, domains: Domains, seed: int) -> Path | tuple[Path, ...]:
    if isinstance(given, tuple):
        return tuple(_folders(one, domains, seed) for one in given)
    return finished(given, domains, seed) if isinstance(given, Case) else given


@cache
def finished(case: Case, domains: Domains, seed: int) -> Path:
    """Folder in which a made-up run of ``case`` left what later runs read."""
    folder = Path(_scratch().name) / str(len(list(Path(_scratch().name).iterdir())))
    folder.mkdir()
    mixer = start(case, domains, seed=seed)
    for step in range(STEPS):
        mixer.observe(step_stats(mixer, step, domains))
    mixer.save(folder)
    return folder


@cache
def _scratch() -> TemporaryDirectory:
    return TemporaryDirectory(prefix="acodm-contract-")  # removed when the process ends


@cache
def _catalogue() -> dict[str, MethodConfig]:
    methods = shipped(CORE / "study" / "methods.yaml")
    return {name: MethodConfig.model_validate(entry) for name, entry in methods.items()}


@cache
def case_of(name: str) -> Case:
    """The case of a mixer by its name, dotted module or .py file, or of a method of the catalogue.

    A mixer that needs inputs gets them from the stages that the catalogue gives a method of this mixer.

    Raises:
        UserError: there is none of that name, or not exactly one Mixer in the module or file.
    """
    if name.endswith(".py"):
        name = _load_file(Path(name))
    elif name not in baseline_names() and "." not in name:
        if name not in _catalogue():
            raise unknown_name("mixer or method", name, {*baseline_names(), *_catalogue()}, where="acodm check")
        return _method_case(name)
    find_mixer(name)
    return Case(name, inputs_of=lambda domains: _known_inputs(name, domains))


def _known_inputs(mixer: str, domains: Domains) -> Mapping[str, Any]:
    """What the first method of the catalogue that gives ``mixer`` all that it requires has as inputs."""
    required = set(build_mixer(mixer, {}).required_inputs())
    for entry in _catalogue().values() if required else ():
        if entry.mixer == mixer and required <= set(entry.inputs):
            return _stages_of(entry)(domains)
    return {}


@cache
def _method_case(name: str, member: int | None = None) -> Case:
    """The case of a method of the catalogue, or of one run of a swarm."""
    entry = _catalogue()[name]
    number = {} if member is None else {"member": member}
    return Case(entry.mixer, {**entry.options, **number}, inputs_of=_stages_of(entry))


def _stages_of(entry: MethodConfig) -> Callable[[Domains], Mapping[str, Any]]:
    def inputs_of(domains: Domains) -> dict[str, Any]:
        return {role: _stage(stage, domains) for role, stage in entry.inputs.items()}

    return inputs_of


def _stage(name: str, domains: Domains) -> Case | tuple[Case, ...]:
    members = _catalogue()[name].members
    if members is None:
        return _method_case(name)
    return tuple(_method_case(name, i) for i in range(len(domains) if members == "domains" else members))


def case_of_run(runs: Mapping[str, RunSpec], run: str) -> Case:
    """The case of a planned run: its mixer and options, with made-up runs in the place of its inputs."""
    spec = runs[run]

    def inputs_of(domains: Domains) -> dict[str, Any]:
        return {
            role: case_of_run(runs, given) if isinstance(given, str) else tuple(case_of_run(runs, one) for one in given)
            for role, given in spec.inputs.items()
        }

    return Case(spec.mixer, spec.options, inputs_of=inputs_of)


def _load_file(path: Path) -> str:
    """Import a .py file; the name that it is found by: its own if it lies in the folder of baselines."""
    folder_of_baselines = importlib.import_module("acodm_baselines").__path__
    if not path.is_file():
        raise UserError("file not found", where=str(path), fix=f"acodm new-mixer {path.stem} --out {path} writes one")
    if path.resolve().parent in [Path(folder).resolve() for folder in folder_of_baselines]:
        return path.stem if path.stem in baseline_names() else f"acodm_baselines.{path.stem}"
    name = f"checked.{path.stem}"  # with a dot, as of a module that lies elsewhere
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"cannot be imported: {type(error).__name__}: {error}", where=str(path)) from error
    return name
