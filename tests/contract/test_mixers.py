"""Every mixer keeps its promises, by the checks of `acodm check`: a new file in baselines/ is tested by being there."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acodm_core import mixing
from acodm_core.contract import checks
from acodm_core.contract.case import STEPS, Case, case_of, domain_names, places, start
from acodm_core.contract.feed import KINDS, missing, random_signals, step_signals, wanted
from acodm_core.mixers import find as finding
from acodm_core.mixers.find import baseline_names, find_mixer
from acodm_core.mixing import Signal, StepStats

torch.set_num_threads(1)

# Networks so small, and updates so early, that a case learns within its 20 steps and takes a moment.
SMALL = {"hidden_size": 8, "hidden_layers": 1, "minibatch_size": 8, "min_transitions": 4}


def acodm(variant: str = "", **options: Any) -> Case:
    return Case(f"acodm_core.acodm{variant}", SMALL | options)


def from_actor(case: Case) -> Case:
    """The case in proxy mode: it draws by the actor that the case itself leaves behind."""
    return dataclasses.replace(case, options={**case.options, "learn": False}, inputs_of=lambda d: {"actor": case})


# Between them, every value of every option with a fixed set of them (see the test at the end).
ACODM = {
    "acodm": acodm(
        agent="ddpg", reward="descent", shrinkage=True, reward_scale="relative", state_form="relative",
        anchor="objective", warmup=0.2, temperature=1.0,
    ),
    "acodm-instant": acodm(
        agent="ddpg", reward="instant", shrinkage=True, reward_scale="relative", anchor="objective", signal_decay=0.5
    ),
    "acodm-instant-mirror": acodm(agent="mirror", reward="instant", shrinkage=False, reward_scale="raw", anchor="prior"),
    "acodm-literal": acodm(
        agent="ddpg", reward="alignment", shrinkage=False, importance="literal", reward_scale="raw", state_form="paper", warmup=0.0,
        uniform_fraction=0.0, temperature=0.0, anchor="prior", start_at_anchor=False,
    ),
    "acodm-plain-mean": acodm(
        agent="ddpg_mean", reward="alignment", shrinkage=False, reward_scale="raw", uniform_fraction=0.0, temperature=0.0
    ),
    "acodm-sum": acodm(
        agent="ddpg", reward="self", shrinkage=False, importance="sum", reward_scale="running", state_form="released",
        replay_size=5, updates_per_transition=2, anchor="uniform", subtracted_noise=0.01,
    ),
    "acodm-every-3": acodm(
        agent="ddpg", reward="cosine", importance="none", decision_interval=3, warmup=0.3, warmup_mixer="odm",
        warmup_options={"rule": "released"},
    ),
    "acodm-without-state": acodm(agent="ddpg", reward="adam", state_blocks=[], uniform_fraction=0.0, temperature=1.0),
    "acodm-sac": acodm(
        agent="sac", reward="progress", reward_scale="running", state_blocks=["loss", "time"], exploration_noise=(1.0, 1.0)
    ),
    "acodm-frozen": acodm(agent="frozen", state_form="paper", start_at_anchor=False, subtracted_noise=0.01),
    "acodm-mirror": acodm(agent="mirror", reward="released", reward_scale="raw", exploration_noise=(0.1, 0.0)),
    "acodm-bandit": acodm(agent="bandit", reward="descent", reward_scale="raw", decision_interval=3),
    "acodm-random": acodm(agent="random", logit_std=0.35, warmup=0.2, warmup_mixer="odm"),
    "acodm-paper": acodm(".paper"),
    "acodm-released": acodm(".released"),
    "hds": acodm(".hds"),
}  # fmt: skip
ACODM |= {f"{name}-from-actor": from_actor(ACODM[name]) for name in (
    "acodm", "acodm-sac", "acodm-frozen", "acodm-paper", "acodm-released", "hds")}  # fmt: skip

# What a mixer needs beyond its defaults. A mixer that is not here is tested with its defaults alone.
EXTRA = {
    "static": Case("static", options_of=lambda domains: {"weights": {d: 1.0 + i for i, d in enumerate(domains)}}),
    "doremi-release": Case(
        "doremi", {"smoothing": 1e-4, "unseen": 10.8}, inputs_of=lambda domains: {"reference": Case("uniform")}
    ),
    "doge-release": Case("doge", {"mu": 0.05, "smoothing": 0.0}),
    "aioli-release": Case("aioli", {"sweeps": 2, "trial": 1, "measure": 0.7, "memory": 0.1}),
    "chameleon-paper": Case("chameleon", {"rule": "paper", "normalise": True}),
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
    "ado": Case("ado", {"refit": 0.2}),
    "ado-released": Case("ado", {"refit": 0.3, "bound": "released", "credit": 0.0, "floor": 0.0}),
    "pike": Case("pike", {"every": 0.1}),
    "pike-conceptual": Case("pike", {"rule": "conceptual", "uniform_fraction": 0.0}),
    "pike-balanced": Case("pike", {"balance": 3.0, "memory": 0.0}),
    "swarm-of-one-domain": Case("swarm", {"mixture": "one_domain", "member": 0}),
    "regmix": Case(
        "regmix", {"fit": "linear", "draws": 500}, inputs_of=lambda domains: {"swarm": SWARM}
    ),  # trees are slow
    "pike-conceptual-balanced": Case("pike", {"rule": "conceptual", "balance": 1.0, "every": 0.2}),
}
SWARM = tuple(Case("swarm", {"member": i}) for i in range(6))
CASES = {name: case_of(name) for name in baseline_names()} | EXTRA | ACODM
# Whose path hangs on the seed by more than a draw a domain, because networks or random mixtures begin it, or on a place.
UNORDERED = {name for name in ACODM if not name.endswith(("mirror", "bandit", "random"))} | {
    "swarm", "swarm-of-one-domain", "regmix", "opmix"}  # fmt: skip


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_keeps_its_promises(name: str, check: Callable[[Case], None]) -> None:
    asked = {
        checks.stands_alone: CASES[name].mixer in baseline_names(),
        checks.permutes_with_domains: name not in UNORDERED,
    }
    if asked.get(check, True):
        check(CASES[name])
    else:
        with pytest.raises(checks.NotAsked):
            check(CASES[name])


@pytest.mark.parametrize("name", [name for name in CASES if name not in ACODM])
@settings(max_examples=10, deadline=None)
@given(
    k=st.integers(1, 8), seed=st.integers(0, 2**32 - 1), power=st.floats(-12, 6), present=st.floats(0, 1),
    jumps=st.booleans(),
)  # fmt: skip
def test_stays_on_the_simplex_whatever_comes(
    name: str, k: int, seed: int, power: float, present: float, jumps: bool
) -> None:
    rng, mixer = np.random.default_rng(seed), start(CASES[name], domain_names(k))
    for step in range(STEPS):
        checks.decides_well(mixer, step)
        scale = 10.0 ** (rng.uniform(-12, 6) if jumps else power)
        signals, present_K = missing(random_signals(rng, k, scale), rng, present=present)
        mixer.observe(StepStats(step, present_K * 16.0, wanted(signals, mixer, step)))


def test_made_up_sketches_have_the_gram_that_they_sketch() -> None:
    for kind in KINDS:
        signals, present_K = step_signals(kind, 3, 5)
        sketch_KD = signals[Signal.GRAD_SKETCH]
        np.testing.assert_allclose(sketch_KD @ sketch_KD.T, signals[Signal.GRAD_GRAM], rtol=1e-9, atol=1e-12)
        assert set(signals) == set(Signal)
        for name in (signal for signal in signals if signal.info.source.of_batch):
            unknown_K = np.isnan(signals[name]).reshape(5, -1).all(1)
            assert unknown_K[~present_K].all() and (name.info.sequences > 1 or not unknown_K[present_K].any()), name


@pytest.mark.parametrize("name", ["acodm", "acodm-instant", "acodm-sum", "acodm-every-3", "acodm-paper", "hds"])
def test_permuting_domains_permutes_acodm_with_its_networks(name: str) -> None:
    """The weights of first and last layers move with the domains that they belong to; everything else follows."""
    k, domains = 4, domain_names(4)
    there = tuple(domains[i] for i in (2, 0, 3, 1))
    order, options = places(there), {"start_at_anchor": True, "actor_lr": 3e-3, "critic_lr": 3e-3}
    case = dataclasses.replace(CASES[name], options={**CASES[name].options, **options})
    mixer, permuted = start(case, domains), start(case, there)
    agent, other, size = mixer.mixer.agent_, permuted.mixer.agent_, mixer.mixer.tracker_.size
    states = np.concatenate([order, k + order, 2 * k + order, np.arange(3 * k, size)])  # counts, losses, changes, rest
    outputs = np.concatenate([order, k + order])[: k * agent.actor_outputs]
    move_domains(agent.actor.network, other.actor.network, states, outputs)
    of_domains = order if agent.replay.rows.reward.shape[1] == k else np.zeros(1, int)
    for mine, theirs in zip(agent.critic.networks, other.critic.networks, strict=True):
        move_domains(mine, theirs, np.concatenate([states, size + order]), of_domains)
    for name in ("actor", "critic"):
        if hasattr(other, f"target_{name}"):  # the soft agent has no target actor
            getattr(other, f"target_{name}").load_state_dict(getattr(other, name).state_dict())
    if agent.actor_outputs == 2:  # the soft agent's own noise moves with the domains, too; the mixer's already did
        plain = other.noise
        other.noise = lambda size: plain(size)[:, order]
    before = agent.actor.network[-1].weight.detach().clone()
    assert checks.paths_apart(mixer, permuted, domains, there, rtol=0, atol=1e-4) == ""
    assert not torch.equal(agent.actor.network[-1].weight, before), "the networks learned, so the test says something"


@torch.no_grad()
def move_domains(
    mine: torch.nn.Sequential, theirs: torch.nn.Sequential, inputs: np.ndarray, outputs: np.ndarray
) -> None:
    """Make ``theirs`` the network ``mine`` with its inputs and outputs in another order."""
    theirs.load_state_dict(mine.state_dict())
    theirs[0].weight.copy_(mine[0].weight[:, inputs])
    for name in ("weight", "bias"):
        getattr(theirs[-1], name).copy_(getattr(mine[-1], name)[outputs])


def test_cases_cover_every_value_of_acodms_options() -> None:
    """A value that is added to an option without a case here fails."""
    hints = typing.get_type_hints(find_mixer("acodm_core.acodm"))
    closed = {name: typing.get_args(hint) for name, hint in hints.items() if typing.get_origin(hint) is typing.Literal}
    assert {"agent", "reward", "importance", "reward_scale", "state_form", "anchor"} <= set(closed)
    closed |= {name: (False, True) for name, hint in hints.items() if hint is bool}
    assert {"learn", "shrinkage", "start_at_anchor"} <= set(closed)
    for option, values in closed.items():
        covered = {getattr(case.build(domain_names(3)), option) for case in ACODM.values()}
        assert covered == set(values), option


def test_the_template_keeps_them_too() -> None:
    case = Case("acodm_baselines._template")
    assert [finding for finding in checks.examine(case) if not finding.kept] == []


@dataclasses.dataclass
class WithModule(mixing.Mixer):
    """Its state is a torch module and the optimiser that moves it."""

    def start(self, start: mixing.Start) -> None:
        self.module_ = torch.nn.utils.skip_init(torch.nn.Linear, 2, 2)
        torch.nn.init.ones_(self.module_.weight)
        self.optimiser_ = torch.optim.Adam([self.module_.weight], lr=0.1, fused=True)

    def sampling_weights(self, step: int) -> np.ndarray:
        return mixing.softmax(self.module_.weight[0].detach().double().numpy())

    def observe(self, stats: StepStats) -> None:
        self.module_.weight.grad = torch.tensor([[1.0, -2.0], [0.0, 1.0]]) * (stats.step + 1)
        self.optimiser_.step()


def test_the_state_of_torch_modules_and_optimisers_is_copied_where_it_is_saved_and_where_it_is_loaded() -> None:
    def path(mixer: WithModule, first: int) -> list[np.ndarray]:
        shown = []
        for step in range(first, 6):
            shown.append(mixer.sampling_weights(step))
            mixer.observe(StepStats(step, np.ones(2), {}))
        return shown

    one, two, three = WithModule(), WithModule(), WithModule()
    for mixer in (one, two, three):
        mixer.start(None)
    one.observe(StepStats(0, np.ones(2), {}))
    kept = one.state_dict()
    expected = path(one, 1)
    for again in (two, three):  # the second from what the first one began with, too
        again.load_state_dict(kept)
        np.testing.assert_array_equal(path(again, 1), expected)


def test_undeclared_signal_says_what_to_add() -> None:
    stats = StepStats(3, np.ones(2), {Signal.LOSS: np.ones(2)})
    with pytest.raises(KeyError, match=r"add Signal\.GRAD_GRAM to `needs`"):
        stats[Signal.GRAD_GRAM]


@pytest.mark.parametrize("name", CASES)
def test_a_mixer_says_which_others_it_builds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or an edit of ODM would leave the runs that warm up with it under their old names."""
    case, domains = CASES[name], domain_names(3)
    stages = [
        stage
        for given in case.inputs_of(domains).values()
        for stage in (given if isinstance(given, tuple) else (given,))
    ]
    built, find = set(), finding.find_mixer
    monkeypatch.setattr(finding, "find_mixer", lambda name, **where: built.add(name) or find(name, **where))
    mixer = start(case, domains)
    declared = {case.mixer, *mixer.mixer.built_mixers()}
    assert declared <= built <= declared | {stage.mixer for stage in stages if isinstance(stage, Case)}
