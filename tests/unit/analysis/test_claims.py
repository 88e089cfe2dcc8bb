"""Claims: what was published is read and checked, measured by named functions, and judged by one rule."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acodm_analysis import claims, plausibility
from acodm_analysis.core import frames
from acodm_analysis.paper import measures
from acodm_analysis.paper.measures import Measured
from acodm_analysis.paper.published import Claim, published
from acodm_core.results.reader import Results
from acodm_core.results.table_files import write_scores


@pytest.fixture(scope="module")
def results(canned_results):
    return canned_results("extended")


@pytest.fixture(scope="module")
def table(results):
    return claims.table(results)


def claim(side: str = "above", none: float | None = 0.0, value: float | None = 30.0) -> Claim:
    return Claim(
        name="a", of="acodm", says="A", value=value, none=none, side=side, setting="", source="", unmeasured="no function"
    )  # fmt: skip


def changed(results: Results, **experiment) -> Results:
    """The same tables under another description."""
    clone = Results(results.folder)
    clone.experiment = results.experiment | experiment
    return clone


AT_MOST = {"side": "at most", "none": None, "value": 1.02}


@pytest.mark.parametrize(
    ("of", "found", "verdict", "size"),
    [
        ({}, (20, 25, 5), "reproduced", "smaller"),
        ({}, (20, 35, 5), "reproduced", "as reported"),
        ({}, (31, 35, 5), "reproduced", "larger"),
        ({}, (-1, 25, 5), "not distinguishable", "smaller"),
        ({}, (-1, 31, 5), "not distinguishable", "as reported"),
        ({}, (-9, -1, 5), "contradicted", "smaller"),
        ({}, (-math.inf, -1, 5), "contradicted", "smaller"),
        ({}, (0, 5, 5), "not distinguishable", "smaller"),
        ({}, (20, 35, 4), "no verdict", ""),
        ({}, (math.nan, math.nan, 5), "not distinguishable", "as reported"),
        ({"side": "below", "none": 1.0, "value": 0.2}, (0.3, 0.5, 5), "reproduced", "smaller"),
        ({"side": "below", "none": 1.0, "value": 0.2}, (0.1, 0.3, 5), "reproduced", "as reported"),
        ({"side": "below", "none": 1.0, "value": 0.2}, (1.1, math.inf, 5), "contradicted", "smaller"),
        ({"value": None}, (2, 3, 5), "reproduced", ""),
        (AT_MOST, (1.0, 1.02, 6), "reproduced", ""),
        (AT_MOST, (1.0, 1.03, 6), "not distinguishable", ""),
        (AT_MOST, (1.021, 1.03, 6), "contradicted", ""),
        (AT_MOST, (1.0, 1.01, 3), "no verdict", ""),
    ],
)
def test_the_rule_for_verdicts_case_by_case(of, found, verdict, size):
    low, high, n = found
    measured = Measured(value=22.0, low=low, high=high, n=n)
    assert claims.verdict(measured, claim(**of)) == verdict
    if not math.isnan(low):
        assert claims.size(measured, claim(**of)) == size


def test_what_was_not_measured_is_not_run():
    assert claims.verdict(Measured(why="no probe"), claim()) == "not run"
    assert claims.size(Measured(), claim()) == ""


ENDS = st.tuples(st.floats(-100, 100), st.floats(-100, 100)).map(sorted)


@given(ENDS, st.integers(5, 30))
def test_a_claim_and_its_mirror_image_get_the_same_verdict(ends, n):
    low, high = ends
    one = claims.verdict(Measured(0.0, low, high, n), claim())
    other = claims.verdict(Measured(0.0, -high, -low, n), claim(side="below", value=-30.0))
    assert one == other


@given(ENDS, st.floats(0, 1), st.floats(0, 1), st.integers(5, 30))
def test_a_narrower_interval_never_overturns_a_verdict(ends, start, part, n):
    low, high = ends
    inner_low = low + start * (high - low)
    inner = Measured(0.0, inner_low, inner_low + part * (high - inner_low), n)
    wide = claims.verdict(Measured(0.0, low, high, n), claim())
    if wide != "not distinguishable" and low < inner.low <= inner.high < high:
        assert claims.verdict(inner, claim()) == wide


def test_every_claim_has_a_row_and_what_is_not_run_says_why(table):
    assert set(table["claim"]) == {one.name for one in published().claims}
    assert set(table["verdict"]) <= set(claims.VERDICTS)
    idle = table[table["verdict"] == "not run"]
    assert (idle["why"] != "").all() and idle["measured"].isna().all()
    run = table[table["verdict"] != "not run"]
    assert run[["model", "parameters", "tokens", "corpus", "hardware"]].notna().all().all()
    assert len(run) > 8


def test_fewer_steps_are_counted_to_the_others_final_loss(results):
    final = frames.finals(results, ["odm"])["valid_mean"].median()
    curve = frames.losses(results, "valid", ["acodm"]).query("run == 'acodm-s0'")
    before = curve[curve["mean"] > final]["step"].max()
    found = measures._steps(results, "acodm", final, measures.LOSS)
    assert before <= found[0] <= before + 20
    whole = measures.fewer_steps(results, "acodm", to="odm", mean=measures.LOSS)
    assert whole.n == 5 and whole.value == pytest.approx(100 * (1 - found.median() / 300))
    never = measures.fewer_steps(results, "natural", to="oracle")
    assert never.value == -math.inf and claims.verdict(never, claim()) == "contradicted"


def test_perplexities_are_compared_seed_by_seed(results):
    final = frames.finals(results).pivot(index="seed", columns="method", values="valid_mean")
    gap = float((final["acodm"] - final["odm"]).mean())
    found = measures.lower_perplexity(results, "acodm", "odm", mean=measures.LOSS)
    assert found.value == pytest.approx(100 * (1 - math.exp(gap)))
    assert found.low < found.value < found.high and found.n == 5


def test_a_claim_about_mean_perplexities_is_measured_on_mean_perplexities(results, table):
    """The papers average the domains' perplexities; exp of the mean loss stands beside that, with its own verdict."""
    last = frames.by_domain(results, "valid").query("step == 300").map(math.exp).mean(axis=1).droplevel("step")
    gaps = [math.log(last[f"acodm_proxy-s{seed}"] / last[f"odm-s{seed}"]) for seed in range(5)]
    row = table.set_index("claim").loc["acodm-proxy-perplexity-odm"]
    assert row["measured"] == pytest.approx(100 * (1 - math.exp(np.mean(gaps))))
    final = frames.finals(results).pivot(index="seed", columns="method", values="valid_mean")
    by_loss = 100 * (1 - math.exp((final["acodm_proxy"] - final["odm"]).mean()))
    assert row["by_loss"] == pytest.approx(by_loss) and abs(by_loss - row["measured"]) > 0.1
    cell = claims.shown(table, results).set_index("Claim").filter(like="perplexity below ODM", axis=0).iloc[0]
    assert cell["By exp of the mean loss"].startswith(f"{by_loss:.1f} [")


def test_every_claim_about_perplexity_takes_the_papers_mean():
    import inspect

    for one in published().claims:
        if one.measure and (found := inspect.signature(measures.MEASURES[one.measure.name]).parameters.get("mean")):
            assert one.measure.arguments.get("mean", found.default) == measures.PERPLEXITIES


@pytest.mark.parametrize("name", ["acodm-agent-size", "acodm-step-time", "acodm-memory"])
def test_what_the_papers_agent_costs_is_tested_on_the_papers_agent_or_not_run(table, results, name):
    assert "acodm_paper" not in set(results.runs["method"]) and "acodm" in set(results.runs["method"])
    row = table.set_index("claim").loc[name]
    assert (row["verdict"], row["method"]) == ("not run", "") and "(paper)" in row["why"]


def test_a_figure_that_the_source_does_not_print_says_what_it_was_derived_from(table, results):
    cells = claims.shown(table, results).assign(claim=table["claim"]).groupby("claim")["Reported"].first()
    assert cells["acodm-fewer-steps"] == "31.95 % (derived: 28,356 of 41,667 steps)"
    assert cells["acodm-step-time"] == "≤ 1.004 × (printed: +0.4 %)"
    assert cells["acodm-domains-pike"] == "77.3 % of domains (printed: 17 of 22 domains)"
    assert cells["acodm-proxy-fewer-steps-pile-weights"] == "80 %"


def test_seventeen_of_twenty_two_domains_is_given_to_neither_variant_alone(results):
    one = next(one for one in published().claims if one.name == "acodm-domains-pike")
    known = published()
    ran = [method for method, *_ in claims.measure(results, one.model_copy(update={"measure": one.measure.model_copy(
        update={"arguments": {"method": "acodm_either", "than": "odm"}})}), known)]  # fmt: skip
    assert ran == ["acodm", "acodm_proxy"]


def test_a_never_is_not_averaged_with_a_number(canned_results):
    """Of two seeds one diverged and the other is 1.1 times as fast: the median is "never", not half of it."""
    broken = canned_results("extended", broken=True)
    found = measures.speedup(broken, "acodm", "natural", "flops")
    assert (found.value, found.n, found.high > 1) == (-math.inf, 2, True)
    row = pd.Series({"verdict": "no verdict", "measured": found.value, "low": found.low, "high": found.high,
                     "unit": "×", "bound": False})  # fmt: skip
    assert claims.measured(row).startswith("never [never, 1.")


def test_a_rival_that_never_gets_there_makes_the_saving_a_lower_bound(results):
    found = measures.fewer_steps(results, "acodm_proxy", to="acodm", than="natural")
    assert found.bound and 0 < found.value < 100
    row = pd.Series({"verdict": "reproduced", "measured": 12.0, "low": 11.0, "high": 13.0, "unit": "%", "bound": True})
    assert claims.measured(row) == "≥12.0 [11.0, 13.0]"


def test_the_proxy_is_charged_in_the_speed_up(results):
    alone, all_in = (measures.speedup(results, name, "natural") for name in ("acodm", "acodm_proxy"))
    steps = measures.steps_to(results, "acodm_proxy", "natural").value
    seconds = {name: measures.step_time(results, name).value for name in ("natural", "acodm_proxy")}
    uncharged = 300 * seconds["natural"] / (steps * seconds["acodm_proxy"])
    assert all_in.value < 0.9 * uncharged
    assert alone.value > all_in.value


def test_domains_and_step_times_are_measured_against_the_other_method(results):
    won = measures.domains_won(results, "acodm", "natural")
    assert 0 <= won.low <= won.value <= won.high <= 100 and won.n == 5
    time = measures.time_ratio(results, "acodm", "odm")
    assert time.unit == "blocks" and time.n == 12 and time.value == pytest.approx(1.08 / 1.01, abs=0.02)
    memory = measures.memory_ratio(results, "acodm", "odm")
    assert memory.value == pytest.approx(1.06, abs=0.02) and memory.n == 3


def test_a_variant_is_compared_with_its_own_kind(results):
    """The repaired proxy method stands against the repaired method, not against the paper's."""
    (row,) = claims.measure(
        results, next(one for one in published().claims if one.name.endswith("non-proxy")), published()
    )
    assert row[:3] == ("acodm_proxy", "repaired", "acodm")


def test_claims_of_other_corpora_and_models_are_measured_only_there(results, table):
    rows = table.set_index("claim")
    assert rows.loc["acodm-proxy-fewer-steps-llama", "why"] == "the model is target, not of llama"
    assert "not of slimpajama" in rows.loc["acodm-proxy-fewer-steps-slimpajama", "why"]
    llama = claims.table(changed(results, model="cpu-mini-llama")).set_index("claim")
    assert llama.loc["acodm-proxy-fewer-steps-llama", "n"] == 5


def test_values_of_an_axis_stand_for_what_the_paper_varied(results):
    axes = {"granularity": {"title": "Domains", "of": "acodm", "methods": {
        "all": "acodm", "half, merged by two": "acodm-discount-0", "quarter, merged by four": "acodm-discount-0.99"}}}  # fmt: skip
    rows = claims.table(changed(results, axes=axes)).set_index("claim")
    half = rows.loc["acodm-granularity-half"]
    assert (half["method"], half["against"], half["verdict"]) == ("acodm", "acodm-discount-0", "reproduced")
    assert rows.loc["acodm-granularity-quarter", "verdict"] == "contradicted"


@pytest.fixture
def evaluated(results, tmp_path):
    """The same results with MMLU scores: AC-ODM's proxy method above ODM, both near chance; HumanEval solved by nobody."""

    def row(run: str, task: str, metric: str, value: float, n: int, chance: float, **more) -> dict:
        error = math.sqrt(max(value * (1 - value), 1e-9) / n)
        return {"run": run, "step": 300, "task": task, "shots": 0, "metric": metric, "value": value, "n": n} | {
            "standard_error": error, "chance": chance, **more}  # fmt: skip

    rows = []
    for seed in range(5):
        for method, score in (("odm", 0.25), ("acodm_proxy", 0.30)):
            run = f"{method}-s{seed}"
            rows.append(row(run, "mmlu", "accuracy", score, 14042, 0.25))
            rows.append(row(run, "mmlu", "accuracy", 0.9, 100, 0.25, subject="anatomy"))
            rows.append(row(run, "mmlu", "accuracy", 0.1, 14042, 0.25) | {"step": 150})
            rows.append(row(run, "humaneval", "pass@1", 0.0, 164, 0.0))
    for path in results.folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    write_scores(rows, tmp_path / "downstream.parquet")
    return Results(tmp_path)


def test_downstream_claims_are_measured_where_scores_exist(results, evaluated, table):
    assert (table[table["claim"].str.contains("mmlu|humaneval")]["verdict"] == "not run").all()
    level = measures.accuracy(evaluated, "acodm_proxy", "mmlu", 0)
    assert level.value == pytest.approx(30) and level.high - level.low == pytest.approx(4 * 0.387, abs=0.05)
    rows = claims.table(evaluated).set_index("claim")
    assert rows.loc["acodm-proxy-mmlu-0", "verdict"] == "reproduced"
    assert rows.loc["acodm-proxy-mmlu-0", "measured"] == pytest.approx(5.0)
    assert "solved nothing" in rows.loc["acodm-proxy-humaneval", "why"]
    assert rows.loc["acodm-proxy-mmlu-5", "verdict"] == "not run"
    chance = measures.accuracy(evaluated, "odm", "mmlu", 0)
    assert chance.low < 25 < chance.high


def test_few_seeds_failed_runs_and_no_probe_are_judged_by_the_rule(canned_results):
    rows = claims.table(canned_results("extended", broken=True))
    assert set(rows["verdict"]) == {"no verdict", "not run"}
    assert rows.set_index("claim").loc["acodm-speed-up", "why"].startswith("the probe has not timed")
    steps = rows[rows["claim"] == "acodm-fewer-steps"].iloc[0]
    assert steps["low"] == -math.inf


def test_the_printed_table_says_what_its_rows_are(results, table, tmp_path):
    for module in (claims, plausibility):
        module.render(results, tmp_path)
    text = (tmp_path / "claims.md").read_text()
    assert "Repaired by this benchmark" in text and "read their rows beside `objective`" in text
    kept = pd.read_csv(tmp_path / "claims.csv")
    np.testing.assert_allclose(kept["measured"], table["measured"].astype(float), rtol=1e-9)
    assert "fits" in (tmp_path / "plausibility.md").read_text()
