"""Every mistake in a configuration is a UserError with the YAML path, the value and the valid names; and plans are pure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from acodm_core.data.catalogue import load_catalogue
from acodm_core.errors import UserError
from acodm_core.mixing import baseline_names
from acodm_core.study.config import Experiment, load_experiment, load_yaml, merge
from acodm_core.study.planner import Plan, RunSpec, plan, read_experiment

PRESETS = sorted((Path(__file__).parents[2] / "workflow" / "config").glob("*.yaml"))
DOMAINS = ["bible", "speeches", "dialogue"]
BASE = {
    "experiment": "try",
    "seeds": [0, 1],
    "corpus": {"name": "small", "domains": DOMAINS, "tokenizer": {"vocab_size": 512}},
    "compare": ["natural", "uniform", "odm", "acodm", "acodm_proxy"],
}


def planned(*overlays: dict[str, Any]) -> Plan:
    return plan(load_experiment(BASE, *overlays))


def mine(mixer: str = "static", /, **options: Any) -> dict[str, Any]:
    """A method of one's own, compared with natural."""
    return {"methods": {"mine": {"mixer": mixer, "options": options}}, "compare": ["natural", "mine"]}


def inputs(**of: str) -> dict[str, Any]:
    """Methods whose input is another: ``inputs(a="b")``; the first is compared."""
    return {
        "methods": {name: {"mixer": "static", "inputs": {"weights": other}} for name, other in of.items()},
        "compare": ["natural", next(iter(of))],
    }


FIELDS = ", ".join(sorted(Experiment.model_fields))
# overlay, what the message must contain: the path, the value, and the valid names
MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown key": ({"sedes": [1]}, ["sedes:", "'sedes'", "did you mean 'seeds'", FIELDS]),
    "unknown nested key": ({"training": {"stesp": 5}}, ["training.stesp:", "'stesp'", "did you mean 'steps'", "batch"]),
    "unknown key of a method": (
        {"methods": {"odm": {"option": {}}}},
        ["methods.odm.option:", "'option'", "'options'", "inputs", "mixer"],
    ),
    "unknown key of a model": (
        {"models": {"cpu-mini": {"rate": 1}}},
        ["models.cpu-mini.rate:", "'rate'", "gradient_layers"],
    ),
    "unknown key of the corpus": (
        {"corpus": {"nmae": "x"}},
        ["corpus.nmae:", "'nmae'", "did you mean 'name'", "split_seed"],
    ),
    "unknown key of the tokenizer": (
        {"corpus": {"tokenizer": {"vocab": 512}}},
        ["corpus.tokenizer.vocab:", "'vocab'", "vocab_size"],
    ),
    "unknown key of a domain": (
        {"corpus": {"domains": {"mine": {"from": "files", "path": ["x"]}}}},
        ["corpus.domains.mine.", "path"],
    ),
    "unknown method": (
        {"compare": ["natural", "ucform"]},
        ["compare[1]:", "'ucform'", "did you mean 'uniform'", *baseline_names()],
    ),
    "unknown method as input": (
        {"methods": {"acodm_proxy": {"inputs": {"actor": "acodm_proxy_rum"}}}},
        ["methods.acodm_proxy.inputs.actor:", "'acodm_proxy_rum'", "did you mean 'acodm_proxy_run'"],
    ),
    "unknown mixer": (
        mine("oddm"),
        ["methods.mine.mixer:", "'oddm'", "did you mean 'odm'", *baseline_names()],
    ),
    "unknown module": (
        mine("no_such_package.mixer"),
        ["methods.mine.mixer:", "'no_such_package.mixer'"],
    ),
    "unknown option": (
        {"methods": {"odm": {"options": {"apha": 0.5}}}},
        ["methods.odm.options.apha:", "'apha'", "did you mean 'alpha'", "rule", "warmup"],
    ),
    "option out of range": (
        {"methods": {"odm": {"options": {"alpha": 1.5}}}},
        ["methods.odm.options", "1.5", "alpha", "[0, 1)"],
    ),
    "option of a wrong name": (
        {"methods": {"odm": {"options": {"rule": "papre"}}}},
        ["methods.odm.options.rule:", "'papre'", "paper", "released", "exp3"],
    ),
    "option of a wrong type": (
        {"methods": {"acodm": {"options": {"hidden": "big"}}}},
        ["methods.acodm.options.hidden:", "'big'", "integer"],
    ),
    "option that is not a pair": (
        {"methods": {"acodm": {"options": {"noise": 0.3}}}},
        ["methods.acodm.options.noise:", "0.3"],
    ),
    "unknown domain": (
        {"corpus": {"domains": ["bibel"]}},
        ["corpus.domains:", "'bibel'", "did you mean 'bible'", "speeches"],
    ),
    "unknown domain in a cap": (
        {"corpus": {"max_megabytes": {"bibel": 1.0}}},
        ["max_megabytes", "'bibel'", "did you mean 'bible'"],
    ),
    "unknown model": (
        {"roles": {"target": "cpu-mimi"}},
        ["roles.target:", "'cpu-mimi'", "did you mean 'cpu-mini'", "pythia-1b"],
    ),
    "unknown role": (
        {"methods": {"odm": {"model": "proxi"}}},
        ["methods.odm.model:", "'proxi'", "did you mean 'proxy'", "target"],
    ),
    "missing input": (mine(), ["methods.mine.inputs:", "'weights'", "inputs: {weights: "]),
    "input that the mixer does not take": (
        {"methods": {"odm": {"inputs": {"actor": "uniform"}}}},
        ["methods.odm.inputs.actor:", "unknown input of mixer 'odm'", "none"],
    ),
    "cycle": (
        inputs(a="b", b="a"),
        ["methods.", ".inputs:", "a -> b -> a"],
    ),
    "input of itself": (
        inputs(a="a"),
        ["methods.a.inputs:", "a -> a"],
    ),
    "weight for an unknown domain": (
        mine(weights={"bible": 1, "speeches": 1, "dialog": 1}),
        ["methods.mine.options.weights:", "dialogue", "dialog"],
    ),
    "negative weight": (
        mine(weights={"bible": 1, "speeches": -2, "dialogue": 1}),
        ["methods.mine.options.weights:", "-2"],
    ),
    "all weights zero": (
        mine(weights=dict.fromkeys(DOMAINS, 0)),
        ["methods.mine.options.weights:", "not all zero"],
    ),
    "weight that is no number": (
        mine(weights={"bible": 1, "speeches": "much", "dialogue": 1}),
        ["methods.mine.options.weights", "much"],
    ),
    "weights that are no mapping": (
        mine(weights=3),
        ["methods.mine.options.weights:", "3"],
    ),
    "weights and file": (
        mine(weights={"bible": 1}, file="w.json"),
        ["methods.mine.options", "not both"],
    ),
    "file of weights missing": (
        mine(file="/nowhere/w.json"),
        ["methods.mine.options.file:", "/nowhere/w.json"],
    ),
    "wrong type": ({"training": {"steps": "many"}}, ["training.steps:", "'many'", "integer"]),
    "list where a number belongs": ({"training": {"lr": [1]}}, ["training.lr:", "'lr'"]),
    "not a list": ({"compare": "uniform"}, ["compare:", "'uniform'", "list"]),
    "compare is a number": ({"compare": 5}, ["compare:", "5", "list"]),
    "compare holds a list": ({"compare": [["natural"]]}, ["compare.0:", "natural", "string"]),
    "methods is a list": ({"methods": ["odm"]}, ["methods:", "odm", "dictionary"]),
    "method is a word": ({"methods": {"odm": "fast"}}, ["methods.odm:", "'fast'"]),
    "out of range": ({"training": {"batch": 0}}, ["training.batch:", "0", "greater than 0"]),
    "one of three": (
        {"training": {"schedule": "linear"}},
        ["training.schedule:", "'linear'", "cosine", "wsd", "constant"],
    ),
    "micro-batch does not divide": ({"training": {"batch": 16, "micro_batch": 5}}, ["training", "5", "16"]),
    "vocabulary too small": (
        {"corpus": {"tokenizer": {"vocab_size": 3}}},
        ["corpus.tokenizer.vocab_size:", "3", "257"],
    ),
    "no seeds": ({"seeds": []}, ["seeds:", "[]"]),
    "seed twice": ({"seeds": [0, 1, 0]}, ["seeds:", "[0, 1, 0]"]),
    "method twice": ({"compare": ["natural", "odm", "odm"]}, ["compare:", "'odm'"]),
    "nothing compared": ({"compare": []}, ["compare:", "[]"]),
    "baseline not compared": ({"baseline": "temperature"}, ["baseline:", "'temperature'", "natural, uniform, odm"]),
    "name with a slash": ({"experiment": "a/b"}, ["experiment:", "'a/b'"]),
    "nothing named": ({"experiment": None}, ["experiment:", "None"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_shown_with_path_value_and_valid_names(name: str) -> None:
    overlay, expected = MISTAKES[name]
    with pytest.raises(UserError) as error:
        planned(overlay)
    text = str(error.value)
    for part in expected:
        assert part in text, f"{part!r} is not in:\n{text}"
    assert len(text.splitlines()) <= 6 and "pydantic" not in text


def test_missing_section() -> None:
    with pytest.raises(UserError, match=r"corpus: .*required"):
        load_experiment({k: v for k, v in BASE.items() if k != "corpus"})


def test_no_target() -> None:
    experiment = load_experiment(BASE)
    with pytest.raises(UserError, match="target: NAME_OF_A_MODEL"):
        plan(experiment.model_copy(update={"roles": {"proxy": "cpu-nano"}}))


@pytest.mark.parametrize(("text", "expected"), [("a: [1", "not valid YAML"), ("- 1", "mapping"), ("", "mapping")])
def test_file_that_is_no_mapping(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=expected) as error:
        load_experiment(path)
    assert str(path) in str(error.value)
    with pytest.raises(UserError, match="not found"):
        load_yaml(tmp_path / "absent.yaml")


def test_the_program_prints_the_mistake_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(merge(BASE, {"training": {"stesp": 5}})))
    done = subprocess.run([sys.executable, "-m", "acodm_core.cli", "plan", str(path)], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("acodm: training.stesp: ") and "Traceback" not in done.stderr


# --- presets and plans ---


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_shipped_preset_plans(preset: Path) -> None:
    experiment = load_experiment(preset)
    found = plan(experiment)
    assert experiment.experiment == preset.stem
    assert list(found.compared) == experiment.compare
    assert all(len(runs) == len(experiment.seeds) for runs in found.compared.values())
    for name, spec in found.runs.items():
        assert spec.run == name and set(spec.inputs.values()) <= set(found.runs)
        position = list(found.runs)
        assert all(position.index(needed) < position.index(name) for needed in spec.inputs.values())


def test_there_are_presets() -> None:
    assert {"quick", "smoke"} <= {preset.stem for preset in PRESETS}


def test_every_shipped_method_and_baseline_plans() -> None:
    methods = load_yaml(Path(sys.modules["acodm_core.study.config"].__file__).with_name("methods.yaml"))
    ready = [name for name in methods if name != "static"]
    assert set(baseline_names()) - {"static"} <= {entry["mixer"] for entry in methods.values()}
    found = planned({"compare": ready})
    assert set(found.compared) == set(ready)


def test_method_named_only_in_compare_works() -> None:
    methods = load_yaml(Path(sys.modules["acodm_core.study.config"].__file__).with_name("methods.yaml"))
    dotted = "acodm_baselines.uniform"
    assert dotted not in methods
    found = planned({"compare": ["natural", dotted]})
    (run, _) = found.compared[dotted]
    assert found.runs[run].mixer == dotted and found.runs[run].options == {}


def test_inputs_are_shared_runs_on_the_same_seed() -> None:
    again = {
        "mixer": "acodm_core.acodm",
        "options": {"learn": False, "floor": 0.1},
        "inputs": {"actor": "acodm_proxy_run"},
    }
    found = planned({"methods": {"again": again}, "compare": ["natural", "acodm_proxy", "again"]})
    proxies = [name for name, spec in found.runs.items() if spec.method == "acodm_proxy_run"]
    assert len(proxies) == 2
    for method in ("acodm_proxy", "again"):
        for run in found.compared[method]:
            (proxy,) = found.ancestors(run)
            assert proxy in proxies and found.runs[proxy].seed == found.runs[run].seed
            assert found.runs[proxy].model_name == "cpu-nano" and found.runs[run].model_name == "cpu-mini"


def of(found: Plan, *methods: str) -> set[str]:
    return {name for name, spec in found.runs.items() if spec.method in methods}


def changed(overlay: dict[str, Any]) -> set[str]:
    """Methods whose runs are not the same after the change."""
    before, after = planned(), planned(overlay)
    names = {spec.method for spec in [*before.runs.values(), *after.runs.values()]}
    return {name for name in names if of(before, name) != of(after, name)}


EVERY = {"natural", "uniform", "odm", "acodm", "acodm_proxy", "acodm_proxy_run"}


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        ({"methods": {"odm": {"options": {"alpha": 0.5}}}}, {"odm"}),
        ({"methods": {"acodm": {"options": {"xi": 0.5}}}}, {"acodm"}),
        ({"methods": {"acodm_proxy_run": {"options": {"xi": 0.5}}}}, {"acodm_proxy_run", "acodm_proxy"}),
        ({"methods": {"acodm_proxy": {"options": {"floor": 0.5}}}}, {"acodm_proxy"}),
        ({"models": {"cpu-nano": {"lr": 1e-4}}}, {"acodm_proxy_run", "acodm_proxy"}),
        ({"roles": {"target": "cpu-mini", "proxy": "pythia-14m"}}, {"acodm_proxy_run", "acodm_proxy"}),
        ({"methods": {"odm": {"title": "Another name"}}}, set()),
        ({"resources": {"threads": 8, "gpus": 1}}, set()),
        ({"probe": {"blocks": 4}}, set()),
        ({"baseline": "uniform"}, set()),
        ({"experiment": "renamed"}, set()),
        ({"models": {"pythia-1b": {"lr": 1e-4}}}, set()),
        ({"models": {"cpu-mini": {"lr": 1e-4}}}, {"natural", "uniform", "odm", "acodm", "acodm_proxy"}),
        ({"training": {"steps": 17}}, EVERY),
        ({"training": {"schedule": "wsd"}}, EVERY),
        ({"evaluation": {"valid_sequences": 3}}, EVERY),
        ({"corpus": {"split_seed": 1}}, EVERY),
        ({"corpus": {"domains": DOMAINS[:2]}}, EVERY),
    ],
    ids=str,
)
def test_a_change_changes_its_own_runs_and_their_dependants(overlay: dict[str, Any], expected: set[str]) -> None:
    assert changed(overlay) == expected


def test_more_seeds_and_methods_leave_the_old_runs() -> None:
    before = planned()
    after = planned({"seeds": [0, 1, 2], "compare": [*BASE["compare"], "temperature"]})
    assert set(before.runs) < set(after.runs)
    assert of(after, "odm") - of(before, "odm") == {name for name in of(after, "odm") if "-s2-" in name}


DIGEST = """
import json, sys
from acodm_core.study.config import load_experiment
from acodm_core.study.planner import plan
print("\\n".join(plan(load_experiment(json.loads(sys.stdin.read()))).runs))
"""


def reordered(value: Any) -> Any:
    """The same configuration with every dictionary in reverse order."""
    if isinstance(value, dict):
        return {key: reordered(item) for key, item in reversed(value.items())}
    return value


def test_names_of_runs_are_the_same_in_another_process_and_order() -> None:
    shape = {"model_type": "gpt_neox", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    own = {"config": shape, "lr": 1e-3, "gradient_layers": "mlp", "norm_layers": "mlp"}
    odm = {"methods": {"odm": {"options": {"alpha": 0.5, "rule": "released", "warmup": 0.1}}}}
    weights = {"bible": 1, "speeches": 2, "dialogue": 3}
    config = merge(merge(merge(BASE, mine(weights=weights)), odm), {"models": {"own": own}, "roles": {"target": "own"}})
    config["compare"] = ["natural", "odm", "mine"]
    here = list(plan(load_experiment(config)).runs)
    assert len(here) == 6
    assert list(plan(load_experiment(reordered(config))).runs) == here
    done = subprocess.run(
        [sys.executable, "-c", DIGEST],
        input=json.dumps(reordered(config)),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONHASHSEED": "12345"},
    )
    assert done.stdout.split() == here, done.stderr


def test_specs_and_experiments_survive_json(tmp_path: Path) -> None:
    noise = {"methods": {"acodm": {"options": {"noise": [0.3, 0.1]}}}}
    experiment = load_experiment(BASE, noise)
    for name, spec in plan(experiment).runs.items():
        again = RunSpec.model_validate(json.loads(spec.model_dump_json()))
        assert again == spec and again.run == name
    path = tmp_path / "plan.json"
    path.write_text(experiment.model_dump_json())
    assert read_experiment(path) == (experiment, plan(experiment))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"experiment": 3}'])
def test_truncated_or_foreign_plan_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_experiment(path)
    assert str(path) in str(error.value)


def test_merge_lays_dictionaries_over_and_replaces_lists() -> None:
    base = {"a": {"x": 1, "y": 2}, "l": [1, 2], "s": 3}
    assert merge(base, {"a": {"y": 5}, "l": [9], "s": {"z": 1}}) == {"a": {"x": 1, "y": 5}, "l": [9], "s": {"z": 1}}
    assert base == {"a": {"x": 1, "y": 2}, "l": [1, 2], "s": 3}


def test_the_domains_used_here_are_in_the_catalogue() -> None:
    assert set(DOMAINS) <= set(load_catalogue().domains)
