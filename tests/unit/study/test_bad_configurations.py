"""Configurations that are wrong: each is refused when it is planned, with its place, and none ends in another exception."""

from __future__ import annotations

import sys
from itertools import pairwise, product
from pathlib import Path

import pytest

from acodm_core.downstream.evaluations import configured
from acodm_core.errors import UserError
from acodm_core.settings.yaml_files import assignments, parse_yaml, read_yaml
from acodm_core.study import planner

BASE = """
experiment: try
corpus: {name: small, domains: [bible, speeches, dialogue], tokenizer: {vocab_size: 512}}
compare: [natural, uniform, odm]
"""
HUMANEVAL = "downstream: {tasks: [humaneval], humaneval: {samples: 1, k: [1], %s}}"
INTEGERS = [
    "training: {steps: %s}",
    "training: {batch: %s}",
    "training: {micro_batch: %s}",
    "training: {context: %s}",
    "evaluation: {every: %s}",
    "evaluation: {test_sequences: %s}",
    "seeds: [%s]",
    "resources: {threads: %s}",
    "resources: {minutes: %s}",
    "probe: {blocks: %s}",
    "methods: {odm: {trials: %s}}",
    "methods: {odm: {groups: %s}}",
    "corpus: {split_seed: %s}",
    "corpus: {tokenizer: {vocab_size: %s}}",
    "horizons: {odm: [%s]}",
    "models: {cpu-mini: {sketch: %s}}",
    HUMANEVAL % "seed: %s",
    HUMANEVAL % "max_new_tokens: %s",
]
NO_INTEGERS = "true yes 010 1:30 1_000 0x10 1e3 5.0 1.5 -1 .inf .nan 2026-01-01 '5' [1] {a: 1}"
NO_INTEGERS = [*NO_INTEGERS.replace("{a: 1}", "{a:\xa01}").split(" "), "1" + 30 * "0", 5000 * "1"]
NUMBERS = [
    "training: {warmup: %s}",
    "training: {min_lr: %s}",
    "training: {weight_decay: %s}",
    "training: {clip: %s}",
    "training: {betas: [0.9, %s]}",
    "models: {cpu-mini: {lr: %s}}",
    "methods: {odm: {length: %s}}",
    "methods: {odm: {options: {alpha: %s}}}",
    "evaluation: {snapshots: [%s]}",
    "evaluation: {objective_weights: {bible: %s}}",
    "corpus: {valid_fraction: %s}",
    "corpus: {max_megabytes: {bible: %s}}",
    HUMANEVAL % "temperature: %s",
]
NO_NUMBERS = ["true", ".inf", "-.inf", ".nan", "1e400", "-1", "1e300", "'0.5'", "[0.5]", "{a: 1}", "1:30"]
SECTIONS = (
    "seeds compare corpus models roles training evaluation methods axes horizons baseline probe resources experiment"
)
NO_SECTIONS = ["null", "5", "[[]]", "''", "{'': 1}", "{a: null}", "[null]"]
NAMED = [
    'methods: {"%s": {mixer: uniform}}',
    'experiment: "%s"',
    'compare: [natural, "%s"]',
    'axes: {"%s": {title: T, of: odm, values: {x: {}}}}',
    'models: {"%s": {lr: 1, config: {model_type: gpt_neox}, gradient_layers: a, norm_layers: b}}',
    'roles: {target: cpu-nano, "%s": cpu-nano}',
    'methods: {odm: {mixer: "%s"}}',
    'corpus: {name: "%s"}',
    'corpus: {domains: {"%s": {from: files, paths: [x]}}}',
    'downstream: {tasks: [humaneval], methods: ["%s"]}',
    'evaluation: {objective_weights: {"%s": 1}}',
]
NO_NAMES = [
    "x$(touch PWNED)",
    "../../evil",
    "a b",
    "a;b",
    "a'b",
    r"a\nb",
    "A",
    "é",
    "\u0430",
    "",
    "-a",
    ".a",
    "a/b",
    "nan",
]
NO_NAMES += ["null", 61 * "a", "a{b}", "*", r"a\0b", "a|b", "a`b"]  # \u0430: a Cyrillic a
OTHERS = """
experiment: runs | seeds: [] | seeds: [0, 0] | seeds: [4294967296] | compare: [] | compare: [natural, natural]
corpus: {domains: [bible, bible]} | corpus: {domains: [[bible]]} | corpus: {domains: [{bible: 1}]} | corpus: {domains: [1]}
corpus: {domains: [nope]} | corpus: {domains: {a: {from: nope}}} | corpus: {domains: {a: {from: files}}} | corpus: {tokenizer: 5}
corpus: {domains: {a: {from: files, paths: x}}} | corpus: {domains: {a: {from: files, paths: [nope.txt]}}}
corpus: {domains: {a: {from: hf, dataset: x, documents: 0}}} | corpus: {domains: {a: {from: shards, name: X}}}
corpus: {domains: {a: {from: synthetic, megabytes: 1e300, languages: [{name: a, words: 10}]}}} | corpus: {max_megabytes: {nope: 1}}
training: {batch: 16, micro_batch: 32} | training: {batch: 16, micro_batch: 5} | training: {schedule: linear}
corpus: {domains: []} | training: {betas: [0.9]}
training: {betas: 0.9} | training: {betas: [.9, 1.5]} | evaluation: {snapshots: [1.0]} | evaluation: {objective_weights: {bible: 0}}
evaluation: {objective_weights: {}} | evaluation: {objective_weights: {nope: 1}} | evaluation: {target: uniform}
evaluation: {objective_weights: odd} | horizons: {odm: []} | horizons: {nope: [5]}
methods: {odm: {groups: {a: [bible], b: [bible, speeches, dialogue]}}} | methods: {odm: {groups: {a: [bible]}}}
methods: {odm: {groups: {}}} | methods: {odm: {groups: 4}} | methods: {odm: {members: 3}} | methods: {odm: {length: 2}}
methods: {odm: {inputs: {x: natural}}} | methods: {odm: {mixer: ./mine.py}} | methods: {odm: {mixer: mine.py}}
methods: {odm: {options: {alpha: {a: {b: 1}}}}} | methods: {odm: {options: {nope: 1}}} | methods: {odm: {options: [1]}}
methods: {odm: {title: "a\\u2028b"}} | methods: {odm: {title: "a\\nb"}} | models: {cpu-mini: {gradient_layers: '('}}
models: {cpu-mini: {norm_layers: '*'}} | models: {cpu-mini: {config: 5}} | axes: {k: {title: T, of: odm, values: {}}}
axes: {k: {title: T, of: nope, values: {a: {}}}} | axes: {k: {title: T, of: odm, values: {a: {nope: 1}}}}
axes: {k: {title: T, of: odm, values: {'!': {}}}} | axes: {k: {title: T, of: odm, values: {a: {}, A: {}}}}
downstream: {} | downstream: {tasks: []} | downstream: {tasks: [humaneval, humaneval]}
downstream: {tasks: [humaneval], methods: [acodm]}
downstream: {tasks: [humaneval], source: "a{run}"}
downstream: {tasks: [humaneval], checkpoints: snapshots} | downstream: {tasks: [humaneval], source: "a\\nb"}
roles: {target: nope} | baseline: acodm | nope: 1 | 1: 2 | yes: 2 | null: 2 | training: {1: 2} | [a] | 5 | # nothing
training: {<<: 5} | training: !!python/object/apply:os.system [ls] | training: !x {steps: 5} | training: {steps: 5, steps: 6}
? [a] | %x | a: b: c | ' | { | seeds: [0, 1 | &a [*a] | x: &a {b: *a} | *b
"""
OTHERS = [one.strip() for line in OTHERS.strip().splitlines() for one in line.split(" | ")]
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{y}: &{y} [{','.join([f'*{x}'] * 10)}]\n" for x, y in pairwise("abcdefghi")
)
FILES = {
    "latin-1": b"experiment: caf\xe9",
    "UTF-16": "experiment: a".encode("utf-16"),
    "binary": b"\x00\x01\x02\xff",
    "gzip": b"\x1f\x8b\x08\x00",
    "a surrogate": rb'experiment: "\ud800"',
    "tabs": b"training:\n\tsteps: 5",
    "two documents": b"---\na: 1\n---\nb: 1",
    "brackets without end": 5000 * b"[",
    "aliases of aliases": BOMB.encode(),
    "an endless word": 300_000 * b"x",
    "empty": b"",
}


def refusal(path: Path, text: str | bytes) -> str:
    (path / "base.yaml").write_text(BASE)
    (path / "bad.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        configured([path / "base.yaml", path / "bad.yaml"])
    said = str(error.value)
    assert error.value.where and len(said) < 4000
    return said


@pytest.mark.parametrize(
    ("shapes", "values"),
    [
        (INTEGERS, NO_INTEGERS),
        (NUMBERS, NO_NUMBERS),
        ([f"{key}: %s" for key in SECTIONS.split()], NO_SECTIONS),
        (NAMED, NO_NAMES),
    ],
    ids=["integers", "numbers", "sections", "names"],
)
def test_a_bad_value_is_refused_wherever_it_stands(shapes: list[str], values: list[str], tmp_path: Path) -> None:
    for shape, value in product(shapes, values):
        text = shape % value.replace("\xa0", " ")
        try:
            refusal(tmp_path, text)
        except BaseException as error:
            raise AssertionError(f"not refused as it should be: {text[:200]!r}") from error


@pytest.mark.parametrize("text", OTHERS)
def test_a_bad_configuration_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refusal(tmp_path, text)


def test_a_plan_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "MOST_RUNS", 60)
    said = refusal(
        tmp_path, f"compare: [natural, regmix]\nseeds: {list(range(8))}\nmethods: {{regmix_swarm: {{members: 8}}}}"
    )
    assert said.startswith("seeds: more than 60 runs")


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_configuration_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    assert "bad.yaml" in refusal(tmp_path, FILES[kind])


def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    said = refusal(tmp_path, "training:\n  steps: 5\n  batch: 8\n  steps: 6\n")
    assert "bad.yaml:4:" in said and "'steps' stands twice: in line 2 and in line 4" in said


def test_byte_order_marks_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbfexperiment: a\r\nseeds: [1]\r\n")
    assert read_yaml(path) == {"experiment": "a", "seeds": [1]}


def test_a_plain_word_is_what_it_looks_like() -> None:
    words = "[1, -1, 0.5, 1e-3, true, null, ~, 010, 1:30, yes, .inf, 2026-01-01, 1_000, '5']"
    assert parse_yaml(words, where="x") == [
        1,
        -1,
        0.5,
        1e-3,
        True,
        None,
        None,
        "010",
        "1:30",
        "yes",
        ".inf",
        "2026-01-01",
        "1_000",
        "5",
    ]
    assert parse_yaml("{1: a, null: b, 0.50: c}", where="x") == {"1": "a", "null": "b", "0.50": "c"}
    assert parse_yaml("x: &t {a: 1, b: 2}\ny: {<<: *t, a: 3}", where="x")["y"] == {"a": 3, "b": 2}


def test_settings_of_the_command_line_are_yaml_and_lie_over_the_files(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    words = ['training={"steps": 5}', "seeds=[3]", "downstream=null"]
    experiment, planned, _ = configured([tmp_path / "base.yaml"], words)
    assert (experiment.training.steps, experiment.seeds, experiment.experiment) == (5, [3], "try")
    assert {spec.training.steps for spec in planned.runs.values()} == {5}
    for wrong in ("steps", "seeds=[0, 1", "a={b: 1, b: 2}"):
        with pytest.raises(UserError, match="--config"):
            assignments([wrong])


MODULES = {
    "syntax": ("def (", "SyntaxError"),
    "missing": ("import no_such_package", "no_such_package"),
    "raises": ("1 / 0", "mixers_of_mine/raises.py:1: ZeroDivisionError"),
    "exits": ("raise SystemExit(3)", "SystemExit"),
    "empty": ("", "exactly one Mixer"),
    "two": ("@dataclass\nclass A(Mixer):BODY\n@dataclass\nclass B(Mixer):BODY", "A, B"),
    "plain": ("class A(Mixer):BODY", "dataclass"),
    "late": ('@dataclass\nclass A(Mixer):BODY\n    def __post_init__(self): {}["x"]', "KeyError"),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_is_no_mixer_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, expected = MODULES[name]
    body = "\n    def start(self, start): ...\n    def sampling_weights(self, step): ..."
    head = "from dataclasses import dataclass\nfrom acodm_core.mixing import Mixer\n" if "Mixer" in code else ""
    package = tmp_path / "mixers_of_mine"
    package.mkdir()
    (package / f"{name}.py").write_text(head + code.replace("BODY", body))
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("mixers_of_mine", None)
    said = refusal(tmp_path, f"methods: {{odm: {{mixer: mixers_of_mine.{name}}}}}")
    assert said.startswith("methods.odm.") and expected in said
