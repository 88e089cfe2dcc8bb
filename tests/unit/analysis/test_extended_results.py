"""What an experiment may add to its results: objective weights, an oracle, axes, trials and what the agents recorded."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET

import fake_results
import numpy as np
import pandas as pd
import pytest

from acodm_analysis import ablation, comparison, curves, diagnostics, domains, regret, render
from acodm_analysis.core import frames, pairs, tables
from acodm_core.errors import UserError
from acodm_core.results.reader import Results


@pytest.fixture(scope="module")
def results(canned_results):
    return canned_results("extended")


@pytest.fixture(scope="module")
def broken(canned_results):
    """One value of the axis was never run, and the values that copy the diverged run diverged with it."""
    return canned_results("extended", broken=True)


@pytest.fixture(scope="module")
def rendered(canned_rendered):
    return canned_rendered("extended")


def changed(results: Results, **experiment) -> Results:
    """The same tables under another description; a key that is None is left out."""
    clone = Results(results.folder)
    clone.experiment = {k: v for k, v in (results.experiment | experiment).items() if v is not None}
    return clone


def test_the_primary_loss_is_weighted_by_the_objective_everywhere(results):
    rows = results.metrics.query("split == 'test' and run == 'odm-s2' and metric == 'loss'").set_index("domain")
    loss = rows["value"].reindex(fake_results.DOMAINS).to_numpy()
    final = frames.finals(results).set_index("run").loc["odm-s2"]
    assert final["test_mean"] == pytest.approx(fake_results.OBJECTIVE @ loss)
    assert final["test_unweighted"] == pytest.approx(loss.mean())
    assert final["test_worst"] == pytest.approx(loss[fake_results.OBJECTIVE > 0].max())
    goal = frames.thresholds(results).set_index("threshold").loc["natural", "loss"]
    natural = frames.losses(results, "valid").query("method == 'natural' and step == 300")["mean"]
    assert goal == pytest.approx(natural.median())
    table = curves.table(results).query("method == 'natural' and step == 300")
    assert table["loss"].item() == pytest.approx(goal)
    row = domains.table(results).set_index(["method", "domain"]).loc[("odm", "objective-weighted mean")]
    assert row["loss"] == pytest.approx(frames.finals(results).query("method == 'odm'")["test_mean"].median())


def test_weights_that_are_all_the_same_change_nothing(results):
    even = changed(results, objective_weights=[1 / 12] * 12)
    old = changed(results, objective_weights=None)
    pd.testing.assert_frame_equal(comparison.table(even), comparison.table(old))
    assert frames.weighting(even) == "" and "test_unweighted" not in comparison.table(even)
    final = frames.finals(old)
    np.testing.assert_allclose(final["test_mean"], final["test_unweighted"], rtol=1e-13)


def test_captions_say_which_mean_it_is(results, rendered):
    for name in ("comparison", "paired", "steps_to_threshold", "domains_perplexity", "ablation_discount", "regret"):
        assert "objective-weighted means over domains (python_code 0.4," in (rendered / f"{name}.md").read_text()
    assert "Objective-weighted mean" in (rendered / "curves.svg").read_text()
    natural = changed(results, objective_weights=list(results.natural_weights.values()))
    assert "weighted by natural share" in comparison.caption(natural)
    assert "test_unweighted" in pd.read_csv(rendered / "comparison.csv")


def test_a_domain_that_does_not_count_must_still_be_there(results):
    clone = Results(results.folder)
    metrics = results.metrics
    clone.__dict__["metrics"] = metrics[(metrics["run"] != "odm-s0") | (metrics["domain"] != "dialogue")]
    final = frames.finals(clone).set_index("run").loc["odm-s0"]
    assert final[["test_mean", "test_worst", "test_natural"]].isna().all()


def test_trials_are_always_shown(results):
    cells = comparison.shown(comparison.table(results), 300).set_index("Method")
    assert cells["Trials"].to_dict()["AC-ODM"] == "24" and cells["Trials"].to_dict()["Natural"] == "0"
    assert "Trials:" in comparison.caption(results)
    for trials in (None, {"acodm_proxy_run": 9}):
        untuned = changed(results, trials=trials)
        assert "Trials:" in comparison.caption(untuned)
        assert set(comparison.short(untuned)["Trials"]) == {"0"}
    assert "Trials" in comparison.printed(results, comparison.table(results))


def test_runs_of_an_axis_stay_out_of_the_comparison(results):
    assert set(frames.finals(results)["method"]) == set(results.compare)
    assert set(comparison.table(results)["method"]) == set(results.compare)
    assert set(pairs.table(results)["method"]) == set(results.compare) - {"natural"}


def test_an_axis_has_a_row_for_every_value_and_for_the_references(results):
    table = ablation.table(results, "discount")
    assert table["label"].tolist() == ["0", "0.9", "0.99", "Uniform", "Natural"]
    assert table["kind"].tolist() == ["value", "base", "value", "reference", "reference"]
    by = table.set_index("label")
    final = frames.finals(results, ["acodm", "acodm-discount-0"]).set_index("run")["test_mean"]
    gaps = [final[f"acodm-discount-0-s{s}"] - final[f"acodm-s{s}"] for s in range(5)]
    assert by.loc["0", "difference"] == pytest.approx(np.mean(gaps))
    assert by.loc["0", "difference_low"] <= by.loc["0", "difference"] <= by.loc["0", "difference_high"]
    assert by.loc["0", "verdict"] == pairs.HIGHER and by.loc["0.9", "verdict"] == "base"
    assert (
        by.loc["0.9", "steps"]
        == frames.crossings(results).query("method == 'acodm' and threshold == 'natural'")["steps"].median()
    )
    dots = ablation.seeds(results, "discount").set_index(["label", "seed"])
    assert dots.loc[("0", 3), "difference"] == pytest.approx(gaps[3])


def test_a_base_that_is_no_value_gets_a_row_and_equal_values_share_one(results):
    axes = {"reward": {"title": "Reward", "of": "acodm", "methods": {"loss": "odm", "gap": "odm"}}}
    table = ablation.table(changed(results, axes=axes), "reward")
    assert table["label"].tolist() == ["AC-ODM", "loss, gap", "Uniform", "Natural"]
    assert table["kind"].tolist() == ["base", "value", "reference", "reference"]


def test_few_seeds_and_failed_runs_have_no_verdict_in_an_axis(broken):
    by = ablation.table(broken, "discount").set_index("label")
    assert by.loc["0", "failed"] == 0.5 and by.loc["0", "statuses"] == "1 diverged, 1 finished"
    assert by.loc["0", "verdict"] == pairs.FAILED and by.loc["0.99", "verdict"] == "not run"
    cells = ablation.shown(ablation.table(broken, "discount"), 300).set_index("Value")
    assert cells.loc["0", "Steps to threshold"].startswith(">300")
    assert set(cells.loc["0.99", ["Test loss", "Failed (%)", "Steps to threshold"]]) == {"not run"}
    two = changed(broken, axes={"x": {"title": "X", "of": "natural", "methods": {"a": "uniform", "b": "natural"}}})
    assert ablation.table(two, "x").set_index("label").loc["a", "verdict"] == "n = 2: no verdict"


def test_regret_is_the_loss_above_the_oracles_on_the_same_seed(results):
    table = regret.table(results).set_index("method")
    final = frames.finals(results).set_index("run")["test_mean"]

    def behind(method):
        return [final[f"{method}-s{s}"] - final[f"oracle-s{s}"] for s in range(5)]

    assert "oracle" not in table.index
    assert table.loc["acodm", "regret"] == pytest.approx(np.median(behind("acodm")))
    share = 1 - np.median(behind("acodm")) / np.median(behind("uniform"))
    assert table.loc["acodm", "closed"] == pytest.approx(share)
    assert table.loc["acodm", "closed_low"] <= share <= table.loc["acodm", "closed_high"]
    assert table.loc["uniform", ["closed", "closed_low", "closed_high"]].tolist() == [0, 0, 0]


def test_distance_is_to_the_oracles_mixture(results):
    table = regret.table(results).set_index("method")
    assert table.loc["uniform", "distance"] == pytest.approx(np.abs(fake_results.OBJECTIVE - 1 / 12).sum() / 2)
    assert table.loc["natural", "distance"] == pytest.approx(
        np.abs(fake_results.OBJECTIVE - fake_results.NATURAL).sum() / 2
    )


def test_no_share_of_a_gap_that_is_not_there(results):
    clone = Results(results.folder)
    metrics = results.metrics.copy()
    metrics.loc[metrics["run"] == "uniform-s0", "value"] -= 1.0  # on this seed uniform beats the oracle
    clone.__dict__["metrics"] = metrics
    table = regret.table(clone)
    assert table["closed"].isna().all() and table["regret"].notna().all()
    assert set(regret.shown(table)["Gap closed (%)"]) == {"no clear gap"}


def test_a_failed_run_closes_nothing(broken):
    table = regret.table(broken).set_index("method")
    assert math.isinf(table.loc["acodm", "regret"]) and table.loc["acodm", "closed"] == -math.inf
    assert math.isfinite(table.loc["acodm_proxy", "closed"])


def test_regret_without_an_oracle_says_what_is_missing(results):
    with pytest.raises(UserError, match="no oracle"):
        regret.table(changed(results, compare=fake_results.COMPARE))


def test_the_oracle_sets_no_threshold(results):
    assert "oracle" in frames.static_methods(results)
    assert frames.thresholds(results).set_index("threshold").loc["best_static", "method"] in ("natural", "uniform")


def test_diagnostics_are_medians_over_seeds_of_short_stretches(results):
    table = diagnostics.table(results)
    row = table.query("name == 'q' and method == 'acodm'").iloc[2]
    mine = results.diagnostics.query("name == 'q' and step > 10 and step <= 15")  # 300 steps in 60 stretches
    means = [mine.loc[mine["run"] == f"acodm-s{s}", "value"].mean() for s in range(5)]
    assert row["step"] == 13
    assert row[["value", "low", "high"]].tolist() == pytest.approx([np.median(means), min(means), max(means)])
    assert table["method"].unique().tolist() == ["acodm", "acodm_proxy"]


def test_a_scalar_without_a_label_has_a_panel_of_its_own(results, rendered):
    names = diagnostics.table(results)["name"].unique().tolist()
    assert names == [*diagnostics.LABELS, "temperature", *diagnostics.DRAWN]
    drawn = (rendered / "diagnostics.svg").read_text()
    assert all(diagnostics.label(name) in drawn for name in names) and "Temperature" in drawn


def test_drawn_shares_are_compared_with_requested_ones(results):
    rows = results.mixture.query("run == 'acodm-s1'").pivot(index="step", columns="domain")
    gap = (rows["drawn"] - rows["requested"]).to_numpy()
    clone = Results(results.folder)
    clone.__dict__["mixture"] = results.mixture[results.mixture["run"] == "acodm-s1"]
    by = diagnostics.table(clone).query("method == 'acodm'").set_index(["name", "step"])["value"]
    assert by["drawn_step", 298] == pytest.approx(np.abs(gap[295:]).sum(axis=1).mean() / 2)
    so_far = np.abs(gap.cumsum(axis=0) / np.arange(1, 301)[:, None]).sum(axis=1) / 2
    assert by["drawn_so_far", 298] == pytest.approx(so_far[295:].mean())


def test_nothing_recorded_is_said_in_the_figure(results, tmp_path):
    clone = Results(results.folder)
    clone.__dict__["diagnostics"] = results.diagnostics.iloc[:0]
    diagnostics.render(clone, tmp_path)
    assert "recorded" in (tmp_path / "diagnostics.svg").read_text()
    assert pd.read_csv(tmp_path / "diagnostics.csv").empty


def test_what_an_experiment_adds_is_drawn(rendered):
    for name in ("ablation_discount", "regret", "diagnostics"):
        ET.fromstring((rendered / f"{name}.svg").read_text())
        assert (rendered / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_what_an_experiment_does_not_have_is_not_rendered(results, tmp_path):
    plain = changed(results, compare=fake_results.COMPARE, axes={})
    known, fewer = ({one.module for one in render.outputs_of(each)} for each in (results, plain))
    assert known - fewer == {"regret", "ablation"}
    ablation.render(plain, tmp_path)
    assert not list(tmp_path.iterdir())


def test_broken_results_render(broken, tmp_path):
    for output, name in ((ablation, "ablation_discount"), (regret, "regret"), (diagnostics, "diagnostics")):
        output.render(broken, tmp_path)
        ET.fromstring((tmp_path / f"{name}.svg").read_text())
        for table in tmp_path.glob(f"{name}.md"):
            _, rows, _ = tables.read_markdown(table.read_text())
            assert rows and not any(cell in ("nan", "inf", "-inf") for row in rows for cell in row)


def test_old_results_have_none_of_it(tmp_path):
    old = Results(fake_results.make(tmp_path, 1))
    assert (
        json.loads((tmp_path / "experiment.json").read_text())
        .keys()
        .isdisjoint({"axes", "objective_weights", "trials"})
    )
    assert old.axes == {} and frames.uniformly_weighted(old) and diagnostics.table(old).empty
