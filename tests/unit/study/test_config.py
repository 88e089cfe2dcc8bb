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
from acodm_core.mixers.find import baseline_names
from acodm_core.settings.yaml_files import read_yaml
from acodm_core.study.config import Experiment, load_experiment, merge
from acodm_core.study.planner import Plan, RunSpec, plan, read_experiment

PRESETS = sorted((Path(__file__).parents[3] / "workflow" / "config").glob("*.yaml"))
LAID_OVER = {  # a preset that is read after others, as its head says
    "ablation-synthetic": ("ablation", "synthetic"),
    "downstream": ("quick",),
    "mini-acodm": ("mini",),
    "technical": ("quick",),
}
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


def axis(values: dict[Any, Any], of: str = "odm", **keys: Any) -> dict[str, Any]:
    """An ablation of one method."""
    return {"axes": {"knob": {"title": "The knob", "of": of, "values": values, **keys}}}


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
        {"methods": {"acodm": {"options": {"hidden_size": "big"}}}},
        ["methods.acodm.options.hidden_size:", "'big'", "integer"],
    ),
    "option that is not a pair": (
        {"methods": {"acodm": {"options": {"exploration_noise": 0.3}}}},
        ["methods.acodm.options.exploration_noise:", "0.3"],
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
        ["methods.mine.options", "not several"],
    ),
    "file of weights missing": (
        mine(file="/nowhere/w.json"),
        ["methods.mine.options.file:", "/nowhere/w.json"],
    ),
    "wrong type": ({"training": {"steps": "many"}}, ["training.steps:", "'many'", "integer"]),
    "list where a number belongs": ({"training": {"lr": [1]}}, ["training.lr:", "'lr'"]),
    "not a list": ({"compare": "uniform"}, ["compare:", "'uniform'", "list"]),
    "compare is a number": ({"compare": 5}, ["compare:", "5", "list"]),
    "compare holds a list": ({"compare": [["natural"]]}, ["compare[0]:", "natural", "text"]),
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
    "target of an unknown domain": (
        {"evaluation": {"objective_weights": {"bibel": 1.0}}},
        ["evaluation.objective_weights.bibel:", "'bibel'", "did you mean 'bible'", "speeches"],
    ),
    "target of a wrong name": (
        {"evaluation": {"objective_weights": "unifrom"}},
        ["evaluation.objective_weights:", "'unifrom'", "'uniform' or 'natural'", "dictionary"],
    ),
    "negative target": (
        {"evaluation": {"objective_weights": {"bible": -1}}},
        ["evaluation.objective_weights.bible:", "-1"],
    ),
    "target that is no number": (
        {"evaluation": {"objective_weights": {"bible": "much"}}},
        ["evaluation.objective_weights.bible:", "'much'"],
    ),
    "all targets zero": (
        {"evaluation": {"objective_weights": {"bible": 0}}},
        ["evaluation.objective_weights:", "not all be zero"],
    ),
    "length of nothing": ({"methods": {"odm": {"length": 0}}}, ["methods.odm.length:", "0", "greater than 0"]),
    "compared method of another length": (
        {"methods": {"odm": {"length": 0.5}}},
        ["methods.odm.length:", "0.5", "one horizon"],
    ),
    "too many groups": (
        {"methods": {"odm": {"groups": 4}}},
        ["methods.odm.groups:", "4 groups of 3 domains", "at most 3"],
    ),
    "no groups": ({"methods": {"odm": {"groups": 0}}}, ["methods.odm.groups:", "0", "greater than 0"]),
    "groups of no kind": ({"methods": {"odm": {"groups": "two"}}}, ["methods.odm.groups:", "'two'", "dictionary"]),
    "group that is no list": (
        {"methods": {"odm": {"groups": {"a": "bible"}}}},
        ["methods.odm.groups.a:", "'bible'", "list"],
    ),
    "group of an unknown domain": (
        {"methods": {"odm": {"groups": {"a": ["bible", "speeches"], "b": ["dialog"]}}}},
        ["methods.odm.groups.b:", "'dialog'", "did you mean 'dialogue'"],
    ),
    "groups that leave one out and name one twice": (
        {"methods": {"odm": {"groups": {"a": ["bible"], "b": ["bible", "dialogue"]}}}},
        ["methods.odm.groups:", "missing ['speeches']", "more than once ['bible']"],
    ),
    "empty group": (
        {"methods": {"odm": {"groups": {"a": DOMAINS, "b": []}}}},
        ["methods.odm.groups.b:", "no domains"],
    ),
    "weights of domains where the mixer sees groups": (
        {"methods": {"mine": {"mixer": "static", "options": {"weights": dict.fromkeys(DOMAINS, 1)}, "groups": 2}}}
        | {"compare": ["natural", "mine"]},
        ["methods.mine.options.weights:", "bible+speeches"],
    ),
    "axis of an unknown method": (axis({"a": {}}, of="acodn"), ["axes.knob.of:", "'acodn'", "did you mean 'acodm'"]),
    "axis of no values": (axis({}), ["axes.knob.values:", "at least 1"]),
    "axis without a title": ({"axes": {"knob": {"of": "odm", "values": {"a": {}}}}}, ["axes.knob.title:", "required"]),
    "unknown key of an axis": (axis({"a": {}}, vals=1), ["axes.knob.vals:", "'vals'", "did you mean 'values'"]),
    "axis of a bad name": ({"axes": {"A b": axis({"a": {}})["axes"]["knob"]}}, ["axes.A b:", "'A b'"]),
    "unknown key in a value of an axis": (
        axis({"much": {"option": {"alpha": 0.5}}}),
        ["axes.knob.values.much.option:", "'option'", "did you mean 'options'"],
    ),
    "unknown option in a value of an axis": (
        axis({0.5: {"options": {"apha": 0.5}}}),
        ["axes.knob.values.0.5.options.apha:", "'apha'", "did you mean 'alpha'"],
    ),
    "option of a wrong type in a value of an axis": (
        axis({"much": {"options": {"alpha": "much"}}}),
        ["axes.knob.values.much.options.alpha:", "'much'"],
    ),
    "value of an axis that is no mapping": (axis({"much": 3}), ["axes.knob.values.much:", "3", "dictionary"]),
    "length in a value of an axis": (
        axis({"long": {"length": 2}}),
        ["axes.knob.values.long.length:", "2", "one horizon"],
    ),
    "groups in a value of an axis": (axis({"many": {"groups": 9}}), ["axes.knob.values.many.groups:", "9 groups"]),
    "unknown role in a value of an axis": (axis({"a": {"model": "proxi"}}), ["axes.knob.values.a.model:", "'proxi'"]),
    "unknown mixer in a value of an axis": (axis({"a": {"mixer": "oddm"}}), ["axes.knob.values.a.mixer:", "'oddm'"]),
    "unknown input in a value of an axis": (
        axis({"a": {"inputs": {"actor": "acodm_rum"}}}, of="acodm_proxy"),
        ["axes.knob.values.a.inputs.actor:", "'acodm_rum'", "did you mean"],
    ),
    "labels that differ in case": (
        axis({"Much": {"options": {"alpha": 0.5}}, "much": {"options": {"alpha": 0.6}}}),
        ["axes.knob.values.much:", "'odm-knob-much'", "axes.knob.values.Much"],
    ),
    "label that gives a method's name": (
        axis({"much": {}}) | {"methods": {"odm-knob-much": {"mixer": "odm"}}},
        ["axes.knob.values.much:", "methods.odm-knob-much"],
    ),
    "label without a letter": (axis({"+": {}}), ["axes.knob.values.+:", "'+'"]),
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
        read_yaml(tmp_path / "absent.yaml")


def test_the_program_prints_the_mistake_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(merge(BASE, {"training": {"stesp": 5}})))
    done = subprocess.run([sys.executable, "-m", "acodm_core.cli", "plan", str(path)], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("acodm: training.stesp: ") and "Traceback" not in done.stderr


# --- presets and plans ---


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_shipped_preset_plans(preset: Path) -> None:
    under = [preset.with_stem(name) for name in LAID_OVER.get(preset.stem, ())]
    experiment = load_experiment(*under, preset)
    found = plan(experiment)
    assert experiment.experiment == read_yaml(preset).get("experiment", under[-1].stem if under else "")
    assert list(found.compared) == experiment.compare
    assert all(len(runs) == len(experiment.seeds) for runs in found.compared.values())
    for name, spec in found.runs.items():
        assert spec.run == name
    position = {name: i for i, name in enumerate(found.runs)}
    for name, spec in found.runs.items():
        assert all(position[needed] < position[name] for _, needed in spec.needed())


def test_there_are_presets() -> None:
    assert {"quick", "smoke"} <= {preset.stem for preset in PRESETS}


def test_every_shipped_method_and_baseline_plans() -> None:
    methods = read_yaml(Path(sys.modules["acodm_core.study.config"].__file__).with_name("methods.yaml"))
    ready = [name for name, entry in methods.items() if "members" not in entry]
    assert set(baseline_names()) - {"static"} <= {entry["mixer"] for entry in methods.values()}
    found = planned({"compare": ready})
    assert set(found.compared) == set(ready) and set(found.methods) == set(methods)


def test_method_named_only_in_compare_works() -> None:
    methods = read_yaml(Path(sys.modules["acodm_core.study.config"].__file__).with_name("methods.yaml"))
    dotted = "acodm_baselines.uniform"
    assert dotted not in methods
    found = planned({"compare": ["natural", dotted]})
    (run, _) = found.compared[dotted]
    assert found.runs[run].mixer == dotted and found.runs[run].options == {}


def test_inputs_are_shared_runs_on_the_same_seed() -> None:
    again = {
        "mixer": "acodm_core.acodm",
        "options": {"learn": False, "uniform_fraction": 0.1},
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
        ({"methods": {"acodm": {"options": {"reward_decay": 0.5}}}}, {"acodm"}),
        ({"methods": {"acodm_proxy_run": {"options": {"reward_decay": 0.5}}}}, {"acodm_proxy_run", "acodm_proxy"}),
        ({"methods": {"acodm_proxy": {"options": {"uniform_fraction": 0.5}}}}, {"acodm_proxy"}),
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
        ({"evaluation": {"objective_weights": {"bible": 1.0}}}, EVERY),
        ({"evaluation": {"objective_weights": "natural"}}, EVERY),
        ({"methods": {"acodm_proxy_run": {"length": 0.5}}}, {"acodm_proxy_run", "acodm_proxy"}),
        ({"methods": {"odm": {"groups": 2}}}, {"odm"}),
        ({"methods": {"odm": {"groups": 3}}}, set()),
        ({"methods": {"odm": {"groups": {"one": DOMAINS}}}}, {"odm"}),
        ({"methods": {"odm": {"trials": 7}}}, set()),
        (axis({"the default": {}, "half": {"options": {"alpha": 0.5}}}), {"odm-knob-half"}),
        ({"corpus": {"split_seed": 1}}, EVERY),
        ({"corpus": {"domains": DOMAINS[:2]}}, EVERY),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else " ".join(sorted(value)) or "none",  # in one order
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
from acodm_core.settings.yaml_files import read_yaml
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
    noise = {"methods": {"acodm": {"options": {"exploration_noise": [0.3, 0.1]}}}}
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


# --- lengths, groups, targets, axes ---


def test_a_stage_of_another_length_takes_its_share_of_the_steps() -> None:
    found = planned({"training": {"steps": 30}, "methods": {"acodm_proxy_run": {"length": 0.25}}})
    steps = {spec.method: spec.training.steps for spec in found.runs.values()}
    assert steps == {"acodm_proxy_run": 8} | dict.fromkeys(EVERY - {"acodm_proxy_run"}, 30)


def test_a_number_of_groups_and_its_groups_written_out_are_the_same_partition() -> None:
    by_number, by_name = (
        planned({"methods": {"odm": {"groups": groups}}})
        for groups in (2, {"dialogue": ["dialogue"], "bible+speeches": ["speeches", "bible"]})
    )
    assert of(by_number, "odm") == of(by_name, "odm")
    (spec, _) = (spec for spec in by_name.runs.values() if spec.method == "odm")
    assert list(spec.groups.items()) == [("bible+speeches", ("bible", "speeches")), ("dialogue", ("dialogue",))]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("uniform", [1 / 3, 1 / 3, 1 / 3]),
        ("natural", [0.5, 0.3, 0.2]),
        ({"dialogue": 3, "bible": 1}, [0.25, 0.0, 0.75]),
    ],
)
def test_target_weights_lie_on_the_simplex_in_the_order_of_the_domains(target: Any, expected: list[float]) -> None:
    evaluation = load_experiment(BASE, {"evaluation": {"objective_weights": target}}).evaluation
    assert evaluation.objective_vector(DOMAINS, [50, 30, 20]) == pytest.approx(expected)


AXES = {
    "axes": {
        "alpha": {
            "title": "Memory",
            "of": "odm",
            "values": {0.5: {"options": {"alpha": 0.5}}, "0.9 (ours)": {}, "written out": {"options": {"alpha": 0.9}}},
        },
        "source": {
            "title": "Where the actor comes from",
            "of": "acodm",
            "values": {
                "Online": {},
                "Short proxy": {"options": {"learn": False}, "inputs": {"actor": "short"}},
                "Bandit": {"mixer": "odm", "options": {"rule": "exp3"}},
                "Another's": {"mixer": "odm", "options": {"alpha": 0.5}},
            },
        },
    },
    "methods": {"short": {"mixer": "acodm_core.acodm", "model": "proxy", "length": 0.5}},
    "compare": ["natural", "odm"],
}


def test_every_value_of_an_axis_is_a_method_with_a_run_a_seed() -> None:
    found = planned(AXES)
    assert found.axes == {
        "alpha": {"0.5": "odm-alpha-0.5", "0.9 (ours)": "odm", "written out": "odm"},
        "source": {
            "Online": "acodm",
            "Short proxy": "acodm-source-short-proxy",
            "Bandit": "acodm-source-bandit",
            "Another's": "odm-alpha-0.5",
        },
    }
    seeds = {method: sorted(s.seed for s in found.runs.values() if s.method == method) for method in found.methods}
    values = ["odm-alpha-0.5", "acodm-source-short-proxy", "acodm-source-bandit"]
    assert seeds == {name: [0, 1] for name in ["natural", "odm", "acodm", *values, "short"]}
    assert list(found.compared) == ["natural", "odm"]
    titles = [found.methods[name].title for name in values]
    assert titles == ["0.5", "Short proxy", "Bandit"]
    position = list(found.runs)
    for name, spec in found.runs.items():
        assert all(position.index(needed) < position.index(name) for _, needed in spec.needed())
        assert {found.runs[needed].seed for _, needed in spec.needed()} <= {spec.seed}


def test_a_value_with_another_mixer_starts_from_that_mixers_defaults() -> None:
    found = planned(axis({"bandit": {"mixer": "odm"}, "still": {"mixer": "natural"}}, of="acodm_proxy"))
    assert found.axes == {"knob": {"bandit": "odm", "still": "natural"}}, "the compared methods with the same specs"


def test_only_what_the_comparison_needs_is_probed() -> None:
    alone, with_axes = planned({"compare": ["natural", "odm"]}), planned(AXES)
    assert with_axes.probed() == alone.probed()
    assert {method for method, _ in planned(AXES, {"compare": BASE["compare"]}).probed()} == EVERY
