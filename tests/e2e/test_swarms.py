"""Methods with swarms, really trained on a small corpus: the swarm's runs, then what reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from acodm_core.errors import UserError
from acodm_core.files import read_json
from acodm_core.lm.overhead import PLAIN, Arms, plain_arm
from acodm_core.lm.train import Trainer
from acodm_core.mixers.find import find_mixer
from acodm_core.mixers.guarded import MixerError
from acodm_core.study.planner import Plan, RunSpec, plan

COUNTED = "words"  # the domain that the methods are compared by, so that the best mixture is known: all of it
METHODS = {"regmix_swarm": {"members": 8}, "regmix": {"options": {"draws": 1000, "best": 10}}}


@pytest.fixture(scope="module")
def planned(experiment_of) -> Plan:
    compare, target = ["uniform", "regmix", "skillit"], {"objective_weights": {COUNTED: 1}}
    return plan(experiment_of(compare=compare, methods=METHODS, evaluation=target))


@pytest.fixture(scope="module")
def runs(planned: Plan, corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder below which every planned run is finished, trained in the order of the plan."""
    root = tmp_path_factory.mktemp("swarms")
    for spec in planned.runs.values():
        assert trainer(spec, corpus, root, root / spec.run).run() == "finished"
    return root


def trainer(spec: RunSpec, corpus, runs: Path, folder: Path) -> Trainer:
    return Trainer(spec, corpus, folder, spec.input_folders(runs))


def only(planned: Plan, method: str) -> RunSpec:
    (spec,) = [spec for spec in planned.runs.values() if spec.method == method]
    return spec


def shares(folder: Path) -> pd.DataFrame:
    """(T, K) what the run asked for."""
    mixture = pd.read_parquet(folder / "mixture.parquet")
    return mixture.pivot(index="step", columns="domain", values="requested")


def final_loss(folder: Path) -> float:
    metrics = pd.read_parquet(folder / "metrics.parquet").query("split == 'test' and metric == 'loss'")
    return metrics.set_index("domain").value[COUNTED]


def test_every_run_of_a_swarm_keeps_to_its_mixture_and_saves_it_with_its_losses(planned: Plan, runs: Path) -> None:
    folders = only(planned, "regmix").input_folders(runs)["swarm"]
    assert len(folders) == 8
    seen = []
    for folder in folders:
        saved, drawn = read_json(folder / "member.json"), shares(folder)
        assert len(drawn) == 10 and (drawn == pd.Series(saved["weights"])[drawn.columns].to_numpy()).all(axis=None)
        assert all(0 < loss < 10 for loss in saved["final"].values())
        seen.append(tuple(saved["weights"].values()))
    assert len(set(seen)) == 8


def test_regmix_finds_the_domain_that_counts(planned: Plan, runs: Path) -> None:
    drawn = shares(runs / only(planned, "regmix").run)
    assert (drawn == drawn.iloc[0]).all(axis=None) and drawn[COUNTED].iloc[0] > 0.6
    assert final_loss(runs / only(planned, "regmix").run) < final_loss(runs / only(planned, "uniform").run) - 0.1


def test_skillit_draws_what_teaches_the_domain_that_counts(planned: Plan, runs: Path) -> None:
    folders = only(planned, "skillit").input_folders(runs)["graph"]
    graph = [read_json(folder / "member.json") for folder in folders]
    domains = list(planned.runs[next(iter(planned.runs))].domains)
    assert [one["weights"] for one in graph] == [{d: float(d == alone) for d in domains} for alone in domains]
    lowered = [max(0.0, 1 - one["final"][COUNTED] / one["initial"][COUNTED]) for one in graph]
    effect = dict(zip(domains, lowered, strict=True))
    assert max(effect, key=effect.get) == COUNTED
    drawn = shares(runs / only(planned, "skillit").run)
    # K w is 4 on the domain that counts and 0 elsewhere; before the first look its loss stands at 1.
    logits = np.array([0.2 * 4 * effect[domain] for domain in drawn.columns])
    np.testing.assert_allclose(drawn.iloc[0], np.exp(logits) / np.exp(logits).sum())
    assert drawn[COUNTED].iloc[-1] > drawn[COUNTED].iloc[0] > 0.25


def test_only_the_looks_at_held_out_losses_are_charged(planned: Plan, runs: Path) -> None:
    flops = {run: read_json(runs / run / "manifest.json")["method_flops"] for run in planned.runs}
    (regmix, skillit), look = (only(planned, name) for name in ("regmix", "skillit")), {}
    for name, spec in (("swarm", regmix), ("graph", skillit)):
        (look[name],) = {flops[run] for run in spec.inputs[name]}
    assert look["graph"] == 2 * look["swarm"] > 0  # one run of a graph looks twice
    assert flops[regmix.run] == 0 and flops[skillit.run] == 19 * look["swarm"]


@pytest.mark.parametrize("method", ["regmix", "skillit", "skillit_graph"])
def test_a_killed_run_continues_to_the_same_bytes(
    method: str, planned: Plan, runs: Path, corpus, tmp_path: Path, monkeypatch
) -> None:
    spec = next(spec for spec in planned.runs.values() if spec.method == method)
    mixer = find_mixer(spec.mixer)
    last, observe = spec.training.steps - 2, mixer.observe

    def killed(self, stats) -> None:
        if stats.step == last:
            raise RuntimeError("stop here")
        observe(self, stats)

    with monkeypatch.context() as patch, pytest.raises(MixerError, match="stop here"):
        patch.setattr(mixer, "observe", killed)
        trainer(spec, corpus, runs, tmp_path).run()
    assert trainer(spec, corpus, runs, tmp_path).run() == "finished"
    for name in ("mixture.parquet", "metrics.parquet", *(["member.json"] if method == "skillit_graph" else [])):
        assert (tmp_path / name).read_bytes() == (runs / spec.run / name).read_bytes(), f"{name} differs"


def test_the_manifest_lists_the_runs_that_were_read(planned: Plan, runs: Path) -> None:
    spec = only(planned, "regmix")
    listed = read_json(runs / spec.run / "manifest.json")["inputs"]["swarm"]
    assert listed == [str(runs / run) for run in spec.inputs["swarm"]]


def test_the_probe_runs_with_a_swarm_and_one_of_its_runs(planned: Plan, runs: Path, corpus) -> None:
    chosen = {method: planned.runs[run] for (method, _), run in planned.probed().items()}
    assert set(chosen) == {"uniform", "regmix", "regmix_swarm", "skillit", "skillit_graph"}
    inputs = {method: spec.input_folders(runs) for method, spec in chosen.items()}
    arms = Arms({PLAIN: plain_arm(chosen["uniform"])} | chosen, corpus, inputs, "cpu")
    seconds = {arm: arms.block(arm, 12)["step"] for arm in arms.mixers}  # past the horizon of a swarm's run
    assert all(value > 0 for value in seconds.values())


def test_a_swarm_where_one_run_belongs_is_refused_by_hand_too(planned: Plan, runs: Path, corpus, experiment_of) -> None:
    spec = only(plan(experiment_of(compare=["uniform", "doremi"])), "doremi_proxy")
    two = {"reference": only(planned, "regmix").input_folders(runs)["swarm"][:2]}
    with pytest.raises(UserError, match="reference"):
        Trainer(spec, corpus, runs / "refused", two)
