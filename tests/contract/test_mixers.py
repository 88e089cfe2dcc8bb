"""One battery for every mixer: it finds them by itself, so a new file in baselines/ is tested by being there."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch

from acodm_core.errors import UserError
from acodm_core.lm import checkpoint
from acodm_core.mixing import Mixer, Signal, Start, StepStats, baseline_names, build_mixer, find_mixer, simplex

torch.set_num_threads(1)

LAYERS, STEPS, BATCH, CONTEXT = 3, 20, 16, 8


@dataclasses.dataclass(frozen=True)
class Case:
    """How a mixer is set up: options and the folders of its inputs, given the domains."""

    mixer: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options_of: Callable[[tuple[str, ...]], Mapping[str, Any]] = lambda domains: {}  # options that name the domains
    inputs_of: Callable[[tuple[str, ...]], Mapping[str, Path]] = lambda domains: {}
    learned: bool = False  # permuting domains does not simply permute the path

    def build(self, domains: tuple[str, ...]) -> Mixer:
        return build_mixer(self.mixer, {**self.options, **self.options_of(domains)})


@cache
def actor_folder(name: str, domains: tuple[str, ...]) -> Path:
    """Where a run of the case ``name`` that learned on ``domains`` saved its actor."""
    folder = Path(mkdtemp(prefix="actor-"))
    mixer = start(CASES[name], domains)
    run(mixer, range(6), len(domains))
    mixer.save(folder)
    return folder


# Networks so small, and updates so early, that a case learns within its 20 steps and takes a moment.
SMALL = {"hidden": 8, "layers": 1, "minibatch": 8, "min_pool": 4}


def acodm(variant: str = "", **options: Any) -> Case:
    return Case(f"acodm_core.acodm{variant}", SMALL | options, learned=True)


def from_actor(name: str, case: Case) -> Case:
    """The case ``name`` in proxy mode: it draws by the actor that the case itself left behind."""
    options = {**case.options, "learn": False}
    return dataclasses.replace(case, options=options, inputs_of=lambda d: {"actor": actor_folder(name, d)})


# Between them, every value of every option with a fixed set of them (see the test at the end).
ACODM = {
    "acodm": acodm(
        agent="ddpg", reward="descent", shrink=True, scale="relative", form="relative", anchor="target", warmup=0.2,
        temperature=1.0,
    ),
    "acodm-instant": acodm(agent="ddpg", reward="instant", shrink=True, scale="relative", anchor="target", memory=0.5),
    "acodm-instant-mirror": acodm(agent="mirror", reward="instant", shrink=False, scale="raw", anchor="prior"),
    "acodm-literal": acodm(
        agent="ddpg", reward="alignment", shrink=False, importance="literal", scale="raw", form="paper", warmup=0.0,
        floor=0.0, temperature=0.0, anchor="prior", zero_head=False,
    ),
    "acodm-sum": acodm(
        agent="ddpg", reward="self", shrink=False, importance="sum", scale="running", form="released", replay=5,
        updates=2, anchor="uniform", subtract=0.01,
    ),
    "acodm-every-3": acodm(
        agent="ddpg", reward="cosine", importance="none", every=3, warmup=0.3, warmup_mixer="odm",
        warmup_options={"rule": "released"},
    ),
    "acodm-without-state": acodm(agent="ddpg", reward="adam", blocks=[], floor=0.0, temperature=1.0),
    "acodm-sac": acodm(agent="sac", reward="progress", scale="running", blocks=["loss", "time"], noise=(1.0, 1.0)),
    "acodm-frozen": acodm(agent="frozen", form="paper", zero_head=False, subtract=0.01),
    "acodm-mirror": acodm(agent="mirror", reward="released", scale="raw", noise=(0.1, 0.0)),
    "acodm-bandit": acodm(agent="bandit", reward="descent", scale="raw", every=3),
    "acodm-random": acodm(agent="random", spread=0.35, warmup=0.2, warmup_mixer="odm"),
    "acodm-paper": acodm(".paper"),
    "acodm-released": acodm(".released"),
    "hds": acodm(".hds"),
}  # fmt: skip
ACODM |= {f"{name}-from-actor": from_actor(name, ACODM[name]) for name in (
    "acodm", "acodm-sac", "acodm-frozen", "acodm-paper", "acodm-released", "hds")}  # fmt: skip

# What a mixer needs beyond its defaults. A mixer that is not here is tested with its defaults alone.
EXTRA = {
    "static": Case("static", options_of=lambda domains: {"weights": {d: 1.0 + i for i, d in enumerate(domains)}}),
    "doremi": Case("doremi", inputs_of=lambda domains: {"reference": Path("read by the trainer")}),
    "doremi-release": Case(
        "doremi",
        {"smoothing": 1e-4, "unseen": 10.8},
        inputs_of=lambda domains: {"reference": Path("read by the trainer")},
    ),
    "doge-release": Case("doge", {"mu": 0.05, "smoothing": 0.0}),
    "aioli": Case("aioli", learned=True),  # its random order of domains does not move with them
    "aioli-release": Case("aioli", {"sweeps": 2, "trial": 1, "measure": 0.7, "memory": 0.1}, learned=True),
    "odm-released": Case("odm", {"rule": "released"}),
    "odm-exp3": Case("odm", {"rule": "exp3"}),
    "odm-release-warmup": Case("odm", {"rule": "released", "warmup": 0.3, "learn_in_warmup": False}),
    "unimax-one-epoch": Case("unimax", {"epochs": 1}),
    "curriculum-of-three": Case(
        "curriculum",
        options_of=lambda domains: {
            "points": [
                {"at": 0.2, "weights": {d: 1.0 + i for i, d in enumerate(domains)}},
                {"at": 0.5, "weights": "natural"},
                {"at": 0.9, "weights": {d: float(i == 0) for i, d in enumerate(sorted(domains))}},
            ]
        },
    ),
    "ado": Case("ado", {"refit": 0.1}),
    "ado-released": Case("ado", {"bound": "released", "credit": 0.0, "floor": 0.0}),
    "pike": Case("pike", {"every": 0.1}),
    "pike-conceptual": Case("pike", {"rule": "conceptual", "floor": 0.0}),
    "pike-balanced": Case("pike", {"balance": 3.0, "memory": 0.0}),
    "pike-conceptual-balanced": Case("pike", {"rule": "conceptual", "balance": 1.0, "every": 0.2}),
}
CASES = {name: Case(name) for name in baseline_names()} | EXTRA | ACODM
MIXERS = sorted({case.mixer for case in CASES.values()})
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_mixer = pytest.mark.parametrize("name", MIXERS)


def names(k: int) -> tuple[str, ...]:
    return tuple(f"domain_{chr(ord('a') + i)}" for i in range(k))


def start(case: Case, domains: tuple[str, ...], *, seed: int = 5, prior: np.ndarray | None = None) -> Mixer:
    """The mixer where domains count unevenly in the comparison, and the first of several not at all."""
    mixer = case.build(domains)
    tokens_K = np.arange(1.0, len(domains) + 1) ** 2 * 1000 if prior is None else prior * 1e6
    inputs = case.inputs_of(domains)
    assert set(mixer.required_inputs()) <= set(inputs)
    rng = np.random.default_rng(seed)
    tokens_per_step = BATCH * CONTEXT
    prior_K = tokens_K / tokens_K.sum()
    target_K = target(domains)
    mixer.start(Start(domains, prior_K, tokens_K, STEPS, rng, inputs, target_K, LAYERS, tokens_per_step))
    return mixer


def target(domains: tuple[str, ...]) -> np.ndarray:
    """(K,) weights that move with the domains' names."""
    places = np.argsort(np.argsort(domains))
    return simplex(np.where((places > 0) | (len(domains) == 1), 1.0 + places, 0.0))


def random_signals(rng: np.random.Generator, k: int, scale: float = 1.0) -> dict[Signal, np.ndarray]:
    gradients_KP = rng.normal(size=(k, 7)) * np.sqrt(scale)
    rotation_PP, _ = np.linalg.qr(rng.normal(size=(7, 7)))  # a sketch that loses nothing
    return {
        Signal.LOSS: rng.uniform(1.0, 5.0, k) * scale,
        Signal.EXCESS_LOSS: rng.uniform(0.0, 1.0, k) * scale,
        Signal.VALID_LOSS: rng.uniform(1.0, 5.0, k) * scale,
        Signal.LEARNING_RATE: np.array(rng.uniform(1e-4, 1e-2)),
        Signal.GRAD_GRAM: gradients_KP @ gradients_KP.T,
        Signal.GRAD_SKETCH: gradients_KP @ rotation_PP,
        Signal.GRAD_SELF: rng.uniform(-0.1, 1.0, k) * scale,  # without the noise's share it may come out negative
        Signal.GRAD_NOISE: rng.uniform(1.0, 9.0, k) * scale * CONTEXT,
        Signal.ADAM_SKETCH: gradients_KP / np.geomspace(0.1, 10.0, 7),
        Signal.ADAM_SELF: rng.uniform(-0.1, 1.0, k) * scale,
        Signal.TYPE_TOKEN_RATIO: rng.uniform(0.1, 1.0, k),
        Signal.PARAM_NORM: rng.uniform(1.0, 2.0, LAYERS) * scale,
        Signal.PARAM_STEP_NORM: rng.uniform(0.01, 0.02, LAYERS) * scale,
    }


OF_THE_MODEL = {
    Signal.PARAM_NORM,
    Signal.PARAM_STEP_NORM,
    Signal.LEARNING_RATE,
}  # all others have a row for each domain
WHATEVER_WAS_DRAWN = OF_THE_MODEL | {Signal.VALID_LOSS}
OF_PAIRS = {Signal.GRAD_SELF, Signal.GRAD_NOISE, Signal.ADAM_SELF}  # of one sequence alone there is none


def drop(signals: dict[Signal, np.ndarray], absent_K: np.ndarray) -> dict[Signal, np.ndarray]:
    """The signals of a step that did not draw some domains."""
    out = {name: value.copy() for name, value in signals.items()}
    for name in out.keys() - WHATEVER_WAS_DRAWN:
        out[name][absent_K] = np.nan
    out[Signal.GRAD_GRAM][:, absent_K] = np.nan
    return out


def reorder(signals: dict[Signal, np.ndarray], order: np.ndarray) -> dict[Signal, np.ndarray]:
    """The signals of a step whose domains come in another order."""
    out = {name: value if name in OF_THE_MODEL else value[order] for name, value in signals.items()}
    return out | {Signal.GRAD_GRAM: signals[Signal.GRAD_GRAM][np.ix_(order, order)]}


def test_made_up_sketches_have_the_gram_that_they_sketch() -> None:
    for kind in KINDS:
        signals, present_K = make_signals(kind, 3, 5)
        sketch_KD = signals[Signal.GRAD_SKETCH]
        np.testing.assert_allclose(sketch_KD @ sketch_KD.T, signals[Signal.GRAD_GRAM], rtol=1e-9, atol=1e-12)
        for name in signals.keys() - WHATEVER_WAS_DRAWN:
            unknown_K = np.isnan(signals[name]).reshape(5, -1).all(1)
            assert unknown_K[~present_K].all() and (name in OF_PAIRS or not unknown_K[present_K].any()), name


def make_signals(kind: str, step: int, k: int) -> tuple[dict[Signal, np.ndarray], np.ndarray]:
    """Signals of one step and which domains it drew."""
    rng = np.random.default_rng([step, k])
    present_K = np.ones(k, dtype=bool)
    match kind:
        case "random":
            signals = random_signals(rng, k)
        case "constant":
            signals = random_signals(np.random.default_rng(0), k)
        case "huge":
            signals = random_signals(rng, k, 1e6)
        case "tiny":
            signals = random_signals(rng, k, 1e-12)
        case "swinging":
            signals = random_signals(rng, k, [1e6, 1e-12][step % 2])
        case "missing":
            present_K = rng.random(k) < 0.4
            present_K[rng.integers(k)] = True
            signals = drop(random_signals(rng, k), ~present_K)
            lonely_K = rng.random(k) < 0.2  # drawn once
            for name in OF_PAIRS:
                signals[name][lonely_K] = np.nan
        case "one domain":  # the others are never seen
            present_K = np.arange(k) == k - 1
            signals = drop(random_signals(rng, k), ~present_K)
    return signals, present_K


class OnlyThese(Mapping):
    """Signals of which only those asked for may be read."""

    def __init__(self, signals: Mapping[Signal, np.ndarray], allowed: frozenset[Signal]) -> None:
        self.signals, self.allowed = signals, allowed

    def __getitem__(self, signal: Signal) -> np.ndarray:
        assert signal in self.allowed, f"{signal} was read but is not in wants()"
        return self.signals[signal]

    def __contains__(self, signal: object) -> bool:
        return signal in self.signals

    def __iter__(self) -> Iterator[Signal]:
        return iter(self.allowed)

    def __len__(self) -> int:
        return len(self.allowed)


def stats_of(mixer: Mixer, step: int, k: int, rng: np.random.Generator, kind: str = "random") -> StepStats:
    signals, present_K = make_signals(kind, step, k)
    tokens_K = np.where(present_K, rng.multinomial(BATCH, np.full(k, 1 / k)) + 1, 0) * CONTEXT
    return StepStats(step, tokens_K, OnlyThese(signals, mixer.wants(step)))


def step_once(mixer: Mixer, step: int, k: int, kind: str = "random") -> np.ndarray:
    share_K = np.array(mixer.sampling(step), copy=True)
    mixer.loss_weights(step)
    mixer.observe(stats_of(mixer, step, k, np.random.default_rng(step), kind))
    return share_K


def run(mixer: Mixer, steps: range, k: int, kind: str = "random") -> np.ndarray:
    """(T, K) the path of shares."""
    return np.array([step_once(mixer, step, k, kind) for step in steps])


def same_state(one: Any, other: Any) -> bool:
    """Whether two states are equal bit for bit, NaN equal to NaN."""
    if isinstance(one, Mapping):
        return set(one) == set(other) and all(same_state(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same_state, one, other))
    if isinstance(one, torch.Tensor):
        return torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, (np.ndarray, float)):
        return np.array_equal(one, other, equal_nan=True)
    return one == other


KINDS = ("random", "constant", "huge", "tiny", "swinging", "missing", "one domain")


@every_case
@pytest.mark.parametrize(("k", "kind"), [*product([3], KINDS), *product([1, 22], ["random", "swinging", "missing"])])
def test_stays_on_the_simplex(case: Case, k: int, kind: str) -> None:
    mixer = start(case, names(k))
    for step in range(STEPS):
        share_K = step_once(mixer, step, k, kind)
        assert share_K.shape == (k,) and share_K.dtype == np.float64
        assert np.isfinite(share_K).all() and (share_K >= 0).all(), f"step {step}: {share_K}"
        assert abs(share_K.sum() - 1) < 1e-9
        omega_K = mixer.loss_weights(step)
        assert omega_K is None or (omega_K.shape == (k,) and np.isfinite(omega_K).all() and (omega_K >= 0).all())
        assert mixer.wants(step) <= mixer.needs <= frozenset(Signal)
        assert all(np.isfinite(value) for value in mixer.diagnostics().values())


@every_case
def test_sampling_changes_nothing(case: Case) -> None:
    mixer = start(case, names(4))
    for step in range(STEPS):
        before = mixer.state_dict()
        first, omega, wants = mixer.sampling(step).copy(), mixer.loss_weights(step), mixer.wants(step)
        np.testing.assert_array_equal(first, mixer.sampling(step))
        assert same_state(omega, mixer.loss_weights(step)) and wants == mixer.wants(step)
        assert same_state(before, mixer.state_dict())
        step_once(mixer, step, 4, "missing")


@every_case
def test_state_is_a_copy(case: Case) -> None:
    mixer, twin = start(case, names(4)), start(case, names(4))
    run(mixer, range(8), 4)
    run(twin, range(8), 4)
    taken = mixer.state_dict()
    run(mixer, range(8, 20), 4, "missing")
    assert same_state(taken, twin.state_dict()), "what state_dict() gave changed while the mixer went on"


@every_case
def test_resumes_bit_for_bit_from_every_cut(case: Case, tmp_path: Path) -> None:
    k = 4
    whole = start(case, names(k))
    path_TK, states = [], []
    for step in range(STEPS):
        states.append(whole.state_dict())
        path_TK.append(step_once(whole, step, k, "missing"))
    states.append(whole.state_dict())
    for cut, state in enumerate(states[:-1]):
        folder = tmp_path / str(cut)
        folder.mkdir()
        checkpoint.save(folder, cut, {"mixer": state})
        mixer = start(case, names(k))
        mixer.load_state_dict(checkpoint.load_latest(folder)["mixer"])
        end = min(STEPS, cut + 4) if cut else STEPS
        for step in range(cut, end):
            np.testing.assert_array_equal(
                step_once(mixer, step, k, "missing"), path_TK[step], f"cut {cut}, step {step}"
            )
        assert same_state(mixer.state_dict(), states[end]), f"cut {cut}: it decides alike, but holds another state"


@every_case
def test_state_of_another_mixer_is_refused(case: Case) -> None:
    mixer = start(case, names(3))
    with pytest.raises(ValueError, match="surprise_"):
        mixer.load_state_dict(mixer.state_dict() | {"surprise_": 1})


@every_case
def test_same_seed_same_path(case: Case) -> None:
    one, other = (run(start(case, names(5), seed=9), range(STEPS), 5, "missing") for _ in range(2))
    np.testing.assert_array_equal(one, other)


@every_case
def test_keeps_no_hold_on_what_it_was_given(case: Case) -> None:
    """A mixer that keeps a reference to the trainer's arrays would change when the trainer reuses them."""
    one, other = start(case, names(3)), start(case, names(3))
    for step in range(10):
        np.testing.assert_array_equal(one.sampling(step), other.sampling(step))
        signals, present_K = make_signals("missing", step, 3)
        tokens_K = np.where(present_K, 16.0, 0.0)
        other.observe(StepStats(step, tokens_K.copy(), {name: value.copy() for name, value in signals.items()}))
        one.observe(StepStats(step, tokens_K, signals))
        for given in (tokens_K, *signals.values()):
            given[...] = 77.0


UNLEARNED = {name: case for name, case in CASES.items() if not case.learned}


def permuted_path(mixer: Mixer, permuted: Mixer, order: np.ndarray, *, rtol: float, atol: float) -> None:
    """Check that ``permuted``, whose domains come in another order, decides as ``mixer`` does."""
    k = len(order)
    for step in range(STEPS):
        np.testing.assert_allclose(
            mixer.sampling(step)[order], permuted.sampling(step), rtol=rtol, atol=atol, err_msg=f"step {step}"
        )
        if (omega_K := mixer.loss_weights(step)) is not None:
            np.testing.assert_allclose(omega_K[order], permuted.loss_weights(step), rtol=rtol, atol=atol)
        signals, present_K = make_signals("missing", step, k)
        tokens_K = np.where(present_K, 16, 0)
        mixer.observe(StepStats(step, tokens_K, signals))
        permuted.observe(StepStats(step, tokens_K[order], reorder(signals, order)))


@pytest.mark.parametrize("case", UNLEARNED.values(), ids=UNLEARNED)
def test_permuting_domains_permutes_the_path(case: Case) -> None:
    k, order = 6, np.array([3, 0, 5, 1, 4, 2])
    domains = names(k)
    weights = case.options_of(domains)
    permuted_case = dataclasses.replace(case, options_of=lambda _: weights)
    prior = np.arange(1.0, k + 1) / np.arange(1.0, k + 1).sum()
    mixer = start(case, domains, prior=prior)
    permuted = start(permuted_case, tuple(domains[i] for i in order), prior=prior[order])
    permuted_path(mixer, permuted, order, rtol=1e-12, atol=1e-15)


class Permuted:
    """A generator whose draws over domains come in another order: the noise moves with the domains."""

    def __init__(self, rng: np.random.Generator, order: np.ndarray) -> None:
        self.rng, self.order = rng, order

    def normal(self, mean: float, sigma: float, size: int) -> np.ndarray:
        return self.rng.normal(mean, sigma, size)[self.order]

    def random(self, size: int) -> np.ndarray:
        return self.rng.random(size)[self.order]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rng, name)


@pytest.mark.parametrize("name", ["acodm", "acodm-instant", "acodm-sum", "acodm-every-3", "acodm-paper", "hds"])
def test_permuting_domains_permutes_acodm_with_its_networks(name: str) -> None:
    """The weights of first and last layers move with the domains that they belong to; everything else follows."""
    k, order = 4, np.array([2, 0, 3, 1])
    options = {**CASES[name].options, "zero_head": True, "actor_lr": 3e-3, "critic_lr": 3e-3}
    mixer, permuted = permuted_pair(dataclasses.replace(CASES[name], options=options), order)
    agent, other, size = mixer.agent_, permuted.agent_, mixer.tracker_.size
    states = np.concatenate([order, k + order, 2 * k + order, np.arange(3 * k, size)])  # counts, losses, changes, rest
    outputs = np.concatenate([order, k + order])
    for prefix in ("", "target_"):
        mine, theirs = getattr(agent, f"{prefix}actor"), getattr(other, f"{prefix}actor")
        move_domains(mine, theirs, states, outputs[: k * agent.heads])
        critics = zip(getattr(agent, f"{prefix}critic"), getattr(other, f"{prefix}critic"), strict=True)
        for mine, theirs in critics:
            move_domains(mine, theirs, [*states, *(size + order)], order if len(mine[-1].bias) == k else [0])
    if agent.heads == 2:  # the soft agent's own noise moves with the domains, too; the mixer's already did
        plain = other.disturbed
        other.disturbed = lambda output, noise: plain(output, noise[:, order] if noise.ndim == 2 else noise)
    before = agent.actor[-1].weight.clone()
    permuted_path(mixer, permuted, order, rtol=0, atol=1e-4)
    assert not torch.equal(agent.actor[-1].weight, before), "the networks learned, so the test says something"


NOISY = ["acodm-mirror", "acodm-instant-mirror", "acodm-bandit", "acodm-random", "aioli", "aioli-release"]


@pytest.mark.parametrize("name", NOISY)
def test_permuting_domains_permutes_the_path_when_the_noise_moves_along(name: str) -> None:
    order = np.array([2, 0, 3, 1])
    permuted_path(*permuted_pair(CASES[name], order), order, rtol=1e-9, atol=1e-12)


def permuted_pair(case: Case, order: np.ndarray) -> tuple[Mixer, Mixer]:
    """The case's mixer on four domains, and on the same in another order, with noise that moves along."""
    prior, domains = np.arange(1.0, 5) / 10, names(4)
    permuted, rng = case.build(domains), Permuted(np.random.default_rng(5), order)
    there = tuple(domains[i] for i in order)
    permuted.start(Start(there, prior[order], prior[order] * 1e6, STEPS, rng, target=target(there), tensors=LAYERS))
    return start(case, domains, prior=prior), permuted


@torch.no_grad()
def move_domains(mine: torch.nn.Sequential, theirs: torch.nn.Sequential, inputs: Any, outputs: Any) -> None:
    """Make ``theirs`` the network ``mine`` with its inputs and outputs in another order."""
    theirs.load_state_dict(mine.state_dict())
    theirs[0].weight.copy_(mine[0].weight[:, inputs])
    theirs[-1].weight.copy_(mine[-1].weight[outputs])
    theirs[-1].bias.copy_(mine[-1].bias[outputs])


def test_cases_cover_every_value_of_acodms_options() -> None:
    """A value that is added to an option without a case here fails."""
    hints = typing.get_type_hints(find_mixer("acodm_core.acodm"))
    closed = {name: typing.get_args(hint) for name, hint in hints.items() if typing.get_origin(hint) is typing.Literal}
    assert {"agent", "reward", "importance", "scale", "form", "anchor"} <= set(closed)
    closed |= {name: (False, True) for name, hint in hints.items() if hint is bool}
    assert {"learn", "shrink", "zero_head"} <= set(closed)
    for option, values in closed.items():
        covered = {getattr(case.build(names(3)), option) for case in ACODM.values()}
        assert covered == set(values), option


@every_mixer
def test_docstring_has_the_four_blocks(name: str) -> None:
    cls = find_mixer(name)
    doc = inspect.getdoc(cls)
    assert doc and doc != inspect.getdoc(Mixer)
    places = [doc.find(f"\n{block}:\n") for block in ("Idea", "Update", "Source", "Differences")]
    assert -1 not in places and places == sorted(places), f"Idea, Update, Source, Differences, in this order: {places}"
    for here, following in zip(places, [*places[1:], len(doc)], strict=True):
        assert len(doc[here:following].split()) > 2, "a block says something"
    assert isinstance(cls.cite, str)


@every_mixer
def test_unknown_option_lists_the_valid_ones(name: str) -> None:
    fields = [f.name for f in dataclasses.fields(find_mixer(name))]
    with pytest.raises(UserError) as error:
        build_mixer(name, {"no_such_option": 1}, where="methods.mine")
    text = str(error.value)
    assert "methods.mine.options.no_such_option" in text and "'no_such_option'" in text
    assert all(field in text for field in fields)


@every_mixer
def test_options_have_defaults_and_state_ends_in_underscore(name: str) -> None:
    cls = find_mixer(name)
    assert dataclasses.is_dataclass(cls)
    for field in dataclasses.fields(cls):
        assert not field.name.endswith("_")
        has_default = {field.default, field.default_factory} != {dataclasses.MISSING}
        assert has_default, f"{field.name} has no default"


@pytest.mark.parametrize("name", [*baseline_names(), "_template"])
def test_baseline_is_one_short_file_that_stands_alone(name: str) -> None:
    path = Path(inspect.getfile(__import__("acodm_baselines"))).parent / f"{name}.py"
    lines = path.read_text().splitlines()
    assert len(lines) <= 120
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and not node.module.startswith("acodm_baselines"), f"{name} imports {node.module}"
            ours = node.module.startswith("acodm")
            assert not ours or node.module in ("acodm_core.mixing", "acodm_core.errors"), (
                f"{name} imports {node.module}"
            )
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("acodm") for alias in node.names)


def test_the_template_is_a_mixer() -> None:
    case = Case("acodm_baselines._template")
    shares_TK = run(start(case, names(3)), range(STEPS), 3, "missing")
    np.testing.assert_allclose(shares_TK.sum(1), 1)


def test_undeclared_signal_says_what_to_add() -> None:
    stats = StepStats(3, np.ones(2), {Signal.LOSS: np.ones(2)})
    with pytest.raises(KeyError, match=r"add Signal\.GRAD_GRAM to `needs`"):
        stats[Signal.GRAD_GRAM]
