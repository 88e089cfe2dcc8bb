"""Figures that misled once: each shows what was measured, seed by seed, on scales that others do not set."""

from __future__ import annotations

import fake_results
import numpy as np
import pandas as pd
import pytest

from acodm_analysis import amortised, cost, diagnostics, mixtures, repetition, steps_to_threshold
from acodm_analysis.core import style
from acodm_analysis.paper import domains, published_tables
from acodm_core.results.reader import Results


@pytest.fixture(scope="module")
def results(canned_results):
    return canned_results("plain")


def test_a_mixture_is_drawn_seed_by_seed_and_never_as_a_median(results):
    """Seeds in opposite corners: half of each is a mixture that nobody asked for."""
    mixture = results.mixture.copy()
    first, second = fake_results.DOMAINS[:2]
    for seed, corner in ((0, first), (1, second), (2, first), (3, second), (4, first)):
        mine = mixture["run"] == f"acodm-s{seed}"
        mixture.loc[mine, "requested"] = (mixture.loc[mine, "domain"] == corner).astype(float)
    clone = Results(results.folder)
    clone.__dict__["mixture"] = mixture
    frame = mixtures.table(clone).query("method == 'acodm' and domain == @first")
    assert set(frame["share"]) == {0.0, 1.0} and frame["seed"].nunique() == 5
    figure = mixtures.draw(mixtures.table(clone), "natural")
    lines = [line for line in figure.axes[0].lines if line.get_color() == style.KNOWN["acodm"]]
    assert sorted(line.get_ydata()[0] for line in lines) == [0.1, 100.0]  # equal seeds lie on each other


def test_reuse_of_a_phase_stands_beside_the_cheap_baseline(results):
    figure = amortised.draw(amortised.table(results), style.colours(results.compare), "Natural")
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "Uniform (no phase)" in names and "AC-ODM (proxy)" in names


def test_a_panel_that_was_not_run_keeps_its_ticks_apart(canned_results):
    broken = canned_results("extended", broken=True)
    figure = amortised.draw(amortised.table(broken), style.colours(broken.compare), "Natural")
    for ax in figure.axes:
        assert ax.get_xlim()[0] < amortised.REUSES[0] and ax.get_xlim()[1] > amortised.REUSES[-1]


def test_no_bar_needs_hatching_which_browsers_drop(results):
    titles = results.experiment["titles"]
    order = {method: titles[method] for method in results.compare}
    figures = [cost.draw(cost.bars(results), titles, "natural")]
    figures.append(steps_to_threshold.draw(steps_to_threshold.table(results), order, fake_results.STEPS))
    for figure in figures:
        patches = [patch for ax in figure.axes for patch in ax.patches]
        assert patches and not any(patch.get_hatch() for patch in patches)
    looks = {patch.get_facecolor() for ax in figures[0].axes for patch in ax.patches}
    assert len(looks) > len(results.compare)  # a phase has a colour of its own


def test_equal_thresholds_share_a_panel(results):
    frame = steps_to_threshold.table(results)
    assert len(steps_to_threshold.distinct(frame)) == 2  # uniform is the best static mixture here
    apart = frame.assign(set_by=frame["set_by"].where(frame["threshold"] != "best_static", "temperature"))
    assert len(steps_to_threshold.distinct(apart)) == 3


def test_one_large_method_does_not_flatten_the_others():
    rows = [
        ("reward", method, method, step, size * (1 + step), 0.0, size * (2 + step))
        for method, size in (("acodm", 1.0), ("acodm_proxy", 1.2), ("hds", 1e4))
        for step in range(5)
    ]
    frame = pd.DataFrame(rows, columns=["name", "method", "title", "step", "value", "low", "high"])
    for kept in (frame, frame[frame["method"] != "acodm_proxy"]):
        figure = diagnostics.draw(kept, style.colours(["acodm", "acodm_proxy", "hds"]))
        (ax, *_) = figure.axes
        assert ax.get_ylim()[1] < 20 and [text.get_text() for text in ax.texts] == ["off the axis: to 5e+04"]


@pytest.mark.parametrize("size", [1e-4, 0.3, 30.0])
def test_epochs_are_told_apart_by_colour_whatever_their_size(results, size):
    frame = repetition.table(results)
    frame["epochs"] *= size / frame["epochs"].max()
    frame["flag"] = frame["epochs"] > repetition.EPOCHS_FLAG
    figure = repetition.draw(frame)
    shades = [np.mean(patch.get_facecolor()[:3]) for patch in figure.axes[0].patches]
    assert max(shades) - min(shades) > 0.15


def test_the_papers_tables_show_the_cheap_baseline(results):
    makers = (
        published_tables.downstream_table,
        published_tables.cost_table,
        published_tables.proxy_table,
        published_tables.llama_table,
        published_tables.granularity_table,
    )
    for make in makers:
        _, numbers, cells, _ = make(results)
        assert numbers["method"].iloc[-1] == "uniform" and cells["Here"].iloc[-1] == "Uniform"
    assert "uniform" in set(domains.table(results)["method"])
