"""Scores as they are reported: what knowing nothing scores, what seeds and questions add to the error, what nobody can see."""

from __future__ import annotations

import math

import fake_results
import pandas as pd
import pytest

from acodm_analysis import contamination, downstream
from acodm_analysis.render import outputs_of
from acodm_core.results.reader import Results

SAME = downstream.SAME


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results(fake_results.asked(fake_results.make(tmp_path_factory.mktemp("asked"), 5)))


@pytest.fixture(scope="module")
def table(results):
    return downstream.table(results)


@pytest.fixture(scope="module")
def cells(results, table):
    return downstream.shown(table, downstream.skipped(results), results)


def row(table: pd.DataFrame, method: str, task: str, metric: str, shots: int = 0) -> pd.Series:
    found = table[(table.method == method) & (table.task == task) & (table.metric == metric) & (table.shots == shots)]
    (one,) = found.to_dict("records")
    return pd.Series(one)


def test_seeds_share_their_questions_so_their_error_does_not_shrink():
    assert downstream.pooled([0.3] * 5, [0.01] * 5) == (pytest.approx(0.3), pytest.approx(0.01))
    value, error = downstream.pooled([0.2, 0.4], [0.0, 0.0])
    assert (value, error) == (pytest.approx(0.3), pytest.approx(0.1))
    assert downstream.pooled([0.3], [0.02]) == (pytest.approx(0.3), pytest.approx(0.02))


def test_none_or_all_right_is_no_certainty():
    none, all_right, some, bits = downstream.error_of([0, 1, 0.5, 2.0], [0, 0, 0.039, 0], [164, 164, 164, 164])
    one = 1 / 164
    assert none == all_right == pytest.approx(math.sqrt(one * (1 - one) / 164))
    assert some == 0.039 and bits == 0


@pytest.mark.parametrize(
    ("value", "other", "smallest", "word"),
    [(0.26, 0.25, 0.02, SAME), (0.28, 0.25, 0.02, "higher"), (0.2, 0.25, 0.02, "lower"), (0.2, math.nan, 0.02, ""),
     (0.0, 0.0, 0.0, SAME), (0.2, 0.25, math.nan, "")],
)  # fmt: skip
def test_a_word_is_said_only_where_the_difference_is_larger_than_what_can_be_seen(value, other, smallest, word):
    assert downstream.against(value, other, smallest) == word


def test_a_score_whose_interval_holds_chance_is_not_distinguishable(table):
    level = table[table.chance.notna()]
    holds = (level.score - level.chance).abs() <= 1.96 * level.standard_error
    assert holds.any() and not holds.all()
    assert ((level.against_chance == SAME) == holds).all()
    assert (table[table.chance.isna()].against_chance == "").all()


def test_a_difference_under_the_detectable_one_is_not_distinguishable(table):
    others = table[table.method != "natural"]
    under = others.difference.abs() <= others.detectable
    assert under.any() and not under.all()
    assert ((others.against_baseline == SAME) == under).all()
    assert table[table.method == "natural"].difference.isna().all()


def test_the_detectable_difference_is_that_of_two_scores_of_so_many_questions(table):
    one = row(table, "odm", "humaneval", "pass@1")
    p = 1 / 164
    assert one.detectable == pytest.approx((1.960 + 0.8416) * math.sqrt(2 * p * (1 - p) / 164), rel=1e-3)
    assert (one.score, one.low, one.against_chance, one.n) == (0, 0, SAME, 164)


def test_every_score_stands_beside_its_error_its_n_and_what_could_be_seen(cells):
    one = cells[(cells["Method"] == "ODM") & (cells["Task"] == "mmlu") & (cells["Measure"] == "accuracy")].iloc[0]
    low, high = (float(end) for end in one["Score"].split("[")[1].rstrip("]").split(", "))
    assert float(one["Error"]) == pytest.approx((high - low) / 2 / 1.96, abs=1e-4)
    assert (one["n"], one["Chance"]) == ("14\u202f042", "0.25") and float(one["Detectable"]) > 0


def test_two_seeds_call_no_difference(tmp_path):
    few = downstream.table(Results(fake_results.asked(fake_results.make(tmp_path, 2), 2)))
    others = few[few.method != "natural"]
    assert (others.difference.abs() > others.detectable).any()
    assert (others.against_baseline == "no verdict").all()
    assert set(few.against_chance) <= {"", SAME, "no verdict"}


def test_what_was_skipped_stands_in_the_table_with_its_reason(cells):
    last = cells.iloc[-1]
    assert (last["Method"], last["Task"], last["Score"]) == ("All", "arc_easy", "not run")
    assert last["Note"].startswith("skipped: its data are on the Hugging Face hub")


def test_prompts_that_did_not_fit_are_told_beside_the_scores_they_concern(cells):
    notes = cells[cells["Method"] == "ODM"].set_index(["Task", "Measure"])["Note"]
    assert notes["mmlu, 5-shot", "accuracy"] == "0.83 of 5 shots fit, 4.12 % of prompts cut"
    assert notes["humaneval", "pass@1"] == "25 % of prompts too long to answer"
    assert notes["mmlu", "accuracy"] == notes["humaneval", "bits per byte"] == ""


def test_no_cell_is_bold(results, tmp_path):
    for module in (downstream, contamination):
        module.render(results, tmp_path)
    assert (
        "**" not in (tmp_path / "downstream.md").read_text() and "bf" not in (tmp_path / "downstream.tex").read_text()
    )
    for name in ("downstream.svg", "downstream.png", "contamination.md", "contamination.csv"):
        assert (tmp_path / name).stat().st_size > 0


def test_several_checkpoints_are_drawn_against_step_and_the_last_is_in_the_table(tmp_path):
    found = Results(fake_results.asked(fake_results.make(tmp_path, 2), 2, steps=(0, 150, 300)))
    table = downstream.table(found)
    cells = downstream.shown(table, downstream.skipped(found), found)
    assert len(cells) == len(table[table.step == 300]) + 1
    axes = downstream.draw(table, found.compare).axes
    drawn = [ax for ax in axes if ax.axison]
    assert len(drawn) == len(downstream.drawn(table)) and drawn[-1].get_xlabel() == "Steps"
    line = next(line for line in axes[0].lines if getattr(line, "acodm_part", {}).get("method") == "odm")
    assert line.get_xdata().tolist() == [0, 150, 300]


def test_one_checkpoint_is_a_dot_a_method_and_a_line_for_chance(table, results):
    axes = downstream.draw(table, results.compare).axes
    assert [label.get_text() for label in axes[0].get_yticklabels()] == [
        fake_results.TITLES[m] for m in results.compare
    ]
    assert 0.25 in [line.get_xdata()[0] for line in axes[0].lines]


def test_overlap_is_counted_by_domain():
    frame = contamination.table({"benchmarks": {"humaneval": {
        "questions": 164, "too_short": 3, "met": 4, "domains": {"code": 3, "books": 0, "web": 2}}}})  # fmt: skip
    (shown,) = contamination.shown(frame).to_dict("records")
    assert (shown["Met in the training text"], shown["By domain"]) == ("4", "code 3, web 2")


def test_results_that_were_asked_nothing_have_no_such_table(results, canned_results):
    known = {one.module for one in outputs_of(results)}
    assert known - {one.module for one in outputs_of(canned_results("plain"))} == {"downstream", "contamination"}


@pytest.mark.parametrize("copies", [1, 5])
def test_no_number_on_an_axis_meets_the_next(table, copies):
    """At the figure's own size, with five methods and with five times as many."""
    frame = pd.concat([table.assign(method=table["method"] + "x" * i) for i in range(copies)], ignore_index=True)
    figure = downstream.draw(frame, list(dict.fromkeys(frame["method"])))
    figure.draw_without_rendering()
    shown = [(ax, label) for ax in figure.axes if ax.axison for label in ax.get_xticklabels()]
    boxes = [label.get_window_extent() for ax, label in shown if label.get_text() and _inside(ax, label)]
    assert len(boxes) > 8
    assert not [(one, other) for i, one in enumerate(boxes) for other in boxes[:i] if one.overlaps(other)]
    plots = sorted({ax.get_position().y0 for ax in figure.axes})
    gap = (plots[1] - plots[0] - figure.axes[0].get_position().height) * figure.get_figheight()
    assert 0.3 < gap < 1.0, "inches between two rows of panels, however many methods there are"


def _inside(ax, label) -> bool:
    low, high = sorted(ax.get_xlim())
    return low <= label.get_position()[0] <= high
