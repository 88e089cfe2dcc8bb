"""Where fixed weights come from: a literal, a published vector or a file; the run is named by the numbers."""

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from acodm_core.errors import UserError
from acodm_core.mixers.find import build_mixer
from acodm_core.mixing import Start
from acodm_core.study.config import load_experiment
from acodm_core.study.planner import RunSpec, plan

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = yaml.safe_load((ROOT / "baselines/published.yaml").read_text())
PRESETS = {
    22: yaml.safe_load((ROOT / "workflow/config/paper-pile-1b.yaml").read_text()),
    7: yaml.safe_load((ROOT / "workflow/config/paper-slimpajama-1b.yaml").read_text()),
}
WEIGHTS = {"bible": 3.0, "speeches": 1.0}


def run_of(**options: Any) -> RunSpec:
    """The run of a method with these options."""
    experiment = {
        "experiment": "test",
        "seeds": [0],
        "corpus": {"name": "small", "domains": list(WEIGHTS), "tokenizer": {"vocab_size": 512}},
        "methods": {"mine": {"mixer": "static", "options": options}},
        "compare": ["natural", "mine"],
    }
    found = plan(load_experiment(experiment))
    return found.runs[found.compared["mine"][0]]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_vector_fits_the_papers_preset(name: str) -> None:
    weights = PUBLISHED[name]["weights"]
    domains = tuple(PRESETS[len(weights)]["corpus"]["domains"])
    mixer = build_mixer("static", {"published": name})
    mixer.check(domains, where="")
    mixer.start(
        Start(
            domains=domains,
            prior=np.full(len(domains), 1 / len(domains)),
            tokens_available=np.ones(len(domains)),
            total_steps=1,
            rng=np.random.default_rng(0),
        )
    )
    np.testing.assert_allclose(mixer.sampling_weights(0), [weights[domain] for domain in domains], rtol=3e-4)
    assert PUBLISHED[name]["source"]


def test_published_numbers_sum_to_one_but_for_rounding() -> None:
    for name, vector in PUBLISHED.items():
        assert sum(vector["weights"].values()) == pytest.approx(1, abs=3e-4), name


def test_the_vectors_of_the_presets_are_the_published_ones() -> None:
    for preset, name, method in ((22, "pile", "pile_weights"), (7, "slimpajama", "slimpajama_weights")):
        assert PRESETS[preset]["methods"][method]["options"]["weights"] == PUBLISHED[name]["weights"]


def test_published_vectors_are_installed_with_the_baselines() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["package-data"]["acodm_baselines"] == ["*.yaml"]


def test_a_published_vector_of_other_domains_shows_both_lists() -> None:
    with pytest.raises(UserError) as error:
        run_of(published="slimpajama_doge")
    for part in ("methods.mine.options.weights:", "bible, speeches", "commoncrawl, c4, github, books, arxiv"):
        assert part in str(error.value)


def test_an_unknown_published_vector_lists_the_known_ones() -> None:
    with pytest.raises(UserError) as error:
        run_of(published="pile_dorem")
    assert all(part in str(error.value) for part in ("methods.mine.options.published:", "'pile_dorem'", *PUBLISHED))


def test_a_run_is_named_by_a_files_numbers_not_by_its_path(tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text(json.dumps(WEIGHTS))
    two.write_text(json.dumps(WEIGHTS, indent=4))
    first = run_of(file=str(one))
    assert first.run == run_of(file=str(two)).run == run_of(weights=WEIGHTS).run
    one.write_text(json.dumps(WEIGHTS | {"bible": 4.0}))
    assert run_of(file=str(one)).run != first.run
    one.unlink()
    rebuilt = build_mixer(first.mixer, first.options)  # as the run does, when the file has gone
    assert dataclasses.asdict(rebuilt)["weights"] == WEIGHTS


@pytest.mark.parametrize("text", ["", "[1, 2]", "{}", "{"])
def test_a_file_that_holds_no_weights_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        run_of(file=str(path))
    assert "methods.mine.options.file:" in str(error.value) and str(path) in str(error.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UserError, match=r"cannot read weights from nowhere\.json"):
        run_of(file="nowhere.json")


def test_weights_come_from_one_place() -> None:
    with pytest.raises(UserError, match="one of weights, published and file"):
        run_of(weights=WEIGHTS, published="pile")
