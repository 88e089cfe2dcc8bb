"""Performance profiles over several experiments, and what may not stand in one."""

from __future__ import annotations

import math
import sys

import fake_results
import numpy as np
import pandas as pd
import pytest

from acodm_analysis import profiles
from acodm_analysis.core import costs
from acodm_core.errors import UserError
from acodm_core.results.reader import Results


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fake_results.make(tmp_path_factory.mktemp("canned"), 5)


def named(folder, name: str, **experiment) -> Results:
    results = Results(folder)
    results.experiment = results.experiment | {"experiment": name} | experiment
    return results


def test_a_profile_is_the_share_of_workloads_within_a_factor():
    found = profiles.ratios(np.array([[100.0, 200, math.inf], [300, 100, 500], [100, 150, 100]]))
    np.testing.assert_allclose(found, [[1, 2, math.inf], [3, 1, 5], [1, 1.5, 1]])
    tau, rho = profiles.profile(found[:, 2])
    assert tau.tolist() == [1, 1, 4] and rho.tolist() == pytest.approx([1 / 3] * 3)
    tau, rho = profiles.profile(found[:, 1])
    assert tau.tolist() == [1, 1, 1.5, 2, 4] and rho.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 1, 1])


def test_the_score_is_the_area_under_the_profile():
    found = np.array([[1.0, 2, math.inf], [3, 1, 5], [1, 1.5, 1]])
    scores = profiles.scores(found)
    for i in range(3):
        tau, rho = profiles.profile(found[:, i])
        assert scores[i] == pytest.approx((rho[:-1] * np.diff(tau)).sum() / 3)
    assert profiles.scores(np.ones((4, 1))) == 1 and profiles.scores(np.full((4, 1), np.inf)) == 0


def test_nobody_reaching_a_threshold_puts_nobody_first():
    assert np.isinf(profiles.ratios(np.full((1, 3), np.inf))).all()


def test_one_workload_scores_what_its_ledger_says(folder):
    table = profiles.table([named(folder, "one")]).set_index(["method", "counted"])
    medians = costs.per_run(Results(folder)).groupby("method")["flops_all_in"].median()
    row = table.loc[("acodm_proxy", "flops_all_in")]
    ratio = medians["acodm_proxy"] / medians.min()
    assert row["score"] == pytest.approx((4 - ratio) / 3) and row["of"] == 1
    assert row["score_low"] <= row["score"] <= row["score_high"]
    assert row["speedup_over_baseline"] == pytest.approx(medians["natural"] / medians["acodm_proxy"])
    assert table.loc[("natural", "steps_alone"), "speedup_over_baseline"] == 1


def test_a_method_that_a_workload_did_not_run_is_in_no_profile(folder):
    two = [named(folder, "one"), named(folder, "two", compare=["natural", "uniform", "odm"])]
    table = profiles.table(two)
    row = table.set_index(["method", "counted"]).loc[("acodm", "steps_alone")]
    assert row["workloads"] == 1 and math.isnan(row["score"]) and math.isnan(row["speedup_over_baseline"])
    cells = profiles.shown(table).set_index("Method")
    assert cells.loc["AC-ODM", "Score (steps)"] == "not run" and cells.loc["AC-ODM", "Workloads"] == "1/2"
    assert set(profiles.steps(two)["method"]) == {"natural", "uniform", "odm"}


def test_the_oracle_is_no_competitor(tmp_path):
    table = profiles.table([Results(fake_results.extended(tmp_path, 2))])
    assert "oracle" not in set(table["method"]) and (table["seeds"] == 2).all()


def test_a_workload_twice_and_a_name_for_two_mixers_are_refused(folder):
    with pytest.raises(UserError, match="two folders"):
        profiles.table([named(folder, "one"), named(folder, "one")])
    other = named(folder, "two")
    other.__dict__["runs"] = other.runs.assign(mixer=other.runs["mixer"].replace("odm", "odm_released"))
    with pytest.raises(UserError, match="'odm' is mixer 'odm_released' here and 'odm'"):
        profiles.table([named(folder, "one"), other])


def test_runs_of_several_commits_or_machines_are_named_in_the_caption(folder):
    other = named(folder, "two")
    other.__dict__["runs"] = other.runs.assign(commit="fedcba", hardware="another machine")
    text = profiles.caption([named(folder, "one"), other])
    assert "differ in code commit (0123456789abcdef: 30 runs, fedcba: 30 runs)" in text and "another machine" in text
    assert "differ" not in profiles.caption([named(folder, "one")])


def test_the_program_writes_table_and_figure_and_fails_without_a_traceback(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["profiles", str(folder), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="0"):
        profiles.main()
    assert "AC-ODM (proxy)" in (tmp_path / "profiles.md").read_text()
    assert "AC-ODM (proxy)" in (tmp_path / "profiles.svg").read_text()
    assert set(pd.read_csv(tmp_path / "profiles_curve.csv")["counted"]) == set(profiles.WAYS)
    monkeypatch.setattr(sys, "argv", ["profiles", str(folder), str(folder), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="1"):
        profiles.main()
    assert "two folders" in capsys.readouterr().err
