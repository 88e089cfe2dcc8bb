"""Every target in every currency: steps, tokens, FLOPs and seconds, alone and all in, under both horizon rules.

Fixed horizon: every run has one schedule to N, and the crossing is read off its curve. Matched horizon: the shortest schedule
that a method was trained to and that ended at or below the target. The paired speed-up is the baseline's cost to the target
over the method's on the same seed; of a baseline seed that does not get there its whole run counts, so the ratio is a lower bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from acodm_core.study.results import Results

from . import cost
from .frames import FIXED, MATCHED, TARGETS, baseline, horizon, targets, title, weighting
from .statistics import interval_name, median, spread
from .tables import NOT_RUN, between, number, program, scientific, steps_cell, write_table

NAMES = {"natural": "natural", "uniform": "uniform", "best_static": "best static"}
WAYS = ("alone", "all_in")


def table(results: Results) -> pd.DataFrame:
    """One row a (target, horizon rule, method, currency, way).

    ``n`` seeds, of which ``reached`` got there; ``cost`` (median over seeds, ``low``, ``high``; inf: not reached, NaN: not
    run); ``spent``, the median of whole runs; ``speedup`` (median of the seeds' ratios, ``speedup_low``, ``speedup_high``; 0:
    never), with ``bound`` where a baseline seed is censored.
    """
    rows = []
    for target in TARGETS:
        for rule in (FIXED, MATCHED):
            runs = cost.per_run(results, target, rule)
            own = runs[runs["method"] == baseline(results)].set_index("seed")
            for method in results.compare:
                mine = runs[runs["method"] == method].set_index("seed")
                pair = [
                    {name: column.to_numpy() for name, column in one.items()} for one in (mine, own.reindex(mine.index))
                ]
                at = {"target": target, "horizon": rule, "method": method, "title": title(results, method)}
                for name in cost.CURRENCIES:
                    rows += [at | {"currency": name, "way": way} | _row(*pair, name, way) for way in WAYS]
    return pd.DataFrame(rows)


def _row(mine: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray], name: str, way: str) -> dict:
    """The numbers of one method, in one currency, counted in one way; ``own`` are the baseline's, seed by seed."""
    values, whole = mine[f"{name}_{way}"], mine[f"{name}_run"]
    spent = whole + mine[f"{name}_upfront"] if way == "all_in" else whole
    row = {"n": int((~np.isnan(values)).sum()), "reached": int(np.isfinite(values).sum())}
    row |= dict(zip(("cost", "low", "high"), (_median(values), *spread(values)), strict=True))
    row["spent"] = _median(spent)
    censored = np.isinf(own[f"{name}_alone"])
    to_beat = np.where(censored, own[f"{name}_run"], own[f"{name}_alone"])
    ratios = (to_beat / values)[~np.isnan(to_beat)]  # of the seeds that the baseline has too
    row |= dict(zip(("speedup", "speedup_low", "speedup_high"), (_median(ratios), *spread(ratios)), strict=True))
    return row | {"bound": bool(censored.any())}


def _median(values: np.ndarray) -> float:
    return float(median(values)) if len(values) else float("nan")


def shown(frame: pd.DataFrame, results: Results) -> pd.DataFrame:
    """One row a (target, method): medians, the paired speed-up all in with its interval, and what the matched rule found."""
    at = frame.set_index(["target", "horizon", "method", "currency", "way"]).sort_index()
    rows = []
    for target in TARGETS:
        for method in results.compare:
            mine = at.loc[target, FIXED, method]
            steps, flops = mine.loc["steps", "alone"], mine.loc["flops", "all_in"]
            matched = at.loc[target, MATCHED, method, "steps", "alone"]
            cells = {"To": NAMES[target], "Method": title(results, method)}
            cells["Seeds there"] = f"{steps['reached']}/{steps['n']}" if steps["n"] else NOT_RUN
            cells["Steps"] = between(*(steps_cell(steps[end], horizon(results)) for end in ("cost", "low", "high")))
            cells["Tokens"] = _cell(mine.loc["tokens", "alone"], scientific)
            for name, unit, text in (("flops", "FLOPs", scientific), ("seconds", "s", _seconds)):
                cells[f"{unit}, alone"] = _cell(mine.loc[name, "alone"], text)
                cells[f"{unit}, all in"] = _cell(mine.loc[name, "all_in"], text)
            cells["Paired speed-up, all in (×)"] = _speedup(flops, method == baseline(results))
            cells["Steps, matched horizon"] = steps_cell(matched["cost"], horizon(results))
            rows.append(cells)
    return pd.DataFrame(rows)


def _cell(row: pd.Series, text) -> str:
    """A cost; of one that was never enough, ">" what the whole runs cost."""
    return f">{text(row['spent'])}" if math.isinf(row["cost"]) and math.isfinite(row["spent"]) else text(row["cost"])


def _seconds(value: float) -> str:
    return number(value, 0 if value >= 100 else 1)


def _speedup(row: pd.Series, is_baseline: bool) -> str:
    if is_baseline:
        return "baseline"
    if math.isnan(row["speedup"]):
        return NOT_RUN
    ends = (row["speedup"], row["speedup_low"], row["speedup_high"])
    text = between(*("never" if value == 0 else number(value, 2) for value in ends))
    return f"≥{text}" if row["bound"] and row["speedup"] > 0 else text


def caption(results: Results) -> str:
    """What the three targets are, and how a cell was counted."""
    goals = targets(results).itertuples()
    reach = "; ".join(
        f"{NAMES[goal.target]}: {title(results, goal.method)}, {goal.loss:.4f} nats"
        if np.isfinite(goal.loss)
        else f"{NAMES[goal.target]}: {NOT_RUN}"
        for goal in goals
    )
    n = len(results.experiment.get("seeds", []))
    return (
        f"What each target costs; targets are median final validation losses ({reach}). Medians over seeds, in brackets the"
        f" {interval_name(n)}; >: not reached in a whole run. Alone: the run up to the target; all in: with every run it depends"
        f" on, in full. Horizon rule: {FIXED}, {horizon(results)} steps; {MATCHED}: the shortest schedule that ended at the"
        " target. Paired speed-up: the baseline's FLOPs to the target over the method's, seed by seed; ≥: a baseline seed did"
        f" not get there, and its whole run stands for it.{weighting(results)}"
    )


def render(results: Results, out: Path) -> None:
    frame = table(results)
    write_table(frame, shown(frame, results), "currencies", out, caption(results))


if __name__ == "__main__":
    program("currencies", __doc__, render)
