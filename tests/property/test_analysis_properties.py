"""What must hold for any input: crossings, corrections, labels, colours, tables."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as some

from acodm_analysis import regret
from acodm_analysis.core import seed_statistics as st
from acodm_analysis.core import style, tables

losses = some.lists(some.floats(0.1, 10), min_size=2, max_size=20)
probabilities = some.lists(some.floats(0, 1), min_size=1, max_size=8)


@given(losses, some.floats(0.1, 10))
def test_a_crossing_is_confirmed_and_no_later_than_the_run(values, threshold):
    steps = np.arange(len(values)) * 10
    found = st.crossing(steps, values, threshold)
    if math.isfinite(found):
        assert 0 <= found <= steps[-1]
        after = np.asarray(values)[steps >= math.ceil(found - 1e-6)]
        assert (after[:1] <= threshold + 1e-9).all()
    else:
        assert values[-1] > threshold


@given(losses, some.floats(0.1, 10), some.floats(0, 5))
def test_an_easier_threshold_is_never_reached_later(values, threshold, slack):
    steps = 1 + np.arange(len(values)) * 10
    # One dip may confirm the easier threshold only; the order must hold all the same.
    assert st.crossing(steps, values, threshold + slack) <= st.crossing(steps, values, threshold) * (1 + 1e-9)


@given(probabilities)
def test_holm_never_lowers_a_p_value_and_keeps_the_order(values):
    adjusted = st.holm(values)
    assert (adjusted >= np.asarray(values) - 1e-12).all() and (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(values, kind="stable")]) >= -1e-12).all()


@given(some.lists(some.floats(0, 1), min_size=1, max_size=12))
def test_labels_keep_their_order_and_their_distance(wanted):
    placed = np.array(style.spread_labels(wanted, 0.05, 0.0, 1.0))
    ordered = placed[np.argsort(wanted, kind="stable")]
    assert (np.diff(ordered) >= 0.05 - 1e-9).all()
    assert ordered[0] >= -1e-9 and ordered[-1] <= 1 + 1e-9


@settings(max_examples=50)
@given(some.sets(some.text("abcdefgh_", min_size=1, max_size=8), max_size=30))
def test_colours_are_distinct_and_do_not_depend_on_the_order(names):
    chosen = style.colours(names)
    assert len(set(chosen.values())) == len(names)
    assert chosen == {name: style.colours(sorted(names, reverse=True))[name] for name in names}


@given(some.lists(some.lists(some.text("ab|[] %_", max_size=6), min_size=3, max_size=3), min_size=1, max_size=4))
def test_markdown_is_read_back(rows):
    rows = [[cell.strip() for cell in row] for row in rows]
    header, back, caption = tables.read_markdown(tables.markdown(pd.DataFrame(rows, columns=["a", "b", "c"]), "Words."))
    assert (header, back, caption) == (["a", "b", "c"], rows, "Words.")


@given(
    some.lists(some.tuples(some.floats(0.01, 5), some.floats(0.01, 5)), min_size=1, max_size=9), some.floats(0.1, 10)
)
def test_the_gap_closed_is_free_of_units_and_one_for_the_oracle(regrets, scale):
    regrets = np.array(regrets)
    assert math.isclose(regret.gap_closed(scale * regrets), regret.gap_closed(regrets), rel_tol=1e-9, abs_tol=1e-9)
    uniform = regrets[:, [1, 1]]
    assert regret.gap_closed(uniform) == 0 and regret.gap_closed(uniform * [0, 1]) == 1
