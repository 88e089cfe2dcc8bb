"""Swarms: a role that many runs play, from the configuration to the folders that a mixer reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fake_results
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from acodm_analysis import cost
from acodm_analysis.core import costs
from acodm_core import cli
from acodm_core.errors import UserError
from acodm_core.files import read_json
from acodm_core.mixing import Start, read_swarm, save_member
from acodm_core.results.reader import Results
from acodm_core.study.config import load_experiment
from acodm_core.study.planner import Plan, RunSpec, plan

PRESETS = Path(__file__).parents[3] / "workflow" / "config"
DOMAINS = ["bible", "speeches", "dialogue"]
BASE = {
    "experiment": "try",
    "seeds": [0, 1],
    "corpus": {"name": "small", "domains": DOMAINS, "tokenizer": {"vocab_size": 512}},
    "training": {"steps": 40},
    "methods": {"regmix_swarm": {"members": 3}},
    "compare": ["natural", "regmix", "skillit"],
}


def planned(*overlays: dict[str, Any]) -> Plan:
    return plan(load_experiment(BASE, *overlays))


def of(found: Plan, method: str, seed: int = 0) -> list[RunSpec]:
    return [spec for spec in found.runs.values() if (spec.method, spec.seed) == (method, seed)]


# --- the plan ---


def test_a_swarm_is_as_many_runs_as_it_has_members_each_with_its_number() -> None:
    found = planned()
    swarm = of(found, "regmix_swarm", seed=1)
    assert [spec.options["member"] for spec in swarm] == [0, 1, 2]
    assert [re.fullmatch(r"regmix_swarm\.(\d\d)-s1-[0-9a-f]{10}", spec.run)[1] for spec in swarm] == ["00", "01", "02"]
    assert {(spec.training.steps, spec.model_name) for spec in swarm} == {(10, "cpu-nano")}
    (regmix,) = of(found, "regmix", seed=1)
    assert regmix.inputs == {"swarm": tuple(spec.run for spec in swarm)}
    assert found.ancestors(regmix.run) == list(regmix.inputs["swarm"])
    order = list(found.runs)
    assert max(map(order.index, regmix.inputs["swarm"])) < order.index(regmix.run)


def test_one_run_a_domain_or_one_a_group_of_domains() -> None:
    assert [spec.options["member"] for spec in of(planned(), "skillit_graph")] == [0, 1, 2]
    grouped = planned({"methods": {"skillit_graph": {"groups": 2}, "skillit": {"groups": 2}}})
    assert len(of(grouped, "skillit_graph")) == 2


def test_methods_that_name_one_swarm_share_its_runs() -> None:
    linear = {"mixer": "regmix", "options": {"fit": "linear"}, "inputs": {"swarm": "regmix_swarm"}}
    both = planned({"methods": {"linear": linear}, "compare": ["natural", "regmix", "linear"]})
    ((regmix,), (other,)) = of(both, "regmix"), of(both, "linear")
    assert regmix.inputs == other.inputs and len(of(both, "regmix_swarm")) == 3


def test_a_swarm_that_grows_keeps_the_runs_that_it_has() -> None:
    grown = planned({"methods": {"regmix_swarm": {"members": 5}}})
    assert {spec.run for spec in of(planned(), "regmix_swarm")} < {spec.run for spec in of(grown, "regmix_swarm")}
    assert of(planned(), "regmix")[0].run not in grown.runs


def test_the_probe_times_one_run_of_a_swarm() -> None:
    found = planned()
    swarm = {spec.run for seed in (0, 1) for spec in of(found, "regmix_swarm", seed)}
    assert len(swarm & set(found.probed().values())) == 1
    assert {method for method, _ in found.probed()} == {"natural", "regmix", "regmix_swarm", "skillit", "skillit_graph"}


def test_a_spec_with_a_swarm_survives_json() -> None:
    (spec,) = of(planned(), "regmix")
    again = RunSpec.model_validate_json(spec.model_dump_json())
    assert again == spec and again.run == spec.run


def test_a_run_has_the_same_name_on_every_machine() -> None:
    """Finished runs lie in folders of these names. A changed digest here means that every run is trained again."""
    spec = plan(load_experiment(PRESETS / "quick.yaml")).runs
    names = {
        one.method: one.model_copy(update={"code": "", "corpus": ""}).digest for one in spec.values() if one.seed == 0
    }
    assert names["natural"] == "31ed9d1417"


WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a swarm is compared": (
        {"compare": ["natural", "regmix_swarm"]},
        ["compare[1]:", "'regmix_swarm' is a swarm", "inputs: {ROLE: regmix_swarm}"],
    ),
    "an axis varies a swarm": (
        {"axes": {"size": {"title": "Size", "of": "regmix_swarm", "values": {"8": {"members": 8}}}}},
        ["axes.size.of:", "'regmix_swarm' is a swarm"],
    ),
    "a single run where a swarm belongs": (
        {"methods": {"regmix": {"inputs": {"swarm": "uniform"}}}},
        ["methods.regmix.inputs.swarm:", "reads a swarm", "'uniform' is a single run", "regmix_swarm, skillit_graph"],
    ),
    "a swarm where a single run belongs": (
        {"methods": {"doge": {"inputs": {"weights": "regmix_swarm"}}}, "compare": ["natural", "doge"]},
        ["methods.doge.inputs.weights:", "reads one run", "'regmix_swarm' is a swarm", "without `members`"],
    ),
    "no swarm at all": (
        {"methods": {"mine": {"mixer": "regmix"}}, "compare": ["natural", "mine"]},
        ["methods.mine.inputs:", "'swarm'", "inputs: {swarm: "],
    ),
    "a mixer that has no number": (
        {"methods": {"regmix_swarm": {"mixer": "uniform"}}},
        ["methods.regmix_swarm.members:", "'member'", "mixer 'uniform' takes no"],
    ),
    "a number of one's own": (
        {"methods": {"regmix_swarm": {"options": {"member": 3}}}},
        ["methods.regmix_swarm.members:", "already has it"],
    ),
    "more runs than domains": (
        {"methods": {"skillit_graph": {"members": 4}}},
        ["methods.skillit_graph.options.member:", "number 3", "members: domains"],
    ),
    "no member": ({"methods": {"regmix_swarm": {"members": 0}}}, ["methods.regmix_swarm.members:", "0"]),
    "another word": ({"methods": {"regmix_swarm": {"members": "all"}}}, ["methods.regmix_swarm.members", "domains"]),
}


@pytest.mark.parametrize(("overlay", "parts"), WRONG.values(), ids=WRONG)
def test_mistakes_say_where_and_what_to_type(overlay: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(UserError) as error:
        planned(overlay)
    assert [part for part in parts if part not in str(error.value)] == []


def test_the_listed_plan_names_a_swarm_by_its_ends(tmp_path: Path) -> None:
    config = tmp_path / "try.yaml"
    config.write_text(json.dumps(BASE))
    lines = CliRunner().invoke(cli.app, ["plan", str(config), "--write", str(tmp_path)]).stdout.splitlines()
    first, last = (spec.run for spec in of(planned(), "regmix_swarm")[::2])
    (line,) = [line for line in lines if line.startswith("regmix-s0")]
    assert line.endswith(f"after {first} to {last}")
    assert read_json(tmp_path / "results/runs" / first / "spec.json")["options"]["member"] == 0


# --- folders ---


def started(**inputs: Path | tuple[Path, ...]) -> Start:
    return Start(
        domains=("a", "b"),
        prior=np.full(2, 0.5),
        tokens_available=np.full(2, 1e3),
        total_steps=10,
        rng=np.random.default_rng(0),
        inputs=inputs,
    )


def test_a_role_is_one_folder_or_many() -> None:
    one, two = Path("one"), Path("two")
    assert started(actor=one).input("actor") == one
    assert started(swarm=(one, two)).swarm("swarm") == (one, two)
    assert started(swarm=one).swarm("swarm") == (one,), "by hand, a swarm of one is one --input"
    with pytest.raises(UserError, match="'actor' is one run, and got 2"):
        started(actor=(one, two)).input("actor")
    for ask in (started().input, started().swarm):
        with pytest.raises(UserError, match=r"inputs: \{actor: NAME_OF_A_METHOD\}"):
            ask("actor")


def test_an_input_that_is_given_twice_is_a_swarm() -> None:
    read = cli._inputs(["swarm=a/0", "actor=b=c", "swarm=a/1"])
    assert read == {"swarm": (Path("a/0"), Path("a/1")), "actor": Path("b=c")}
    with pytest.raises(UserError, match="ROLE=FOLDER"):
        cli._inputs(["swarm"])


def test_what_members_saved_is_read_in_the_readers_order_of_domains(tmp_path: Path) -> None:
    for i in range(2):
        (tmp_path / str(i)).mkdir()
        save_member(tmp_path / str(i), ("a", "b"), {"weights": np.array([i, 1 - i]), "final": np.array([2.5, np.nan])})
    folders = (tmp_path / "0", tmp_path / "1")
    weight_NK, final_NK = read_swarm(folders, ("b", "a"), "weights", "final")
    np.testing.assert_array_equal(weight_NK, [[1, 0], [0, 1]])
    np.testing.assert_array_equal(final_NK, [[np.nan, 2.5]] * 2)
    for domains, name, missing in [(("a", "c"), "final", "'c'"), (("a", "b"), "initial", "'initial'")]:
        with pytest.raises(UserError, match=f"nothing for {missing}"):
            read_swarm(folders, domains, name)
    with pytest.raises(UserError, match="not a run of a swarm"):
        read_swarm((tmp_path,), ("a", "b"), "final")


# --- cost ---


def test_every_run_of_a_swarm_is_charged_and_they_are_one_phase(tmp_path: Path) -> None:
    results = Results(fake_results.make(tmp_path / "canned", seeds=2))
    one, runs = costs.per_run(results).set_index("run"), results.runs.copy()
    second = runs[runs.method == "acodm_proxy_run"].assign(run=["second-s0", "second-s1"])
    names = [json.dumps([f"acodm_proxy_run-s{seed}", f"second-s{seed}"]) for seed in (0, 1)]
    runs.loc[runs.method == "acodm_proxy", "ancestors"] = names
    both = Results(results.folder)
    both.__dict__ |= {"runs": pd.concat([runs, second], ignore_index=True), "metrics": results.metrics}
    row = costs.per_run(both).set_index("run").loc["acodm_proxy-s1"]
    for currency in ("steps", "tokens", "flops", "seconds"):
        assert row[f"{currency}_upfront"] == pytest.approx(2 * one.loc["acodm_proxy-s1", f"{currency}_upfront"])
    bars = cost.bars(both).query("method == 'acodm_proxy' and currency == 'flops' and phase != 'target'")
    assert bars.phase.tolist() == ["acodm_proxy_run"]
    assert bars.cost.item() == pytest.approx(row["flops_upfront"])
