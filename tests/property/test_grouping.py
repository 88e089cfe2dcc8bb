"""A mixer on groups of domains sees what it would see if the groups were the domains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acodm_core.lm.run import checkpoint
from acodm_core.mixers.find import build_mixer
from acodm_core.mixers.grouped import Grouped, partition
from acodm_core.mixing import Mixer, Signal, Start, StepStats

STEPS = 12
quick = settings(max_examples=50, deadline=None)
ACODM = {"min_transitions": 3, "minibatch_size": 4, "warmup": 0.2}


def names(k: int) -> tuple[str, ...]:
    return tuple(f"domain_{i:02d}" for i in range(k))


def start_of(domains: tuple[str, ...], rng: np.random.Generator) -> Start:
    tokens_K = rng.integers(100, 10_000, len(domains)).astype(float)
    objective_K = rng.random(len(domains)) + 0.01
    return Start(
        domains=domains,
        prior=tokens_K / tokens_K.sum(),
        tokens_available=tokens_K,
        total_steps=STEPS,
        rng=np.random.default_rng(3),
        objective_weights=objective_K,
    )


@dataclass
class Recorder(Mixer):
    """Keeps what it is given; shares and weights are its own."""

    needs = frozenset({Signal.LOSS, Signal.GRAD_GRAM, Signal.GRAD_SKETCH})

    def start(self, start: Start) -> None:
        self.given = start
        self.mixture_ = np.random.default_rng(1).dirichlet(np.full(len(start.domains), 0.3))

    def sampling_weights(self, step: int) -> np.ndarray:
        return self.mixture_

    def loss_weights(self, step: int) -> np.ndarray:
        return self.mixture_ + 1

    def observe(self, stats: StepStats) -> None:
        self.seen = stats


@st.composite
def partitions(draw) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """Domains, and a partition of them in any order."""
    domains = names(draw(st.integers(1, 9)))
    labels = draw(st.lists(st.integers(0, 3), min_size=len(domains), max_size=len(domains)))
    groups: dict[str, list[str]] = {}
    for i in draw(st.permutations(range(len(domains)))):
        groups.setdefault(f"group_{labels[i]}", []).append(domains[i])
    return domains, groups


@quick
@given(st.integers(1, 30), st.integers(1, 30))
def test_a_number_of_groups_gives_neighbours_of_nearly_equal_number(k: int, groups: int) -> None:
    if groups <= k:
        found = partition(groups, names(k), where="")
        assert [domain for members in found.values() for domain in members] == list(names(k))
        sizes = [len(members) for members in found.values()]
        assert len(found) == groups and max(sizes) - min(sizes) <= 1


@quick
@given(partitions())
def test_the_order_in_which_groups_are_written_means_nothing(case) -> None:
    domains, groups = case
    written_backwards = {group: members[::-1] for group, members in reversed(groups.items())}
    found, other = partition(groups, domains, where=""), partition(written_backwards, domains, where="")
    assert list(found.items()) == list(other.items())
    assert {group: set(members) for group, members in groups.items()} == {g: set(m) for g, m in found.items()}


@quick
@given(partitions(), st.integers(0, 1000))
def test_shares_lie_on_the_simplex_and_are_natural_inside_a_group(case, seed: int) -> None:
    domains, groups = case
    inner = Recorder()
    mixer, start = Grouped(inner, partition(groups, domains, where="")), start_of(domains, np.random.default_rng(seed))
    mixer.start(start)
    mixture_K, loss_weight_K = mixer.sampling_weights(0), mixer.loss_weights(0)
    assert mixture_K.shape == loss_weight_K.shape == (len(domains),)
    assert mixture_K.sum() == pytest.approx(1) and (mixture_K >= 0).all()
    for g, (group, members) in enumerate(mixer.groups.items()):
        inside = [domains.index(domain) for domain in members]
        prior_K = start.prior[inside]
        assert inner.given.domains[g] == group
        assert inner.given.prior[g] == pytest.approx(prior_K.sum())
        assert inner.given.objective_weights[g] == pytest.approx(start.objective_weights[inside].sum())
        assert inner.given.tokens_available[g] == start.tokens_available[inside].sum()
        np.testing.assert_allclose(mixture_K[inside], inner.mixture_[g] * prior_K / prior_K.sum())
        np.testing.assert_array_equal(loss_weight_K[inside], inner.mixture_[g] + 1)


@quick
@given(partitions(), st.integers(0, 1000))
def test_signals_are_those_of_the_mean_loss_over_the_tokens_drawn_from_a_group(case, seed: int) -> None:
    domains, groups = case
    rng = np.random.default_rng(seed)
    inner = Recorder()
    mixer = Grouped(inner, partition(groups, domains, where=""))
    mixer.start(start_of(domains, rng))
    k, g = len(domains), len(mixer.groups)
    tokens_K = rng.integers(0, 3, k) * 16
    gradient_KP, loss_K, norms_L = rng.normal(size=(k, 5)), rng.uniform(1, 5, k), rng.random(4)
    absent_K = tokens_K == 0
    seen_KP, seen_K, gram_KK = gradient_KP.copy(), loss_K.copy(), gradient_KP @ gradient_KP.T
    seen_KP[absent_K], seen_K[absent_K], gram_KK[absent_K, :], gram_KK[:, absent_K] = (np.nan,) * 4
    signals = {Signal.LOSS: seen_K, Signal.GRAD_GRAM: gram_KK, Signal.GRAD_SKETCH: seen_KP, Signal.PARAM_NORM: norms_L}
    mixer.observe(StepStats(7, tokens_K, signals))

    expected_GP, expected_G, tokens_G = np.full((g, 5), np.nan), np.full(g, np.nan), np.zeros(g)
    for i, members in enumerate(mixer.groups.values()):
        inside = [domains.index(domain) for domain in members]
        tokens_G[i] = tokens_K[inside].sum()
        if tokens_G[i]:
            expected_GP[i] = np.average(gradient_KP[inside], axis=0, weights=tokens_K[inside])
            expected_G[i] = np.average(loss_K[inside], weights=tokens_K[inside])
    assert inner.seen.step == 7
    np.testing.assert_array_equal(inner.seen.tokens, tokens_G)
    np.testing.assert_allclose(inner.seen[Signal.LOSS], expected_G)
    np.testing.assert_allclose(inner.seen[Signal.GRAD_SKETCH], expected_GP, atol=1e-12)
    np.testing.assert_allclose(inner.seen[Signal.GRAD_GRAM], expected_GP @ expected_GP.T, atol=1e-12)
    np.testing.assert_array_equal(inner.seen[Signal.PARAM_NORM], norms_L)


def test_a_signal_that_is_no_number_for_a_present_member_is_none_for_its_group() -> None:
    inner = Recorder()
    mixer = Grouped(inner, partition(2, names(4), where=""))
    mixer.start(start_of(names(4), np.random.default_rng(0)))
    gram_KK = np.eye(4)
    gram_KK[1, 2] = gram_KK[2, 1] = np.nan
    mixer.observe(StepStats(0, np.full(4, 16), {Signal.GRAD_GRAM: gram_KK}))
    np.testing.assert_array_equal(inner.seen[Signal.GRAD_GRAM], [[0.5, np.nan], [np.nan, 0.5]])


def signals_of(step: int, k: int) -> tuple[dict[Signal, np.ndarray], np.ndarray]:
    """Signals and tokens of a step that did not draw every domain."""
    rng = np.random.default_rng([step, k])
    tokens_K = rng.integers(0, 3, k) * 16
    tokens_K[rng.integers(k)] = 16
    gradient_KP, loss_K = rng.normal(size=(k, 6)), rng.uniform(1, 5, k)
    gradient_KP[tokens_K == 0], loss_K[tokens_K == 0] = np.nan, np.nan
    signals = {
        Signal.LOSS: loss_K,
        Signal.GRAD_GRAM: gradient_KP @ gradient_KP.T,
        Signal.GRAD_SKETCH: gradient_KP,
        Signal.ADAM_SKETCH: gradient_KP,
        Signal.PARAM_NORM: rng.uniform(1, 2, 3),
        Signal.PARAM_STEP_NORM: rng.uniform(0, 0.1, 3),
    }
    return signals, tokens_K


def path(mixer: Mixer, steps: range, k: int) -> np.ndarray:
    """(T, K) the shares asked for."""
    shares = []
    for step in steps:
        shares.append(mixer.sampling_weights(step).copy())
        mixer.observe(StepStats(step, *reversed(signals_of(step, k))))
    return np.array(shares)


@pytest.mark.parametrize("name", ["natural", "uniform", "temperature", "odm"])
@settings(max_examples=10, deadline=None)
@given(k=st.integers(1, 6), seed=st.integers(0, 100))
def test_one_group_a_domain_is_the_mixer_itself(name: str, k: int, seed: int) -> None:
    plain, grouped = build_mixer(name, {}), Grouped(build_mixer(name, {}), partition(k, names(k), where=""))
    for mixer in (plain, grouped):
        mixer.start(start_of(names(k), np.random.default_rng(seed)))
    np.testing.assert_allclose(path(grouped, range(STEPS), k), path(plain, range(STEPS), k), rtol=1e-12)


def grouped_acodm() -> Grouped:
    mixer = Grouped(build_mixer("acodm_core.acodm", ACODM), partition(3, names(7), where=""))
    mixer.start(start_of(names(7), np.random.default_rng(0)))
    return mixer


def test_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole, shares, states = grouped_acodm(), [], []
    for step in range(STEPS):
        states.append(whole.state_dict())
        shares.append(path(whole, range(step, step + 1), 7)[0])
    assert len(np.unique(shares, axis=0)) > STEPS // 2, "the mixer moves"
    for cut in (0, 1, 5, STEPS - 1):
        folder = tmp_path / str(cut)
        folder.mkdir()
        checkpoint.save(folder, cut, {"mixer": states[cut]})
        again = grouped_acodm()
        again.load_state_dict(checkpoint.load_latest(folder)["mixer"])
        np.testing.assert_array_equal(path(again, range(cut, STEPS), 7), shares[cut:])
        np.testing.assert_equal(again.diagnostics(), whole.diagnostics())


def test_a_frozen_actor_on_the_same_groups_loads_what_a_grouped_run_saved(tmp_path: Path) -> None:
    learned = grouped_acodm()
    path(learned, range(STEPS), 7)
    learned.save(tmp_path)
    frozen = Grouped(build_mixer("acodm_core.acodm", {"learn": False}), learned.groups)
    assert frozen.required_inputs() == ("actor",)
    start = start_of(names(7), np.random.default_rng(0))
    frozen.start(
        Start(
            domains=start.domains,
            prior=start.prior,
            tokens_available=start.tokens_available,
            total_steps=STEPS,
            rng=start.rng,
            inputs={"actor": tmp_path},
        )
    )
    shares = path(frozen, range(STEPS), 7)
    assert np.isfinite(shares).all() and len(np.unique(shares, axis=0)) > 1
