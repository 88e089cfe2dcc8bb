"""Every output on a canned results folder: complete, a diverged run, no probe, two seeds."""

from __future__ import annotations

import json
import math
import re
import sys
import xml.etree.ElementTree as ET

import fake_results
import numpy as np
import pandas as pd
import pytest

from acodm_analysis import comparison, cost, curves, domains, mixtures, overhead, repetition
from acodm_analysis.core import costs, frames, pairs, panels, probed, style, tables
from acodm_analysis.pages.verdicts import notes, verdicts
from acodm_core.results.reader import Results

FIGURES = (
    "curves",
    "steps_to_threshold",
    "domains",
    "mixtures",
    "diagnostics",
    "overhead",
    "cost",
    "amortised",
    "noise",
)
TABLES = ("comparison", "paired", "steps_to_threshold", "domains_perplexity", "repetition", "overhead", "cost")
TABLES += ("currencies", "compute_matched", "noise")


@pytest.fixture(scope="module")
def results(canned_results):
    return canned_results("plain")


@pytest.fixture(scope="module")
def broken(canned_results):
    """ODM was never run."""
    return canned_results("plain", broken=True)


@pytest.fixture(scope="module")
def rendered(canned_rendered):
    return canned_rendered("plain")


@pytest.fixture(scope="module")
def rendered_broken(canned_rendered):
    return canned_rendered("plain", broken=True)


def test_threshold_is_the_median_final_loss_of_natural(results):
    rows = results.metrics.query("split == 'valid' and step == 300 and metric == 'loss'")
    means = [rows[rows["run"] == f"natural-s{seed}"]["value"].mean() for seed in range(5)]
    goals = frames.thresholds(results).set_index("threshold")
    assert goals.loc["natural", "loss"] == pytest.approx(np.median(means))
    assert goals.loc["best_static", "method"] in ("natural", "uniform")
    assert goals.loc["best_static", "loss"] == pytest.approx(goals["loss"].min())


def test_finals_use_the_declared_means(results):
    rows = results.metrics.query("split == 'test' and run == 'odm-s2' and metric == 'loss'").set_index("domain")[
        "value"
    ]
    final = frames.finals(results).set_index("run").loc["odm-s2"]
    assert final["test_mean"] == pytest.approx(rows.mean())
    assert final["test_worst"] == pytest.approx(rows.max())
    assert final["test_natural"] == pytest.approx(sum(rows[d] * w for d, w in results.natural_weights.items()))
    assert final["test_mean_of_perplexities"] == pytest.approx(np.exp(rows).mean())


def test_a_missing_domain_makes_a_mean_unknown_not_smaller(results, tmp_path):
    metrics = results.metrics
    gone = (metrics["run"] == "odm-s0") & (metrics["domain"] == "dialogue") & (metrics["split"] == "test")
    clone = Results(results.folder)
    clone.__dict__["metrics"] = metrics[~gone]
    assert math.isnan(frames.finals(clone).set_index("run").loc["odm-s0", "test_mean"])


def test_ancestors_are_charged_in_full_and_once(results):
    runs = results.runs.set_index("run")
    own, proxy = runs.loc["acodm_proxy-s1"], runs.loc["acodm_proxy_run-s1"]
    clone = Results(results.folder)
    twice = results.runs.copy()
    twice.loc[twice["run"] == "acodm_proxy-s1", "ancestors"] = json.dumps(["acodm_proxy_run-s1"] * 2)
    clone.__dict__["runs"] = twice
    for one in (results, clone):
        row = costs.per_run(one).set_index("run").loc["acodm_proxy-s1"]
        upfront = proxy["model_flops"] + proxy["method_flops"]
        assert row["flops_upfront"] == pytest.approx(upfront)
        assert row["flops_alone"] == pytest.approx((own["model_flops"] + own["method_flops"]) * row["steps"] / 300)
        assert row["flops_all_in"] == pytest.approx(row["flops_alone"] + upfront)
    others = costs.per_run(results).query("method != 'acodm_proxy'")
    assert (others["flops_upfront"] == 0).all()


def test_a_missing_ancestor_makes_the_cost_unknown(results):
    clone = Results(results.folder)
    clone.__dict__["runs"] = results.runs[results.runs["run"] != "acodm_proxy_run-s1"]
    rows = costs.per_run(clone).set_index("run")
    assert math.isnan(rows.loc["acodm_proxy-s1", "flops_all_in"])
    assert math.isfinite(rows.loc["acodm_proxy-s0", "flops_all_in"])


def test_seconds_are_steps_times_probed_step_time(results):
    probe = results.probe.query("method == 'acodm' and arm == 'method' and part == 'step'")["seconds"].median()
    row = costs.per_run(results).set_index("run").loc["acodm-s0"]
    assert row["seconds_run"] == pytest.approx(300 * probe)


@pytest.mark.parametrize(
    ("upfront", "saved", "runs"), [(0, 1, 0), (10, 4, 3), (10, 5, 2), (10, 0, math.inf), (10, -1, math.inf)]
)
def test_break_even(upfront, saved, runs):
    assert costs.break_even(upfront, saved) == runs


def test_paired_differences_are_by_seed(results):
    final = frames.finals(results).set_index("run")["test_mean"]
    row = pairs.table(results).set_index("method").loc["acodm"]
    assert row["difference"] == pytest.approx(
        np.mean([final[f"acodm-s{s}"] - final[f"natural-s{s}"] for s in range(5)])
    )
    assert row["verdict"] == pairs.LOWER and row["holm"] >= row["p"]


def test_fewer_than_five_seeds_have_no_verdict(broken):
    table = pairs.table(broken).set_index("method")
    assert table.loc["uniform", "verdict"] == "n = 2: no verdict"
    assert table.loc["odm", "verdict"] == "not run"
    assert table["holm"].isna().all()


def test_a_diverged_run_stays_in_the_tables(broken):
    table = comparison.table(broken).set_index("method")
    assert table.loc["acodm", "statuses"] == "1 diverged, 1 finished"
    assert math.isinf(table.loc["acodm", "test_mean"]) and math.isinf(table.loc["acodm", "steps"])
    cells = comparison.shown(table.reset_index(), 300).set_index("Method")
    assert cells.loc["AC-ODM", "Steps to threshold"].startswith(">300")
    assert "diverged" in cells.loc["AC-ODM", "Seeds"]
    assert set(cells.loc["ODM", ["Seeds", "Test loss", "Steps to threshold", "Fewer steps (%)"]]) == {"not run"}
    assert set(cells["Step time (×)"]) == {"not run"}


def test_verdicts_and_notes_say_only_what_is_there(results, broken):
    for one, few in ((results, False), (broken, True)):
        main = comparison.table(one)
        text = " ".join(v["text"] for v in verdicts(one, main, pairs.tables(one)))
        said = " ".join(notes(one, main, repetition.table(one)))
        assert "nan" not in text and "inf" not in text.replace("infinite", "")
        assert ("too few for a verdict" in text) == few and ("Holm's p" in text) != few
        assert text.count("At least one run failed") == few and "p 0.000" not in text
        assert ("Fewer than 5 seeds" in said) == few
        assert ("probe was not run" in said) == few and ("1 diverged" in said) == few


def test_overhead_interval_holds_the_ratio(results):
    table = probed.table(results).set_index("method")
    assert (table["time_ratio_low"] <= table["time_ratio"]).all() and (
        table["time_ratio"] <= table["time_ratio_high"]
    ).all()
    assert table.loc["acodm", "time_ratio"] == pytest.approx(1.08, abs=0.02)
    parts = overhead.parts(results).groupby("method")["seconds"].sum()
    assert parts["acodm"] == pytest.approx(table.loc["acodm", "step_seconds"], rel=0.02)


def test_a_cpu_without_device_memory_is_not_called_not_run(results):
    clone = Results(results.folder)
    clone.__dict__["memory"] = results.memory.assign(device_bytes=0)
    assert set(overhead.shown(probed.table(clone))["Peak device memory (× plain)"]) == {"no device"}


def test_the_gradients_by_themselves_is_reported_where_it_was_timed(results):
    assert overhead.gradients_alone(results) == ""
    plain = results.probe.query("arm == 'plain' and part == 'step'")
    clone = Results(results.folder)
    measured = plain.assign(arm="gradients", seconds=plain["seconds"] * 1.04)
    clone.__dict__["probe"] = pd.concat([results.probe, measured], ignore_index=True)
    assert "1.040" in overhead.gradients_alone(clone)
    pd.testing.assert_frame_equal(probed.table(clone), probed.table(results))


def test_repetition_adds_up_to_the_run(results):
    table = repetition.table(results)
    total = fake_results.STEPS * fake_results.BATCH * fake_results.CONTEXT
    natural = table[table["method"] == "natural"]
    assert natural["asked_tokens"].sum() == pytest.approx(total)
    dialogue = table.set_index(["method", "domain"]).loc[("uniform", "dialogue")]
    assert dialogue["epochs"] == pytest.approx(total / 12 / 20_000, rel=0.05) and dialogue["flag"]
    assert not natural["flag"].any()


def test_mixture_and_domain_tables_keep_the_declared_order(results):
    assert mixtures.table(results)["method"].unique().tolist() == fake_results.COMPARE
    assert domains.table(results).query("method == 'odm'")["domain"].tolist() == [
        *fake_results.DOMAINS,
        "mean over domains",
    ]
    reference = domains.table(results).query("method == 'uniform'")["difference"]
    assert (reference == 0).all()


def test_marks_of_the_curves_are_those_of_the_main_table(results):
    found = curves.marks(results).set_index(["threshold", "method"])
    for threshold in ("natural", "uniform"):
        main = comparison.table(results, threshold).set_index("method")
        for method in ("odm", "acodm"):
            assert found.loc[(threshold, method), "steps"] == main.loc[method, "steps"]
            assert found.loc[(threshold, method), "fewer"] == pytest.approx(
                main.loc[method, "fewer_steps_than_baseline"]
            )


def test_medians_decide_what_a_curve_shows_and_bands_may_leave_it():
    rows = pd.DataFrame({"loss": [3.0, 3.3], "loss_low": [2.99, 3.2], "loss_high": [3.01, 9.0]})
    assert curves._limits(rows, "loss", bands=True) == pytest.approx((2.99 - 0.018, 3.4 + 0.018))
    assert curves._limits(rows, "loss", bands=False) == pytest.approx((2.982, 3.318))


def test_a_method_far_off_leaves_the_axes_and_the_baseline_never():
    ends = pd.Series({"a": 3.0, "b": 3.1, "natural": 3.2, "c": 3.15, "far": 5.0})
    assert panels.near(ends, "natural") == ["a", "b", "c", "natural"]
    assert panels.near(ends.rename({"natural": "far", "far": "natural"}), "natural") == [
        "a",
        "b",
        "c",
        "far",
        "natural",
    ]
    assert panels.near(ends[["a", "far"]], "a") == ["a", "far"]


def test_every_cell_of_a_coloured_table_is_its_number(results, rendered):
    drawn = ET.fromstring((rendered / "domains.svg").read_text())
    cells = domains.table(results).query("method == 'odm'")
    groups = [g for g in drawn.iter("{http://www.w3.org/2000/svg}g") if g.get("data-method") == "odm"]
    texts = [text.text for group in groups for text in group.iter("{http://www.w3.org/2000/svg}text")]
    by_share = cells.sort_values("natural", ascending=False, kind="stable", na_position="last")
    assert texts == [domains._text(value) for value in by_share["difference"]]
    assert [domains._text(value) for value in (0.0004, -0.0123, -3.25, math.nan)] == ["0", "−0.012", "−3.25", "not run"]


def test_known_colours_are_fixed():
    assert style.colours(["acodm", "mine"])["acodm"] == style.KNOWN["acodm"]
    assert style.colours(["mine"])["mine"] == style.colours(["acodm", "mine", "odm"])["mine"]
    assert len(set(style.KNOWN.values())) == len(style.KNOWN)


@pytest.mark.parametrize("which", ["rendered", "rendered_broken"])
def test_every_output_is_written(which, request):
    out = request.getfixturevalue(which)
    for name in FIGURES:
        ET.fromstring((out / f"{name}.svg").read_text())
        assert (out / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (out / f"{name}.csv").stat().st_size > 0
    for name in TABLES:
        for suffix in (".csv", ".md", ".tex"):
            text = (out / f"{name}{suffix}").read_text()
            assert text and (suffix == ".csv" or "nan" not in re.findall(r"[a-z]+", text))


def test_figures_are_the_same_bytes_twice(results, rendered, tmp_path):
    for module, name in ((cost, "cost"), (overhead, "overhead")):
        module.render(results, tmp_path)
        for suffix in (".svg", ".png", ".csv"):
            assert (tmp_path / f"{name}{suffix}").read_bytes() == (rendered / f"{name}{suffix}").read_bytes()


def test_programs_explain_themselves_and_fail_without_a_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cost", "--help"])
    with pytest.raises(SystemExit, match="0"):
        tables.program("cost", cost.__doc__, cost.render)
    told = capsys.readouterr().out
    assert "RESULTS" in told and "example:" in told and "Break-even" in told
    monkeypatch.setattr(sys, "argv", ["cost", str(tmp_path), str(tmp_path)])
    with pytest.raises(SystemExit, match="1"):
        tables.program("cost", cost.__doc__, cost.render)
    assert "experiment.json: file not found" in capsys.readouterr().err


def test_the_main_table_prints(results, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    comparison.show(results)
    told = capsys.readouterr().out
    assert "AC-ODM (proxy)" in told and "perplexity" in told and "fixed-horizon" in told
