"""The cost ledger: four currencies to three thresholds, both horizon rules, reuse of a phase, and equal compute."""

from __future__ import annotations

import json
import math

import fake_results
import numpy as np
import pandas as pd
import pytest

from acodm_analysis import amortised, comparison, compute_matched, cost, currencies
from acodm_analysis.core import costs, frames, probed
from acodm_core.results.reader import Results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results(fake_results.make(tmp_path_factory.mktemp("five"), 5, diverged=("odm", 3)))


@pytest.fixture(scope="module")
def ledger(results):
    return currencies.table(results).set_index(["threshold", "horizon", "method", "currency", "way"]).sort_index()


def changed(results: Results, **tables: pd.DataFrame) -> Results:
    """The same results with other tables."""
    clone = Results(results.folder)
    clone.__dict__.update(tables)
    return clone


def trained_to(
    results: Results, steps: int, lower: float, method: str = "acodm", seeds: range = range(1, 2)
) -> Results:
    """The same with a method trained to another horizon on these seeds, its losses ``lower`` (nats) than the compared run's."""
    runs, metrics = [results.runs], [results.metrics]
    for seed in seeds:
        source, run = f"{method}-s{seed}", f"{method}-s{seed}-{steps}"
        row = results.runs[results.runs["run"] == source].assign(run=run, compared=False, steps=steps)
        row[["model_flops", "method_flops"]] *= steps / fake_results.STEPS
        values = results.metrics[results.metrics["run"] == source].assign(run=run)
        values["step"] = (values["step"] * steps / fake_results.STEPS).round().astype(int)
        values["value"] -= lower
        runs, metrics = [*runs, row], [*metrics, values]
    return changed(results, runs=pd.concat(runs, ignore_index=True), metrics=pd.concat(metrics, ignore_index=True))


def test_every_currency_is_proportional_to_the_steps_to_the_threshold(results, ledger):
    for threshold in frames.THRESHOLDS:
        found = frames.crossings(results).query("threshold == @threshold and method == 'acodm'")["steps"]
        at = ledger.loc[threshold, frames.FIXED, "acodm"]["cost"]
        assert at["steps", "alone"] == pytest.approx(np.median(found))
        assert at["tokens", "alone"] == pytest.approx(np.median(found) * fake_results.BATCH * fake_results.CONTEXT)
        run = results.runs.set_index("run").loc["acodm-s0"]
        each = (run["model_flops"] + run["method_flops"]) / run["steps"]
        assert at["flops", "alone"] == pytest.approx(np.median(found) * each)
        seconds = costs.step_seconds(results)["acodm", "target"]
        assert at["seconds", "alone"] == pytest.approx(np.median(found) * seconds)


def test_all_in_adds_the_ancestors_in_every_currency(results, ledger):
    proxy = results.runs.set_index("run").loc["acodm_proxy_run-s0"]
    at = ledger.loc["natural", frames.FIXED, "acodm_proxy"]["cost"]
    assert at["steps", "all_in"] - at["steps", "alone"] == pytest.approx(proxy["steps"])
    assert at["tokens", "all_in"] - at["tokens", "alone"] == pytest.approx(proxy["tokens"])
    assert at["flops", "all_in"] - at["flops", "alone"] == pytest.approx(proxy["model_flops"] + proxy["method_flops"])


def test_a_censored_cost_is_greater_than_the_whole_run(results, ledger):
    natural = ledger.loc["uniform", frames.FIXED, "natural"]
    assert math.isinf(natural.loc[("steps", "alone"), "cost"]) and natural.loc[("steps", "alone"), "reached"] == 2
    cells = currencies.shown(ledger.reset_index(), results).set_index(["To", "Method"])
    assert cells.loc[("uniform", "Natural"), "Steps"].startswith(">300")
    assert cells.loc[("uniform", "Natural"), "FLOPs, alone"].startswith(">4.28e13")
    assert cells.loc[("uniform", "Natural"), "Seeds there"] == "2/5"


def test_a_failed_run_reaches_nothing_and_is_counted(ledger):
    odm = ledger.loc["natural", frames.FIXED, "odm"].loc[("flops", "all_in")]
    assert (odm["n"], odm["reached"]) == (5, 4) and math.isinf(odm["high"])
    assert odm["speedup_low"] == -math.inf


def test_the_paired_speed_up_is_seed_by_seed_and_a_bound_where_the_baseline_is_censored(results, ledger):
    runs = costs.per_run(results).set_index(["method", "seed"])
    ratios = []
    for seed in range(5):
        alone, whole = runs.loc[("natural", seed), ["flops_alone", "flops_run"]]
        ratios.append((whole if math.isinf(alone) else alone) / runs.loc[("acodm_proxy", seed), "flops_all_in"])
    at = ledger.loc["natural", frames.FIXED, "acodm_proxy"].loc[("flops", "all_in")]
    assert at["speedup"] == pytest.approx(np.median(ratios)) and at["bound"]
    assert at["speedup_low"] == pytest.approx(min(ratios)) and at["speedup_high"] == pytest.approx(max(ratios))
    cells = currencies.shown(ledger.reset_index(), results).set_index(["To", "Method"])
    assert cells.loc[("natural", "AC-ODM (proxy)"), "Paired speed-up, all in (×)"].startswith("≥1.")


def test_the_matched_horizon_was_not_run(results, ledger):
    assert ledger.xs(frames.MATCHED, level="horizon")["cost"].isna().all()
    cells = currencies.shown(ledger.reset_index(), results)
    assert set(cells["Steps, matched horizon"]) == {"not run"}


def test_the_matched_horizon_is_the_shortest_schedule_that_ended_at_the_threshold(results):
    good, bad = trained_to(results, 160, 0.3), trained_to(results, 160, -0.3)
    for one, steps in ((good, 160), (bad, 300)):
        found = frames.matched_crossings(one).query("threshold == 'natural'").set_index(["method", "seed"])["steps"]
        assert found["acodm", 1] == steps and found.drop("natural").isna().sum() == 19
        assert set(found["natural"]) == {300, math.inf}, "the threshold is where its own schedule ends"
    row = costs.per_run(good, "natural", frames.MATCHED).set_index("run").loc["acodm-s1"]
    assert row["flops_alone"] == pytest.approx(row["flops_run"] * 160 / 300)


def test_a_run_to_another_horizon_stays_out_of_the_comparison(results):
    pd.testing.assert_frame_equal(comparison.table(trained_to(results, 160, 0.3)), comparison.table(results))


def test_a_swarm_costs_the_sum_of_its_runs(results):
    runs = results.runs.copy()
    more = runs[runs["run"] == "acodm_proxy_run-s0"].assign(run="acodm_proxy_run.01-s0")
    runs = pd.concat([runs, more], ignore_index=True)
    both = ["acodm_proxy_run-s0", "acodm_proxy_run.01-s0"]
    runs.loc[runs["method"] == "acodm_proxy", "ancestors"] = json.dumps(both)
    clone = changed(results, runs=runs, metrics=results.metrics)
    each = float(more["model_flops"].item() + more["method_flops"].item())
    upfront = costs.per_run(clone).query("method == 'acodm_proxy'")["flops_upfront"]
    assert upfront.tolist() == pytest.approx([2 * each] * 5)
    bar = cost.bars(clone).query("method == 'acodm_proxy' and phase == 'acodm_proxy_run' and currency == 'flops'")
    assert bar["cost"].item() == pytest.approx(2 * each)


def test_energy_is_shown_where_the_device_reported_it(results):
    assert set(cost.shown(cost.table(results))["Energy, all in (kJ)"]) == {"not reported"}
    metered = changed(results, runs=results.runs.assign(joules=1500.0))
    cells = cost.shown(cost.table(metered)).set_index("Method")["Energy, all in (kJ)"]
    assert cells["AC-ODM"] == "1.5" and cells["AC-ODM (proxy)"] == "3.0"
    half = results.runs["run"].str.startswith("acodm_proxy_run")
    unknown = changed(results, runs=results.runs.assign(joules=np.where(half, np.nan, 1500.0)))
    assert (
        cost.shown(cost.table(unknown)).set_index("Method").loc["AC-ODM (proxy)", "Energy, all in (kJ)"]
        == "not reported"
    )


def test_a_phase_is_spread_over_its_reuses_and_breaks_even_where_the_ledger_says(results):
    table = amortised.table(results).query("currency == 'flops'")
    assert set(table["method"]) == {"uniform", "acodm_proxy"}
    level, table = table.query("cheap"), table.query("not cheap")
    assert (
        set(level["method"]) == {"uniform"} and np.ptp(level["ratio"]) == 0
    )  # what pays for no phase costs the same each time
    row = cost.table(results).set_index("method").loc["acodm_proxy"]
    by = table.set_index("reuses")["cost"]
    assert by[1] == pytest.approx(row["flops_all_in"], rel=1e-9)
    assert by[100] == pytest.approx(row["flops_alone"] + row["flops_upfront"] / 100, rel=1e-9)
    assert (table["ratio"] < 1).equals(table["reuses"] >= row["flops_break_even"])


def test_no_phase_no_reuse(results, tmp_path):
    clone = changed(results)
    clone.experiment = results.experiment | {"compare": ["natural", "uniform", "acodm"]}
    assert set(amortised.table(clone)["method"]) == {"uniform"}
    amortised.render(clone, tmp_path)
    assert "pays for a phase" in (tmp_path / "amortised.svg").read_text()


def test_cheap_baselines_are_static_and_free_and_the_oracle_is_none(tmp_path):
    assert compute_matched.cheap(Results(fake_results.extended(tmp_path, 2))) == ["natural", "uniform"]


def test_equal_compute_reads_existing_curves_and_extrapolates_nothing(results):
    table = compute_matched.table(results).set_index("method")
    assert list(table.index) == ["odm", "acodm", "acodm_proxy"]
    row, uniform = table.loc["acodm_proxy"], costs.per_run(results).query("method == 'uniform'")["flops_run"].iloc[0]
    assert row["whole_flops"] > uniform and math.isnan(row["whole_cheap_loss"]), "no cheap run was trained that far"
    # One plain run's compute: what the proxy left of it pays for so many of the target run's steps.
    runs = costs.per_run(results).set_index("run").loc["acodm_proxy-s0"]
    last = 20 * ((uniform - runs["flops_upfront"]) / runs["flops_run"] * 300 // 20)
    curves = frames.losses(results, "valid")
    curve = curves[(curves["method"] == "acodm_proxy") & (curves["step"] == last)]["mean"]
    assert row["plain_loss"] == pytest.approx(curve.median())
    assert row["plain_cheap"] == "Uniform"
    assert row["difference_low"] < row["difference"] < row["difference_high"]
    at = 20 * (row["threshold_flops"] / uniform * 300 // 20)
    theirs = curves[curves["step"] == at].groupby("method")["mean"].median()
    assert row["threshold_cheap_loss"] == pytest.approx(min(theirs["natural"], theirs["uniform"]))


def test_a_longer_cheap_run_is_what_the_whole_compute_would_have_bought(results):
    before = compute_matched.table(results).set_index("method").loc["acodm_proxy"]
    step = costs.per_run(results).query("method == 'uniform'")["flops_run"].iloc[0] / fake_results.STEPS
    enough = int(before["whole_flops"] / step)
    for steps, known in ((enough, True), (enough - 2, False), (2 * enough, True)):
        longer = trained_to(results, steps, 0.05, "uniform", range(5))
        row = compute_matched.table(longer).set_index("method").loc["acodm_proxy"]
        assert (row["whole_cheap"] == "Uniform") == known
        assert row["whole_loss"] == before["whole_loss"] and row["plain_cheap_loss"] == before["plain_cheap_loss"]
    final = frames.finals(results).query("method == 'uniform'")["valid_mean"].median()
    both = trained_to(trained_to(results, 2 * enough, 9.0, "uniform", range(5)), enough, 0.05, "uniform", range(5))
    row = compute_matched.table(both).set_index("method").loc["acodm_proxy"]
    assert row["whole_cheap_loss"] == pytest.approx(final - 0.05), (
        "of two trainings the one that was planned to end there"
    )
    assert row["plain_loss"] == before["plain_loss"]


def test_a_budget_spent_up_front_and_a_failed_run_are_said(results):
    runs = results.runs.copy()
    runs.loc[runs["method"] == "acodm_proxy_run", "model_flops"] *= 100
    cells = compute_matched.shown(compute_matched.table(changed(results, runs=runs))).set_index("Method")
    assert cells.loc["AC-ODM (proxy)", "Loss at one plain run's compute"] == "spent up front"
    assert cells.loc["ODM", "Difference (nats)"] == "failed"


def test_the_probe_and_the_table_of_overheads_print_one_interval(canned_results):
    from acodm_core.lm.overhead import summary

    results = canned_results("plain")
    printed = " ".join(summary(results.probe))
    for row in probed.table(results).itertuples():
        cell = f"{row.time_ratio:.4f} of plain [{row.time_ratio_low:.4f}, {row.time_ratio_high:.4f}]"
        assert cell in printed
