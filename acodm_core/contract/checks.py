"""The promises of a mixer, one function each: it returns when the promise is kept and raises ``Broken`` when it is not."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from acodm_core.contract.case import STEPS, Case, Domains, domain_names, places, run, start, step_once, step_stats
from acodm_core.contract.feed import KINDS
from acodm_core.errors import UserError
from acodm_core.mixers.find import build_mixer, find_mixer, option_fields
from acodm_core.mixers.guarded import Late
from acodm_core.mixing import Mixer
from acodm_core.study.planner import MEMBER

BLOCKS = ("Idea", "Update", "Source", "Differences")
ANYTHING = ("no such value", [["no such value"]])  # no one type is both
LONGEST = 120  # lines of a baseline
MOST_DOMAINS = 22  # the Pile's


class Broken(Exception):
    """A promise that a mixer does not keep: what happened, and what usually mends it."""

    def __init__(self, what: str, fix: str = "") -> None:
        self.what, self.fix = what, fix
        super().__init__(f"{what}\n  -> {fix}" if fix else what)


class NotAsked(Exception):
    """A promise that this mixer has no part in, and why."""


def described(case: Case) -> None:
    """The docstring has the blocks Idea, Update, Source and Differences"""
    cls = find_mixer(case.mixer)
    doc = cls.__doc__ and inspect.getdoc(cls)
    if not doc:
        raise Broken(f"{cls.__name__} has no docstring", "say in one line what it does, then the four blocks")
    places = [doc.find(f"\n{block}:\n") for block in BLOCKS]
    if -1 in places or places != sorted(places):
        missing = [block for block, place in zip(BLOCKS, places, strict=True) if place == -1]
        what = f"the docstring has no block {', '.join(missing)}" if missing else "the blocks stand in another order"
        raise Broken(what, f"{', '.join(BLOCKS)}: each on a line of its own, in this order, its text indented below")
    for block, here, end in zip(BLOCKS, places, [*places[1:], len(doc)], strict=True):
        if len(doc[here:end].split()) < 2:
            raise Broken(f"block {block} is empty", '"None" is an answer')
    if not isinstance(cls.cite, str):
        raise Broken(f"cite is {cls.cite!r}", "a BibTeX key or an arXiv id, or leave it out")


def stands_alone(case: Case) -> None:
    """A baseline is one short file that imports the contract and nothing else of ours"""
    cls = find_mixer(case.mixer)
    if not cls.__module__.startswith("acodm_baselines."):
        raise NotAsked("it lies outside the folder of baselines")
    text = Path(inspect.getfile(cls)).read_text(encoding="utf-8")
    if (lines := len(text.splitlines())) > LONGEST:
        raise Broken(f"{lines} lines", f"at most {LONGEST}: a method is one idea")
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = ["a sibling" if node.level else str(node.module)]
        for name in names:
            ours = name == "a sibling" or name.startswith("acodm_")
            if ours and name not in ("acodm_core.mixing", "acodm_core.errors"):
                raise Broken(f"imports {name}", "a baseline imports acodm_core.mixing and acodm_core.errors only")


def options_teach(case: Case) -> None:
    """Options are dataclass fields with defaults, and a wrong one is refused with an error that teaches"""
    cls = find_mixer(case.mixer)
    if "__dataclass_fields__" not in vars(cls):
        raise Broken(f"{cls.__name__} is no dataclass", f"write @dataclass above class {cls.__name__}")
    fields = option_fields(cls).values()
    for f in fields:
        if {f.default, f.default_factory} == {dataclasses.MISSING}:
            raise Broken(f"option {f.name} has no default", f"give one: {f.name}: TYPE = VALUE")
        if f.name.endswith("_"):
            raise Broken(f"option {f.name} ends in _", "that marks learned state")
    text = _refusal(case, {"no_such_option": 1})
    if not text or not all(f.name in text for f in fields):
        raise Broken(f"an unknown option is answered by {text!r}", "say which options there are")
    for f in fields:
        texts = [_refusal(case, {f.name: wrong}) for wrong in ANYTHING]
        if not any(f"options.{f.name}" in text for text in texts):
            raise Broken(f"option {f.name} takes text as well as lists", "annotate the field with its type")


def _refusal(case: Case, options: Mapping[str, Any]) -> str:
    """The error that these options cause; nothing where they are accepted."""
    try:
        build_mixer(case.mixer, options, where="methods.mine")
    except UserError as error:
        return str(error)
    return ""


def stays_on_simplex(case: Case) -> None:
    """Draws by a point of the simplex whatever is measured: random, constant, huge, tiny, missing; K = 1, 3, 22"""
    fresh = cache(lambda k: start(case, domain_names(k)))  # a start may take long, where it fits a swarm
    for k, kind in [*product([3], KINDS), *product([1, MOST_DOMAINS], ["random", "swinging", "missing"])]:
        domains = domain_names(k)
        mixer = copy.deepcopy(fresh(k))
        for step in range(STEPS):
            with when(f"K = {k}, {kind} signals"):
                decides_well(mixer, step)
                mixer.observe(step_stats(mixer, step, domains, kind))


def decides_well(mixer: Mixer, step: int) -> None:
    """Ask for all that a step needs: the answers are checked where they are given."""
    mixer.sampling_weights(step), mixer.loss_weights(step)
    for name, value in mixer.diagnostics().items():
        if not np.isfinite(value).all():
            raise Broken(f"step {step}: diagnostic {name} is {value}", "leave out what is not known yet")


@contextmanager
def when(what: str) -> Iterator[None]:
    """Say in which case a promise was broken."""
    try:
        yield
    except (Broken, UserError) as error:
        raise Broken(f"{what}: {error.what}", error.fix) from error.__cause__


def declares_what_it_reads(case: Case) -> None:
    """Reads only the signals that it declares"""
    domains = domain_names(3)
    mixer = start(case, domains)
    for step in range(STEPS):
        step_once(mixer, step, domains, "missing")


def sampling_changes_nothing(case: Case) -> None:
    """sampling, loss_weights and wants change nothing: after a resume they are asked again"""
    domains = domain_names(4)
    mixer = start(case, domains)
    for step in range(STEPS):
        before = mixer.state_dict()
        answers = [(mixer.sampling_weights(step).copy(), mixer.loss_weights(step), mixer.wants(step)) for _ in range(2)]
        if not same_state(*answers) or not same_state(before, mixer.state_dict()):
            raise Broken(f"step {step}: asking twice gives another answer or state", "learn in observe only")
        step_once(mixer, step, domains, "missing")


def state_is_a_copy(case: Case) -> None:
    """state_dict gives a copy, which stays as it was while the mixer goes on"""
    domains = domain_names(4)
    mixer, twin = start(case, domains), start(case, domains)
    run(mixer, range(8), domains)
    run(twin, range(8), domains)
    taken = mixer.state_dict()
    run(mixer, range(8, STEPS), domains, "missing")
    if not same_state(taken, twin.state_dict()):
        raise Broken(
            "what state_dict gave changed while the mixer went on",
            "state is numbers, arrays, a Generator, lists of these, or has a state_dict of its own",
        )


def resumes(case: Case) -> None:
    """Resumes bit for bit from a checkpoint at every step"""
    from acodm_core.lm.run import checkpoint

    fix = "what observe changes and later steps read is an attribute whose name ends in _, made in start"
    domains = domain_names(4)
    whole, fresh, path_TK, states = start(case, domains), start(case, domains), [], []
    for step in range(STEPS):
        states.append(whole.state_dict())
        path_TK.append(step_once(whole, step, domains, "missing"))
    states.append(whole.state_dict())
    with TemporaryDirectory() as root:
        for cut, state in enumerate(states[:-1]):
            folder = Path(root) / str(cut)
            folder.mkdir()
            checkpoint.save(folder, cut, {"mixer": state})
            mixer = copy.deepcopy(fresh)
            mixer.load_state_dict(checkpoint.load_latest(folder)["mixer"])
            end = min(STEPS, cut + 4) if cut else STEPS
            for step in range(cut, end):
                mixture_K = step_once(mixer, step, domains, "missing")
                if not np.array_equal(mixture_K, path_TK[step]):
                    raise Broken(f"cut at {cut}: step {step} draws {mixture_K}, undisturbed {path_TK[step]}", fix)
            if not same_state(mixer.state_dict(), states[end]):
                raise Broken(f"cut at {cut}: it decides alike, but at step {end} its state is another", fix)


def refuses_other_state(case: Case) -> None:
    """The state of another mixer is refused"""
    mixer = start(case, domain_names(3))
    try:
        mixer.load_state_dict(mixer.state_dict() | {"surprise_": 1})
    except ValueError as error:
        if "surprise_" in str(error):
            return
    raise Broken("a state with another entry, surprise_, is taken", "leave load_state_dict as the base class has it")


def same_seed_same_path(case: Case) -> None:
    """The same seed gives the same path"""
    domains = domain_names(5)
    one, other = (run(start(case, domains, seed=9), range(STEPS), domains, "missing") for _ in range(2))
    if not np.array_equal(one, other):
        step = int(np.flatnonzero((one != other).any(axis=1))[0])
        raise Broken(f"two runs of one seed part at step {step}", "draw from start.rng, kept as state: self.rng_")


def changes_nothing_given(case: Case) -> None:
    """Leaves what it was given as it is: signals are what the run records"""
    domains = domain_names(3)
    mixer = start(case, domains)
    for step in range(STEPS):
        given = step_stats(mixer, step, domains, "missing")
        before = copy.deepcopy(given)
        mixer.observe(given)
        if not same_state(vars(before), vars(given)):
            raise Broken(f"observe at step {step} changed what it was given", "work on a copy: array.copy()")


def permutes_with_domains(case: Case) -> None:
    """Does not care in which order the domains come"""
    if MEMBER in option_fields(find_mixer(case.mixer)):
        raise NotAsked("the number of a run in its swarm may stand for the place of a domain")
    domains = domain_names(6)
    there = tuple(domains[i] for i in (3, 0, 5, 1, 4, 2))
    apart = paths_apart(start(case, domains), start(case, there, built_for=domains), domains, there)
    if apart and len({run(start(case, domains, seed=s), range(STEPS), domains).tobytes() for s in (5, 6)}) > 1:
        raise NotAsked("its path depends on the seed, and by more than a draw a domain")
    if apart:
        raise Broken(apart, "a domain's place decides nothing: no index, no order among equals, no name")


def paths_apart(
    mixer: Mixer, permuted: Mixer, domains: Domains, there: Domains, *, rtol: float = 1e-9, atol: float = 1e-12
) -> str:
    """Where ``permuted``, whose domains come in the order ``there``, decides otherwise than ``mixer``; nothing if it never does."""
    order = np.argsort(places(domains))[places(there)]
    for step in range(STEPS):
        for name in ("sampling_weights", "loss_weights"):
            mine_K, theirs_K = getattr(mixer, name)(step), getattr(permuted, name)(step)
            if mine_K is None and theirs_K is None:
                continue
            mine_K = None if mine_K is None else mine_K[order]
            if mine_K is None or theirs_K is None or not np.allclose(mine_K, theirs_K, rtol=rtol, atol=atol):
                return f"step {step}: {name} is {mine_K} with the domains in one order and {theirs_K} in another"
        mixer.observe(step_stats(mixer, step, domains, "missing"))
        permuted.observe(step_stats(permuted, step, there, "missing"))
    return ""


def saves_whenever_it_ends(case: Case) -> None:
    """save writes after any number of steps, also where a run diverged in its first, and changes nothing"""
    for steps in (0, 1, STEPS):
        mixer = start(case, domain_names(3))
        run(mixer, range(steps), domain_names(3), "missing")
        before = mixer.state_dict()
        with TemporaryDirectory() as folder:
            mixer.save(Path(folder))
        if not same_state(before, mixer.state_dict()):
            raise Broken(f"save after {steps} steps changed the state", "write copies")


CHECKS: tuple[Callable[[Case], None], ...] = (
    described, stands_alone, options_teach, declares_what_it_reads, stays_on_simplex, sampling_changes_nothing,
    same_seed_same_path, changes_nothing_given, state_is_a_copy, resumes, refuses_other_state, permutes_with_domains,
    saves_whenever_it_ends,
)  # fmt: skip


def same_state(one: Any, other: Any) -> bool:
    """Whether two states are equal bit for bit, NaN equal to NaN."""
    if isinstance(one, Mapping):
        return set(one) == set(other) and all(same_state(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_state, one, other))
    if type(one).__module__.startswith("torch"):  # a tensor; not imported for mixers that have none
        return same_state(one.numpy(force=True), other.numpy(force=True))
    if isinstance(one, np.ndarray | float):
        return np.array_equal(one, other, equal_nan=np.asarray(one).dtype.kind == "f")
    return one == other


@dataclasses.dataclass(frozen=True)
class Finding:
    """How a mixer stands to one promise."""

    promise: str
    kept: bool | None  # None: not asked of it
    what: str = ""
    fix: str = ""
    late: bool = False  # it did not come back, so nothing more is asked


def examine(case: Case) -> Iterator[Finding]:
    """All checks, one after the other; whatever the mixer raises is a promise broken, the first time that it is raised."""
    known: set[str] = set()
    late = ""
    for check in CHECKS:
        finding = Finding(inspect.getdoc(check), None, late) if late else _finding(case, check)
        late = f"until this is mended: {finding.what}" if finding.late else late
        if finding.what in known:
            finding = Finding(finding.promise, None, f"until this is mended: {finding.what}")
        elif finding.kept is False:
            known.add(finding.what)
        yield finding


def _finding(case: Case, check: Callable[[Case], None]) -> Finding:
    promise = inspect.getdoc(check)
    try:
        check(case)
    except NotAsked as reason:
        return Finding(promise, None, str(reason))
    except Broken as broken:
        return Finding(promise, False, broken.what, broken.fix, isinstance(broken.__context__, Late))
    except UserError as error:
        return Finding(promise, False, error.what, error.fix, isinstance(error, Late))
    except Exception as error:
        return Finding(promise, False, f"{type(error).__name__}: {error}", _place(case, error))
    return Finding(promise, True)


def _place(case: Case, error: Exception) -> str:
    """The last line of the mixer's own file that the error passed through."""
    file = inspect.getfile(find_mixer(case.mixer))
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    return f"{file}, line {lines[-1]}" if lines else ""
