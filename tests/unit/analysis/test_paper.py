"""The AC-ODM paper's tables beside ours: its rows and columns, never a row that mixes its domains with ours."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pandas as pd
import pytest

from acodm_analysis.core import frames
from acodm_analysis.core.tables import read_markdown
from acodm_analysis.pages.paper import render_paper
from acodm_analysis.paper import curves, domains, measures, published_tables
from acodm_analysis.paper.published import published
from acodm_core.results.reader import Results

AXES = {
    "granularity": {"title": "Domains the agent sees", "of": "acodm", "methods": {
        "all": "acodm", "half, merged by two": "acodm-discount-0", "quarter, merged by four": "acodm-discount-0.99"}},
    "proxy_size": {"title": "Model that the actor was learned on", "of": "acodm_proxy", "methods": {
        "the proxy": "acodm_proxy", "a smaller one": "acodm-discount-0.99"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def results(canned_results):
    clone = Results(canned_results("extended").folder)
    clone.experiment = clone.experiment | {"axes": AXES}
    return clone


@pytest.fixture(scope="module")
def rendered(results, tmp_path_factory):
    out = tmp_path_factory.mktemp("paper")
    render_paper(results, out)
    return out


def cells(rendered, name: str) -> tuple[list[str], list[list[str]]]:
    header, rows, _ = read_markdown((rendered / f"paper_{name}.md").read_text())
    return header, rows


def test_rows_are_the_papers_with_its_values_and_ours_beside_them(results, rendered):
    header, rows = cells(rendered, "cost")
    assert [row[0] for row in rows] == ["ODM", "PiKE", "AC-ODM", "AC-ODM-160M", "AC-ODM-410M", published_tables.NO_ROW]
    by = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert by["AC-ODM"]["Steps to ODM's final perplexity, published"] == "28356"
    assert by["AC-ODM"]["Agent parameters, published"] == "17M"
    ours = measures.steps_to(results, "acodm", "odm")
    assert by["AC-ODM"]["Steps to ODM's final perplexity"].startswith(f"{ours.value:.0f} [")
    assert by["ODM"]["End-to-end speed-up (×)"] == "1.00" and by["ODM"]["Steps to ODM's final perplexity"] == "300"
    assert by["PiKE"]["Here"] == "not run" and by["PiKE"]["Seconds a step"] == "not run"
    assert by["AC-ODM-410M"]["Seconds a step, published"] == "not known"


def test_numbers_stand_in_the_csv_unrounded(results, rendered):
    numbers = pd.read_csv(rendered / "paper_cost.csv").set_index("row")
    assert numbers.loc["AC-ODM", "steps"] == pytest.approx(measures.steps_to(results, "acodm", "odm").value)
    assert numbers.loc["AC-ODM", "step_seconds_published"] == 2.48


def test_each_variant_that_was_run_has_a_line_and_the_published_value_stands_once(results):
    runs = results.runs.copy()
    runs.loc[runs["method"] == "acodm-discount-0", "method"] = "acodm_paper"
    clone = Results(results.folder)
    clone.__dict__["runs"], clone.experiment = runs, results.experiment | {"axes": {}}
    _, numbers, shown, _ = published_tables.downstream_table(clone)
    lines = shown[shown["Paper's row"].isin(["AC-ODM", ""])]
    assert numbers.loc[numbers["row"] == "AC-ODM", "method"].tolist() == ["acodm_paper", "acodm"]
    assert lines["MMLU 0-shot, published"].tolist() == ["0.251", ""]


def test_published_domains_and_ours_never_share_a_row(results, rendered):
    _, theirs = cells(rendered, "domains_published")
    _, ours = cells(rendered, "domains")
    assert not {row[0] for row in theirs} & {row[0] for row in ours}
    assert [row[0] for row in ours] == [*results.domains, "mean over domains", "exp of the objective-weighted mean"]
    # The paper's mean is that of the domains' perplexities.
    known = domains.table(results).query("method == 'acodm'").set_index("domain")["perplexity"]
    last = frames.by_domain(results, "test").map(math.exp).mean(axis=1).droplevel("step")
    assert known["mean over domains"] == pytest.approx(last[[f"acodm-s{seed}" for seed in range(5)]].median())
    assert theirs[0] == ["mean over 22 domains", "14.0", "13.7", "13.4", "13.0", "11.2", ""]


def test_axes_fill_the_tables_of_granularity_and_proxies(rendered):
    header, rows = cells(rendered, "granularity")
    assert [row[0] for row in rows] == ["22", "11", "5", published_tables.NO_ROW]
    change = dict(
        zip([row[0] for row in rows], [row[header.index("Above all domains (%)")] for row in rows], strict=True)
    )
    assert change["22"] == "+0.0" and change["11"].startswith("+3.") and change["5"].startswith("−0.")
    header, rows = cells(rendered, "proxy")
    assert [row[header.index("Here")] for row in rows] == ["acodm-discount-0.99", "AC-ODM (proxy)", "Uniform"]
    rows = rows[:2]
    steps = [row[header.index("Steps to ODM's final perplexity")] for row in rows]
    assert all(re.match(r"\d+ \[", cell) for cell in steps)
    assert all(re.match(r"\d\.\d\d \[", row[-1]) for row in rows)  # in FLOPs: the probe has not timed the first


def test_only_a_llama_shaped_model_fills_the_llama_table(results, rendered):
    _, rows = cells(rendered, "llama")
    assert rows[0][-1] == "not run"
    clone = Results(results.folder)
    clone.experiment = results.experiment | {"model": "cpu-mini-llama"}
    _, numbers, *_ = published_tables.llama_table(clone)
    assert math.isfinite(numbers["fewer_steps"].iloc[0])


def test_curves_stand_in_panels_of_their_own_with_their_crossings(results, rendered):
    frame = pd.read_csv(rendered / "paper_curves.csv")
    assert set(frame["panel"]) == {"published", "here"}
    assert set(frame.loc[frame["panel"] == "here", "method"]) <= set(results.compare)
    marks = pd.read_csv(rendered / "paper_marks.csv").set_index(["panel", "method"])
    assert marks.loc[("published", "acodm"), "fewer"] == pytest.approx(31.95, abs=1)
    assert marks.loc[("published", "acodm_proxy"), "fewer"] == pytest.approx(71.2, abs=1)
    ours = measures.fewer_steps(results, "acodm", "odm").value
    assert marks.loc[("here", "acodm"), "fewer"] == pytest.approx(ours)


def test_figures_are_whole_and_named(rendered):
    for name in ("paper_curves", "paper_domains_figure", "paper_axes"):
        ET.fromstring((rendered / f"{name}.svg").read_text())
        assert (rendered / f"{name}.png").stat().st_size > 10_000
    assert "AC-ODM-410M" in (rendered / "paper_curves.svg").read_text()
    assert set(pd.read_csv(rendered / "paper_axes.csv")["axis"]) == set(AXES)


def test_one_page_shows_everything_at_the_scale_that_was_run(rendered):
    text = (rendered / "paper.md").read_text()
    assert "Here: target (2.9M parameters), 300 steps" in text
    for name in ("Downstream", "Cost", "Granularity", "Llama", "Proxy", "Validation curves of the paper, and here"):
        assert f"## {name}" in text


def test_results_with_little_in_them_render_as_not_run(canned_results, tmp_path):
    broken = canned_results("extended", broken=True)
    render_paper(broken, tmp_path)
    assert not list(tmp_path.glob("paper_axes*")) and "paper_axes" not in (tmp_path / "paper.md").read_text()
    assert "never" in (tmp_path / "paper_cost.md").read_text() or "not run" in (tmp_path / "paper_cost.md").read_text()


def test_every_row_of_every_published_table_has_a_name(results):
    known = published()
    for name, table in known.tables.items():
        if name != "domains":
            assert all(known.row(row) for row in table.rows)
    assert set(curves.table(results).query("panel == 'published'")["of"]) == set(known.tables["validation"].rows)
