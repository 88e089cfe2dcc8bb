"""What a table may judge: one rule for small n, lower bounds with their sign, the strongest cheap baseline in every comparison."""

from __future__ import annotations

import math
import re
from pathlib import Path

import fake_results
import numpy as np
import pandas as pd
import pytest

from acodm_analysis import amortised, comparison, currencies, domains, paired, profiles
from acodm_analysis.core import costs, frames, pairs, seed_statistics, tables
from acodm_analysis.pages.verdicts import verdicts
from acodm_core.results.reader import Results

ANALYSIS = Path(seed_statistics.__file__).parents[1]


@pytest.fixture(scope="module")
def results(canned_results):
    return canned_results("plain")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two seeds of everything."""
    return Results(fake_results.make(tmp_path_factory.mktemp("two"), 2))


def test_the_rule_for_small_n_stands_in_one_place():
    for path in ANALYSIS.rglob("*.py"):
        found = re.findall(r"[<>]=? *MIN_SEEDS|MIN_SEEDS *[<>]|(?:\bn|len\([^()]*\)) *(?:<|>=) *5\b", path.read_text())
        assert bool(found) == (path.name == "seed_statistics.py"), (path.name, found)


def test_two_seeds_are_judged_nowhere(two):
    cells = paired.shown(pairs.tables(two), two)
    for name in ("Interquartile mean", "P(improvement)", "p (Holm)"):
        assert set(cells[name]) == {"n = 2"}
    assert set(cells["Verdict"]) == {"n = 2: no verdict"}
    frame = comparison.table(two)
    for name in ("verdict_against_baseline", "verdict_against_cheap"):
        assert set(frame[name]) == {"n = 2: no verdict", "itself"}
    assert frame["test_mean_iqm"].isna().all() and "no verdict" in comparison.caption(two)
    over = profiles.table([two])
    assert over[["score", "score_low", "fastest"]].isna().all(axis=None) and profiles.steps([two]).empty
    cells = profiles.shown(over)
    assert set(cells["Score (steps)"]) == set(cells["Fastest (steps)"]) == {"n = 2"}
    texts = [entry["verdict"] for entry in verdicts(two, frame, pairs.tables(two))]
    assert set(texts) == {"n = 2: no verdict"}


def test_no_difference_of_two_seeds_is_bold(two, results):
    def bold(of: Results) -> int:
        figure = domains.draw(domains.table(of), domains.reference(of))
        return sum(text.get_fontweight() == "bold" for ax in figure.axes for text in ax.texts)

    assert bold(two) == 0 and bold(results) > 0


def runs(alone: list[float], whole: float = 300.0) -> pd.DataFrame:
    return pd.DataFrame({"method": "natural", "steps_alone": alone, "steps_run": whole})


@pytest.mark.parametrize(
    ("alone", "expected"),
    [
        ([290.0, 295.0, 300.0, math.inf, math.inf], (300.0, True)),  # the median seed gets there with its last step
        ([math.inf] * 5, (300.0, True)),
        ([200.0, math.inf], (300.0, True)),  # of two the median is none
        ([200.0, 210.0, 220.0, 230.0, math.inf], (220.0, False)),
    ],
)
def test_a_baseline_that_gets_there_with_its_last_step_or_never_is_a_lower_bound(alone, expected):
    assert costs.reference(runs(alone), "natural", "steps") == expected


def test_every_speed_up_over_a_censored_baseline_begins_with_its_sign(results):
    frame = comparison.table(results)
    assert frame["baseline_bound"].all() and not frame["cheap_bound"].any()  # uniform gets there before its end
    cells = comparison.shown(frame, fake_results.STEPS).set_index("Method")
    for name in ("Fewer steps (%)", "Speed-up alone (×)", "Speed-up all in (×)"):
        assert not cells.loc["Natural", name].startswith("≥")
        others = cells.loc[cells.index != "Natural", name]
        assert (others.str.startswith("≥") | (others == "never")).all()
    assert not cells["All in, over cheap (×)"].str.startswith("≥").any()
    texts = " ".join(entry["text"] for entry in verdicts(results, frame, pairs.tables(results)))
    assert "at least" in texts and "at most" in texts


@pytest.mark.parametrize(
    ("text", "shown"), [("1.20", "≥1.20"), ("−3.1", "≥−3.1"), ("never", "never"), ("not run", "not run")]
)
def test_words_are_no_lower_bounds(text, shown):
    assert tables.at_least(text, True) == shown and tables.at_least(text, False) == text


def with_objective_weights(folder: Path, lower: float) -> Results:
    """Canned results with a method that draws by the objective's weights, ``lower`` (nats) than uniform."""
    made = Results(fake_results.make(folder, 5))
    one = made.runs[made.runs["method"] == "uniform"]
    rename = {run: run.replace("uniform", "objective") for run in one["run"]}
    clone = one.assign(run=one["run"].map(rename), method="objective", mixer="objective", title="Objective weights")
    known = {name: getattr(made, name) for name in ("metrics", "mixture")}
    made.__dict__["runs"] = pd.concat([made.runs, clone], ignore_index=True)
    for name, table in known.items():
        rows = table[table["run"].isin(rename)].assign(run=lambda frame: frame["run"].map(rename))
        if name == "metrics":
            rows["value"] -= lower
        made.__dict__[name] = pd.concat([table, rows], ignore_index=True)
    made.experiment = made.experiment | {"compare": [*made.compare, "objective"]}
    return made


@pytest.mark.parametrize(("lower", "best"), [(0.05, "objective"), (-0.05, "uniform")])
def test_methods_stand_against_the_better_of_uniform_and_the_objectives_weights(tmp_path, lower, best):
    made = with_objective_weights(tmp_path, lower)
    assert frames.strongest_cheap(made) == best and frames.held_against(made) == ["natural", best]
    frame = comparison.table(made).set_index("method")
    own = costs.per_run(made).groupby("method")["flops_all_in"].median()
    assert frame.loc["acodm", "flops_all_in_speedup_over_cheap"] == pytest.approx(own[best] / own["acodm"])
    assert set(pairs.tables(made)["against"]) == {"natural", best}
    assert best in set(amortised.table(made)["method"]) and frame.loc[best, "verdict_against_cheap"] == "itself"
    ledger = currencies.table(made).set_index(["threshold", "horizon", "method", "currency", "way"]).sort_index()
    runs_ = costs.per_run(made).set_index(["method", "seed"])["flops_all_in"]
    ratios = (
        np.minimum(runs_[best], costs.per_run(made).set_index(["method", "seed"])["flops_run"][best]) / runs_["acodm"]
    )
    at = ledger.loc[("natural", frames.FIXED, "acodm", "flops", "all_in")]
    assert at["cheap_speedup"] == pytest.approx(np.median(ratios))


def test_without_a_cheap_baseline_the_cells_say_not_run(tmp_path):
    made = Results(fake_results.make(tmp_path, 5))
    made.experiment = made.experiment | {"compare": ["natural", "odm"]}
    cells = comparison.shown(comparison.table(made), fake_results.STEPS).set_index("Method")
    assert frames.held_against(made) == ["natural"] and set(cells["Against cheap"]) == {"not run"}
    assert set(cells["All in, over cheap (×)"]) == {"not run"} and "cheap: not run" in comparison.caption(made)


@pytest.mark.filterwarnings("error")
def test_a_table_of_one_method_alone_is_made_without_a_warning(tmp_path):
    made = Results(fake_results.make(tmp_path, 2))
    made.experiment = made.experiment | {"compare": ["natural"]}
    row = comparison.table(made).iloc[0]
    assert (row["verdict_against_baseline"], row["verdict_against_cheap"]) == ("itself", "not run")


LONG = dict(zip(fake_results.COMPARE, (
    "Natural", "Uniform", "ODM with AC-ODM's uniform part", "AC-ODM without critic (mirror ascent)",
    "AC-ODM (released code) from proxy",
), strict=True))  # fmt: skip


@pytest.mark.parametrize("broken", [False, True])
def test_the_printed_table_fits_80_columns_and_cuts_no_word(canned_results, capsys, monkeypatch, broken):
    monkeypatch.setenv("COLUMNS", "80")
    made = Results(canned_results("plain", broken).folder)
    made.experiment = made.experiment | {"titles": LONG, "trials": {"acodm": 48}}
    comparison.show(made)
    printed = capsys.readouterr().out
    table = printed[: printed.index("Medians over seeds")]
    assert max(map(len, printed.splitlines())) <= 80 and "in brackets" not in printed
    words = set(table.split())
    for name in comparison.printed(made, comparison.table(made)).columns:
        assert set(name.split()) <= words, name
    for title in LONG.values():
        assert set(title.split()) <= words, title
    assert "48" in words and ("* AC-ODM" in table) == broken


def test_no_page_holds_a_table_of_results_written_by_hand():
    """A cell with an interval is a result: it comes from the board. Old ones stay in dated logs."""
    docs = Path(__file__).parents[3] / "docs"
    pages = [path for path in docs.rglob("*.md") if path.parent.name != "log"]
    assert len(pages) > 10
    for page in pages:
        if "Generated from `board/" in page.read_text(encoding="utf-8"):
            continue
        for line in page.read_text(encoding="utf-8").splitlines():
            assert not re.search(r"^\|.*\d \[[−+]?\d[\d.]*, [−+>]?\d", line), f"{page.name}: {line}"
