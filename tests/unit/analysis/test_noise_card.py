"""The noise card: what seeds do to the final loss, and what so many of them can tell apart."""

from __future__ import annotations

import math

import fake_results
import numpy as np
import pandas as pd
import pytest

from acodm_analysis import noise
from acodm_analysis.core import frames
from acodm_core.measure.statistical_power import smallest_difference
from acodm_core.results.reader import Results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return Results(fake_results.make(tmp_path_factory.mktemp("eight"), 8, diverged=("odm", 3)))


@pytest.fixture(scope="module")
def card(results):
    return noise.table(results).set_index("method")


def test_the_baseline_comes_first_with_its_own_noise(results, card):
    final = frames.finals(results).query("method == 'natural'")["test_mean"]
    natural = card.loc["natural"]
    assert card.index[0] == "natural" and natural["n"] == 8 and not natural["few"]
    assert natural["sd"] == pytest.approx(final.std(ddof=1))
    assert natural["sd_low"] < natural["sd"] < natural["sd_high"]
    assert natural["sd_of_differences"] == pytest.approx(natural["sd"] * math.sqrt(2))


def test_a_method_is_judged_by_its_paired_differences(results, card):
    final = frames.finals(results).pivot(index="seed", columns="method", values="test_mean")
    gaps = final["acodm"] - final["natural"]
    assert card.loc["acodm", "sd_of_differences"] == pytest.approx(gaps.std(ddof=1))
    assert card.loc["acodm", "difference"] == pytest.approx(gaps.mean())
    for n in (3, 5, 10):
        assert card.loc["acodm", f"detectable_{n}"] == pytest.approx(smallest_difference(gaps.std(ddof=1), n))


def test_failed_runs_are_not_in_it_and_fewer_than_eight_are_marked(card):
    assert card.loc["odm", "n"] == 7 and card.loc["odm", "few"]
    cells = noise.shown(card.reset_index()).set_index("Method")
    assert cells.loc["ODM", "Finished seeds"] == "7 (few)" and cells.loc["AC-ODM", "Finished seeds"] == "8"


def test_one_seed_has_no_noise_to_show(tmp_path):
    one = Results(fake_results.make(tmp_path / "one", 1))
    table = noise.table(one)
    assert table[["sd", "detectable_3"]].isna().all(axis=None)
    assert set(noise.shown(table)["SD (nats)"]) == {"one seed"}
    noise.render(one, tmp_path)
    assert "two finished seeds" in (tmp_path / "noise.svg").read_text()


def test_the_interval_of_a_standard_deviation_covers():
    from acodm_analysis.core.seed_statistics import sd_interval

    sds = np.random.default_rng(0).normal(0, 2.0, (4000, 8)).std(axis=1, ddof=1)
    ends = np.array([sd_interval(sd, 8) for sd in sds])
    assert 0.93 <= np.mean((ends[:, 0] <= 2) & (ends[:, 1] >= 2)) <= 0.97


def test_the_figure_draws_every_method(results, tmp_path):
    noise.render(results, tmp_path)
    svg = (tmp_path / "noise.svg").read_text()
    assert all(f"{title} (n = " in svg for title in ("Natural", "ODM", "AC-ODM (proxy)"))
    assert len(pd.read_csv(tmp_path / "noise_seeds.csv")) == 5 * 8 - 1
