"""One battery for every mixer: it finds them by itself, so a new file in baselines/ is tested by being there."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch

from acodm_core.errors import UserError
from acodm_core.lm import checkpoint
from acodm_core.mixing import Mixer, Signal, Start, StepStats, baseline_names, build_mixer, find_mixer

torch.set_num_threads(1)

LAYERS, STEPS, BATCH, CONTEXT = 3, 24, 16, 8


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
def actor_folder(domains: tuple[str, ...]) -> Path:
    """Where an AC-ODM run that learned on ``domains`` saved its actor."""
    folder = Path(mkdtemp(prefix="actor-"))
    mixer = start(CASES["acodm"], domains)
    for step in range(6):
        mixer.observe(stats_of(mixer, step, len(domains), np.random.default_rng(step)))
    mixer.save(folder)
    return folder


# What a mixer needs beyond its defaults. A mixer that is not here is tested with its defaults alone.
EXTRA = {
    "static": Case("static", options_of=lambda domains: {"weights": {d: 1.0 + i for i, d in enumerate(domains)}}),
    "odm-released": Case("odm", {"rule": "released"}),
    "odm-exp3": Case("odm", {"rule": "exp3"}),
    "odm-release-warmup": Case("odm", {"rule": "released", "warmup": 0.3, "learn_in_warmup": False}),
    "acodm": Case("acodm_core.acodm", {"min_pool": 4, "warmup": 0.2, "minibatch": 8}, learned=True),
    "acodm-literal": Case("acodm_core.acodm", {"importance": "literal", "min_pool": 4}, learned=True),
    "acodm-sum": Case("acodm_core.acodm", {"importance": "sum", "min_pool": 4, "replay": 5}, learned=True),
    "acodm-frozen": Case(
        "acodm_core.acodm", {"learn": False}, inputs_of=lambda d: {"actor": actor_folder(d)}, learned=True
    ),
}
CASES = {name: Case(name) for name in baseline_names()} | EXTRA
MIXERS = sorted({case.mixer for case in CASES.values()})
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_mixer = pytest.mark.parametrize("name", MIXERS)


def names(k: int) -> tuple[str, ...]:
    return tuple(f"domain_{chr(ord('a') + i)}" for i in range(k))


def start(case: Case, domains: tuple[str, ...], *, seed: int = 5, prior: np.ndarray | None = None) -> Mixer:
    mixer = case.build(domains)
    tokens_K = np.arange(1.0, len(domains) + 1) ** 2 * 1000 if prior is None else prior * 1e6
    inputs = case.inputs_of(domains)
    assert set(mixer.required_inputs()) <= set(inputs)
    mixer.start(Start(domains, tokens_K / tokens_K.sum(), tokens_K, STEPS, np.random.default_rng(seed), inputs))
    return mixer


def random_signals(rng: np.random.Generator, k: int, scale: float = 1.0) -> dict[Signal, np.ndarray]:
    gradients_KP = rng.normal(size=(k, 7)) * np.sqrt(scale)
    return {
        Signal.LOSS: rng.uniform(1.0, 5.0, k) * scale,
        Signal.GRAD_GRAM: gradients_KP @ gradients_KP.T,
        Signal.PARAM_NORM: rng.uniform(1.0, 2.0, LAYERS) * scale,
        Signal.PARAM_STEP_NORM: rng.uniform(0.01, 0.02, LAYERS) * scale,
    }


def drop(signals: dict[Signal, np.ndarray], absent_K: np.ndarray) -> dict[Signal, np.ndarray]:
    """The signals of a step that did not draw some domains."""
    out = {name: value.copy() for name, value in signals.items()}
    out[Signal.LOSS][absent_K] = np.nan
    out[Signal.GRAD_GRAM][absent_K, :] = np.nan
    out[Signal.GRAD_GRAM][:, absent_K] = np.nan
    return out


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
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 3, 22])
def test_stays_on_the_simplex(case: Case, kind: str, k: int) -> None:
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
    for cut, state in enumerate(states):
        folder = tmp_path / str(cut)
        folder.mkdir()
        checkpoint.save(folder, cut, {"mixer": state})
        mixer = start(case, names(k))
        mixer.load_state_dict(checkpoint.load_latest(folder)["mixer"])
        for step in range(cut, min(STEPS, cut + 5) if 0 < cut < STEPS - 5 else STEPS):
            np.testing.assert_array_equal(
                step_once(mixer, step, k, "missing"), path_TK[step], f"cut {cut}, step {step}"
            )
        if step == STEPS - 1:
            assert same_state(mixer.state_dict(), whole.state_dict())


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


@pytest.mark.parametrize("case", UNLEARNED.values(), ids=UNLEARNED)
def test_permuting_domains_permutes_the_path(case: Case) -> None:
    k, order = 6, np.array([3, 0, 5, 1, 4, 2])
    domains = names(k)
    weights = case.options_of(domains)
    permuted_case = dataclasses.replace(case, options_of=lambda _: weights)
    prior = np.arange(1.0, k + 1) / np.arange(1.0, k + 1).sum()
    mixer = start(case, domains, prior=prior)
    permuted = start(permuted_case, tuple(domains[i] for i in order), prior=prior[order])
    for step in range(STEPS):
        np.testing.assert_allclose(mixer.sampling(step)[order], permuted.sampling(step), rtol=1e-12, atol=1e-15)
        signals, present_K = make_signals("missing", step, k)
        tokens_K = np.where(present_K, 16, 0)
        mixer.observe(StepStats(step, tokens_K, signals))
        there = signals | {
            Signal.LOSS: signals[Signal.LOSS][order],
            Signal.GRAD_GRAM: signals[Signal.GRAD_GRAM][np.ix_(order, order)],
        }
        permuted.observe(StepStats(step, tokens_K[order], there))


class Permuted:
    """A generator whose normal draws over domains come in another order: the noise moves with the domains."""

    def __init__(self, rng: np.random.Generator, order: np.ndarray) -> None:
        self.rng, self.order = rng, order

    def normal(self, mean: float, sigma: float, size: int) -> np.ndarray:
        return self.rng.normal(mean, sigma, size)[self.order]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rng, name)


@pytest.mark.parametrize("importance", ["none", "sum", "literal"])
def test_permuting_domains_permutes_acodm_with_its_networks(importance: str) -> None:
    k, order = 4, np.array([2, 0, 3, 1])
    case = Case("acodm_core.acodm", {"importance": importance, "min_pool": 4, "minibatch": 8, "warmup": 0.2})
    prior = np.arange(1.0, k + 1) / 10
    mixer, permuted = start(case, names(k), prior=prior), None
    permuted = case.build(names(k))
    rng = Permuted(np.random.default_rng(5), order)
    domains = tuple(names(k)[i] for i in order)
    permuted.start(Start(domains, prior[order], prior[order] * 1e6, STEPS, rng))
    columns = np.concatenate([order + block * k for block in range(3)] + [np.arange(3 * k, 3 * k + 3)])
    columns_critic = np.concatenate([columns, 3 * k + 3 + order])
    agent, other = mixer.agent_, permuted.agent_
    with torch.no_grad():
        for name, inputs in (("actor", columns), ("critic", columns_critic)):
            for prefix in ("", "target_"):
                mine, theirs = getattr(agent, prefix + name), getattr(other, prefix + name)
                theirs[0].weight.copy_(mine[0].weight[:, inputs])
                theirs[-1].weight.copy_(mine[-1].weight[order])
                theirs[-1].bias.copy_(mine[-1].bias[order])
    moved = 0.0
    for step in range(STEPS):
        np.testing.assert_allclose(mixer.sampling(step)[order], permuted.sampling(step), atol=1e-4, err_msg=str(step))
        signals, present_K = make_signals("missing", step, k)
        tokens_K = np.where(present_K, 16, 0)
        mixer.observe(StepStats(step, tokens_K, signals))
        there = {s: signals[s] for s in (Signal.PARAM_NORM, Signal.PARAM_STEP_NORM)}
        there[Signal.LOSS] = signals[Signal.LOSS][order]
        there[Signal.GRAD_GRAM] = signals[Signal.GRAD_GRAM][np.ix_(order, order)]
        permuted.observe(StepStats(step, tokens_K[order], there))
        moved += mixer.diagnostics().get("actor_grad_norm", 0.0)
    assert moved > 0, "the networks learned, so the test says something"


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
