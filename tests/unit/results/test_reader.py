"""Reading a results folder: whole tables of one experiment, or an error that names the file that is not."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import fake_results
import pandas as pd
import pytest

from acodm_analysis import amortised, comparison, compute_matched, cost, currencies, noise, paired
from acodm_analysis.core import frames, tables
from acodm_analysis.pages import verdicts
from acodm_analysis.repetition import table as repetition_table
from acodm_core.errors import UserError
from acodm_core.results.reader import Results
from acodm_core.results.table_files import write_frame

TABLES = ("runs", "metrics", "mixture", "diagnostics", "probe/probe", "probe/memory")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return fake_results.make(tmp_path_factory.mktemp("made"), 2)


@pytest.fixture
def folder(made, tmp_path: Path):
    """A copy that a test may damage."""
    shutil.copytree(made, tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def refused(folder, monkeypatch, capsys):
    return partial(_refused, folder, monkeypatch=monkeypatch, capsys=capsys)


def _refused(folder: Path, name: str, *, monkeypatch, capsys) -> str:
    """What a program that reads the table says: no traceback, and exit status 1."""
    monkeypatch.setattr("sys.argv", ["program", str(folder), str(folder / "out")])
    with pytest.raises(SystemExit) as stop:
        tables.program("program", None, lambda results, out: getattr(results, name.split("/")[-1]))
    text = capsys.readouterr().err
    assert stop.value.code == 1 and text.startswith("error: ")
    return text


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("how", ["truncated", "text", "another table"])
def test_a_damaged_or_foreign_table_is_named(folder, refused, name, how):
    path = folder / f"{name}.parquet"
    match how:
        case "truncated":
            path.write_bytes(path.read_bytes()[:-9])
        case "text":
            path.write_text("no table at all")
        case "another table":
            pd.DataFrame({"something": [1]}).to_parquet(path)
    assert str(path) in refused(name)


@pytest.mark.parametrize("name", TABLES[:4])
def test_a_missing_table_is_named(folder, refused, name):
    (folder / f"{name}.parquet").unlink()
    assert f"{name}.parquet: file not found" in refused(name)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"protocol": 1}', '{"protocol": 99}'])
def test_a_description_that_is_none_is_named(folder, content):
    path = folder / "experiment.json"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        Results(folder)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["runs", "metrics", "mixture", "diagnostics"])
def test_a_table_of_another_experiment_is_refused(folder, name):
    path = folder / f"{name}.parquet"
    frame = pd.read_parquet(path)
    if frame.empty:
        frame = pd.DataFrame([{"run": "x", "step": 1, "name": "reward", "value": 1.0}])
    frame.assign(run="stranger-s0").to_parquet(path)
    with pytest.raises(UserError, match=r"not of this experiment: stranger-s0") as error:
        getattr(Results(folder), name)
    assert str(path) in str(error.value)


def test_a_run_without_measurements_is_named(folder):
    path = folder / "metrics.parquet"
    frame = pd.read_parquet(path)
    frame[frame["run"] != "odm-s1"].to_parquet(path)
    with pytest.raises(UserError, match=r"nothing of odm-s1"):
        comparison.table(Results(folder))


def test_measurements_that_stand_there_twice_are_refused(folder):
    path = folder / "metrics.parquet"
    frame = pd.read_parquet(path)
    pd.concat([frame, frame.iloc[[0]]]).to_parquet(path)
    with pytest.raises(UserError, match="twice") as error:
        frames.by_domain(Results(folder), "valid")
    assert str(path) in str(error.value)


def test_runs_of_two_corpora_never_stand_in_one_table(folder):
    path = folder / "runs.parquet"
    frame = pd.read_parquet(path)
    frame.loc[0, "corpus"] = "local-999999"
    frame.to_parquet(path)
    with pytest.raises(UserError, match=r"several corpora: local-999999, local-1a2b3c"):
        comparison.table(Results(folder))


def test_runs_of_another_version_machine_or_precision_are_named_in_the_notes(made):
    results = Results(made)
    found = comparison.table(results), repetition_table(results)
    assert "differ" not in " ".join(verdicts.notes(results, *found))
    for column, value in (("commit", "fedcba"), ("hardware", "another machine"), ("precision", "bfloat16")):
        mixed = Results(made)
        mixed.__dict__["runs"] = results.runs.assign(**{column: [value, *results.runs[column][1:]]})
        said = " ".join(verdicts.notes(mixed, *found))
        assert f"differ in {'code commit' if column == 'commit' else column}" in said and value in said


def test_results_of_an_earlier_version_lack_only_what_came_later(folder):
    path = folder / "runs.parquet"
    pd.read_parquet(path).drop(columns="joules").to_parquet(path)
    assert "joules" not in Results(folder).runs and cost.table(Results(folder))["joules_run"].isna().all()
    pd.read_parquet(path).drop(columns="seed").to_parquet(path)
    with pytest.raises(UserError, match="no column seed"):
        cost.table(Results(folder))


def test_a_diverged_run_renders_and_is_shown(tmp_path):
    results = Results(fake_results.make(tmp_path / "made", 5, diverged=("odm", 3)))
    for output in (comparison, paired, cost, currencies, compute_matched, noise, amortised):
        output.render(results, tmp_path)
    for name in ("comparison", "currencies", "compute_matched", "noise", "paired", "cost"):
        _, rows, _ = tables.read_markdown((tmp_path / f"{name}.md").read_text())
        cells = [cell for row in rows for cell in row]
        assert "ODM" in cells, name
        assert not {"nan", "inf", "-inf"} & set(" ".join(cells).replace("[", " ").replace("]", " ").split()), name
    assert "1 diverged, 4 finished" in (tmp_path / "comparison.md").read_text()
    assert "failed" in (tmp_path / "paired.md").read_text()
    notes = verdicts.notes(results, comparison.table(results), repetition_table(results))
    assert any("ODM: 1 diverged" in note for note in notes)


def test_what_runs_and_probe_differ_in_is_said(folder):
    runs = pd.read_parquet(folder / "runs.parquet")
    runs.loc[runs["run"] == "acodm_proxy_run-s0", "hardware"] = "another machine"
    runs.loc[runs["method"] == "odm", "version"] = "0.1"
    runs.to_parquet(folder / "runs.parquet")
    probe = pd.read_parquet(folder / "probe/probe.parquet").assign(hardware="a third")
    write_frame(probe, folder / "probe/probe.parquet")
    results = Results(folder)
    said = " ".join(verdicts.notes(results, comparison.table(results), repetition_table(results)))
    assert "differ in hardware (2 cores, x86-64: 11 runs, another machine: 1 runs)" in said
    assert "version of the code (0.0: 10 runs, 0.1: 2 runs)" in said
    assert "probed on a third, the runs trained on 2 cores, x86-64" in said
    assert "The runs differ in hardware (" in comparison.caption(results)


def test_a_probe_of_two_machines_is_refused(folder, refused):
    path = folder / "probe/probe.parquet"
    probe = pd.read_parquet(path)
    probe.loc[:3, "hardware"] = "another"
    write_frame(probe, path)
    assert "of several machines" in refused("probe/probe")


def test_tables_of_earlier_versions_are_read(folder):
    for name, column in (("runs", "version"), ("runs", "joules"), ("probe/probe", "hardware")):
        path = folder / f"{name}.parquet"
        write_frame(pd.read_parquet(path).drop(columns=column), path)
    results = Results(folder)
    assert len(results.runs) and results.probe["hardware"].isna().all() and not results.probe.empty
    assert not any(
        "probed on" in said for said in verdicts.notes(results, comparison.table(results), repetition_table(results))
    )
