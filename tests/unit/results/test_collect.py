"""Collecting an experiment's runs: whole tables, or an error that names the file that is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from acodm_core.errors import UserError
from acodm_core.files import read_json, write_json
from acodm_core.results.collect import collect
from acodm_core.results.reader import Results
from acodm_core.results.schemas import RUN_COLUMNS
from acodm_core.seals import checksum
from acodm_core.study.planner import plan


@pytest.fixture(scope="module")
def study(experiment_of, corpus, tmp_path_factory):
    """An experiment of two methods, trained for a few steps."""
    import torch

    from acodm_core.lm.train import Trainer

    torch.set_num_threads(1)
    recipe = {"steps": 3, "batch": 4, "checkpoint_every": 100}
    experiment = experiment_of(compare=["uniform", "natural"], training=recipe, evaluation={"every": 2})
    planned, runs = plan(experiment), tmp_path_factory.mktemp("runs")
    for run, spec in planned.runs.items():
        assert Trainer(spec, corpus, runs / run).run() == "finished"
    return SimpleNamespace(experiment=experiment, plan=planned, runs=runs, corpus=corpus)


@pytest.fixture
def copy(study, tmp_path: Path):
    """The same with files that a test may damage."""
    runs = tmp_path / "runs"
    shutil.copytree(study.runs, runs)
    return SimpleNamespace(
        **{**vars(study), "runs": runs, "first": runs / next(iter(study.plan.runs)), "out": tmp_path / "out"}
    )


def gather(study, out: Path) -> None:
    collect(study.experiment, study.plan, study.corpus, [study.runs], out)


def refused(study) -> str:
    with pytest.raises(UserError) as error:
        gather(study, study.out)
    assert not (study.out / "experiment.json").exists(), "nothing is reported that was not checked"
    return str(error.value)


def test_collects_every_run(study, tmp_path: Path) -> None:
    gather(study, tmp_path)
    found = Results(tmp_path)
    assert tuple(found.runs.columns) == RUN_COLUMNS
    assert set(found.runs.run) == set(study.plan.runs) == set(found.metrics.run) == set(found.mixture.run)
    assert found.runs.status.tolist() == ["finished"] * 2 and found.runs.compared.all()
    assert found.domains == list(study.corpus.domains) and found.compare == ["uniform", "natural"]
    assert sum(found.natural_weights.values()) == pytest.approx(1)
    assert set(found.metrics[found.metrics.split == "valid"].step) == {0, 2, 3}
    assert (found.runs.tokens == 3 * 4 * 16).all() and (found.runs.model_flops > 0).all()
    one = pd.read_parquet(study.runs / found.runs.run[0] / "metrics.parquet")
    pd.testing.assert_frame_equal(found.metrics[found.metrics.run == found.runs.run[0]].reset_index(drop=True), one)


def test_old_results_have_no_axes_and_uniform_target_weights(study, tmp_path: Path) -> None:
    gather(study, tmp_path)
    description = read_json(tmp_path / "experiment.json")
    assert description["axes"] == {} and description["trials"] == {}
    write_json(
        tmp_path / "experiment.json", {k: v for k, v in description.items() if k not in ("axes", "objective_weights")}
    )
    found = Results(tmp_path)
    assert found.axes == {} and found.objective_weights == dict.fromkeys(found.domains, 1 / len(found.domains))


def test_values_of_axes_have_runs_but_are_not_compared(experiment_of, corpus, tmp_path: Path) -> None:
    from acodm_core.lm.train import Trainer

    values = {"Sharp": {"options": {"alpha": 0.1}, "groups": 2}, "Default": {"options": {"alpha": 0.9}}}
    experiment = experiment_of(
        compare=["uniform"],
        methods={"odm": {"title": "ODM", "trials": 3}},
        training={"steps": 3, "batch": 4},
        evaluation={"every": 3, "objective_weights": {"words": 3, "noise": 1}},
        axes={"memory": {"title": "Memory", "of": "odm", "values": values}},
    )
    planned = plan(experiment)
    for run, spec in planned.runs.items():
        assert Trainer(spec, corpus, tmp_path / "runs" / run).run() == "finished"
    collect(experiment, planned, corpus, [tmp_path / "runs"], tmp_path)
    found = Results(tmp_path)
    sharp = "odm-memory-sharp"
    assert found.axes == {
        "memory": {"title": "Memory", "of": "odm", "methods": {"Sharp": sharp, "Default": "odm"}},
    }
    weight = dict.fromkeys(corpus.domains, 0.0) | {"words": 0.75, "noise": 0.25}
    assert found.objective_weights == pytest.approx(weight)
    assert found.runs.set_index("method").compared.to_dict() == {"uniform": True, "odm": False, sharp: False}
    assert found.runs.set_index("method").title[sharp] == found.experiment["titles"][sharp] == "Sharp"
    assert found.compare == ["uniform"] and found.experiment["trials"] == {"odm": 3}
    asked = found.mixture[found.mixture.run.str.startswith(sharp) & (found.mixture.step == 3)].set_index("domain")
    assert list(asked.index) == list(corpus.domains), "a mixer of groups draws domains"
    prior = found.natural_weights
    assert asked.requested["counting"] / asked.requested["words"] == pytest.approx(prior["counting"] / prior["words"])


def test_mixers_know_the_target_and_the_length_of_their_run(experiment_of, corpus, monkeypatch) -> None:
    from acodm_baselines.uniform import Uniform
    from acodm_core.lm.run import setup

    given = []
    monkeypatch.setattr(Uniform, "start", lambda self, start: given.append(start))
    for target in ("uniform", "natural", {"words": 3, "noise": 1}):
        experiment = experiment_of(evaluation={"objective_weights": target}, training={"steps": 7})
        for spec in plan(experiment).runs.values():
            setup.start_mixer(spec, corpus, {}, model=None)
    assert [(start.total_steps, start.tokens_per_step) for start in given] == [(7, 8 * 16)] * 3
    uniform, natural, chosen = (dict(zip(corpus.domains, start.objective_weights, strict=True)) for start in given)
    assert set(uniform.values()) == {0.25}
    assert natural == pytest.approx(dict(zip(corpus.domains, given[0].prior, strict=True)))
    assert chosen == pytest.approx({"counting": 0, "words": 0.75, "brackets": 0, "noise": 0.25})


def test_methods_with_the_same_seed_begin_alike_and_draw_apart(study) -> None:
    first, second = (pd.read_parquet(study.runs / run / "metrics.parquet") for run in study.plan.runs)
    at_start = [f[(f.step == 0)].drop(columns="run").reset_index(drop=True) for f in (first, second)]
    pd.testing.assert_frame_equal(*at_start)
    assert (
        not first[first.step == 3]
        .value.reset_index(drop=True)
        .equals(second[second.step == 3].value.reset_index(drop=True))
    )


def test_missing_run(copy) -> None:
    shutil.rmtree(copy.first)
    assert str(copy.first / "manifest.json") in refused(copy)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"{}", b"\xff\xfe\x00", b'{"spec": {}, "corpus": "", "artefacts": {}}']
)
def test_manifest_that_is_none(copy, content: bytes) -> None:
    (copy.first / "manifest.json").write_bytes(content)
    assert str(copy.first / "manifest.json") in refused(copy)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        (name, how)
        for name in (
            "metrics.parquet",
            "mixture.parquet",
            "diagnostics.parquet",
            "signals.parquet",
            "weights.safetensors",
        )
        for how in ("truncated", "changed", "missing", "another run's")
        if (name[:4], how) not in (("diag", "another run's"), ("sign", "another run's"))  # empty: the same bytes
    ],
)
def test_file_that_is_not_the_one_written(copy, name: str, how: str) -> None:
    path = copy.first / name
    data = path.read_bytes()
    other = next(p for p in copy.runs.iterdir() if p != copy.first) / name
    match how:
        case "truncated":
            path.write_bytes(data[:-7])
        case "changed":
            path.write_bytes(data[:-7] + bytes([data[-7] ^ 1]) + data[-6:])
        case "missing":
            path.unlink()
        case "another run's":
            shutil.copyfile(other, path)
    text = refused(copy)
    assert str(path) in text and "train again" in text


def test_foreign_table_with_a_right_hash_is_named(copy) -> None:
    path = copy.first / "metrics.parquet"
    path.write_bytes(b"not a parquet file at all")
    manifest = read_json(copy.first / "manifest.json")
    manifest["artefacts"]["metrics.parquet"] = checksum(path)
    write_json(copy.first / "manifest.json", manifest)
    assert str(path) in refused(copy)


def test_run_of_another_corpus(copy) -> None:
    path = copy.first / "manifest.json"
    manifest = read_json(path)
    manifest["corpus"] = "0" * 64
    write_json(path, manifest)
    text = refused(copy)
    assert str(path) in text and "0" * 64 in text and copy.corpus.digest in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 7),
        ("options", {"tau": 0.5}),
        ("domains", ["one", "two"]),
        ("protocol", 99),
        ("evaluation", {"every": 2, "valid_sequences": 4}),
        ("training", {"steps": 3, "batch": 8}),
    ],
)
def test_run_of_another_spec(copy, key: str, value: object) -> None:
    path = copy.first / "manifest.json"
    manifest = read_json(path)
    manifest["spec"][key] = value
    write_json(path, manifest)
    text = refused(copy)
    assert str(path) in text and "another spec" in text


def test_results_of_another_protocol(study, tmp_path: Path) -> None:
    gather(study, tmp_path)
    description = read_json(tmp_path / "experiment.json")
    (tmp_path / "experiment.json").write_text(json.dumps(description | {"protocol": 99}))
    with pytest.raises(UserError, match="99"):
        Results(tmp_path)


def test_corpus_of_other_domains_is_refused_before_training(study, tmp_path: Path) -> None:
    from acodm_core.lm.train import Trainer

    spec = next(iter(study.plan.runs.values())).model_copy(update={"domains": ("one", "two")})
    with pytest.raises(UserError) as error:
        Trainer(spec, study.corpus, tmp_path)
    assert "one" in str(error.value) and "counting" in str(error.value)


def two_machines(copy, tmp_path: Path) -> list[Path]:
    """The runs in two folders, one run in both."""
    roots = [tmp_path / "one", tmp_path / "two"]
    first, second = copy.plan.runs
    for root, names in zip(roots, ([first], [first, second]), strict=True):
        for name in names:
            shutil.copytree(copy.runs / name, root / name)
    return roots


def test_runs_of_several_machines_are_put_together(copy, tmp_path: Path) -> None:
    roots = two_machines(copy, tmp_path)
    first, second = copy.plan.runs
    (roots[0] / second / "state").mkdir(parents=True)  # begun there, finished elsewhere
    collect(copy.experiment, copy.plan, copy.corpus, roots, copy.out)
    found = Results(copy.out)
    assert found.runs["run"].tolist() == [first, second]
    assert (
        found.run_folder(first).resolve() == roots[0] / first
        and found.run_folder(second).resolve() == roots[1] / second
    )
    assert found.manifest(second)["run"] == second and found.actor(second) == {}
    shutil.move(tmp_path / "two", tmp_path / "three")
    assert found.manifest(second) is None


def test_a_run_that_was_trained_twice_with_different_results_is_refused(copy, tmp_path: Path) -> None:
    roots = two_machines(copy, tmp_path)
    first = next(iter(copy.plan.runs))
    path = roots[1] / first / "metrics.parquet"
    frame = pd.read_parquet(path)
    frame.loc[frame.index[-1], "value"] += 1e-9
    frame.to_parquet(path)
    manifest = read_json(roots[1] / first / "manifest.json")
    manifest["artefacts"]["metrics.parquet"] = checksum(path)
    write_json(roots[1] / first / "manifest.json", manifest)
    with pytest.raises(UserError, match="trained twice") as error:
        collect(copy.experiment, copy.plan, copy.corpus, roots, copy.out)
    assert str(roots[0] / first) in str(error.value) and str(roots[1] / first) in str(error.value)
    assert not copy.out.exists()


def test_what_runs_differ_in_is_said(copy, tmp_path: Path, capsys) -> None:
    from typer.testing import CliRunner

    from acodm_core import cli

    path = copy.first / "manifest.json"
    manifest = read_json(path)
    manifest["code"] |= {"version": "0.0.1", "commit": "0" * 40}
    manifest["hardware"] |= {"gpu": "Another GPU"}
    write_json(path, manifest)
    write_json(copy.out / "plan.json", copy.experiment.model_dump(mode="json"))
    asked = ["collect", str(copy.out / "plan.json"), f"--corpus={copy.corpus.folder}", f"--runs={copy.runs}"]
    done = CliRunner().invoke(cli.app, asked)
    assert done.exit_code == 0, done.output
    for words in ("hardware (", "Another GPU: 1 runs", "code commit (", "version of the code (0.0.1: 1 runs"):
        assert words in done.output
    assert "precision" not in done.output
