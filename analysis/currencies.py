"""Every threshold in every currency: steps, tokens, FLOPs and seconds, alone and all in, under both horizon rules.

Fixed horizon: every run has one schedule to N, and the crossing is read off its curve. Matched horizon: the shortest schedule
that a method was trained to and that ended at or below the threshold. The paired speed-up is the baseline's cost to the threshold
over the method's on the same seed; of a baseline seed that gets there with its last step or never the whole run counts, so the
ratio is a lower bound. Beside it stands the same over the strongest cheap baseline.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from acodm_analysis.core import costs
from acodm_analysis.core.frames import (
    FIXED,
    MATCHED,
    THRESHOLDS,
    baseline,
    horizon,
    strongest_cheap,
    thresholds,
    title,
    weighting,
)
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.seed_statistics import KNOWN_THRESHOLD, cell_interval, interval_name, median, speedups
from acodm_analysis.core.tables import (
    NOT_RUN,
    at_least,
    between,
    number,
    program,
    scientific,
    steps_cell,
    times,
    write_table,
)
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Efficiency",
    place=30,
    heading="Every threshold in every currency",
    tables=("currencies",),
    caption=(
        "What each of the three thresholds costs in steps, tokens, FLOPs and seconds, alone and with every run"
        " that a method depends on, under both horizon rules."
    ),
)

NAMES = {"natural": "natural", "uniform": "uniform", "best_static": "best static"}
WAYS = ("alone", "all_in")


def table(results: Results) -> pd.DataFrame:
    """One row per (threshold, horizon rule, method, currency, way).

    ``n`` seeds, of which ``reached`` got there; ``cost`` (median over seeds, ``low``, ``high``; inf: not reached, NaN: not
    run); ``spent``, the median of whole runs; ``speedup`` (median of the seeds' ratios, ``speedup_low``, ``speedup_high``; -inf:
    never), with ``bound`` where a baseline seed is censored; ``cheap_*``: the same over the strongest cheap baseline.
    """
    rows = []
    for threshold in THRESHOLDS:
        for rule in (FIXED, MATCHED):
            runs = costs.per_run(results, threshold, rule)
            rivals = {p: runs[runs["method"] == m].set_index("seed") for p, m in _rivals(results).items()}
            for method in results.compare:
                mine = runs[runs["method"] == method].set_index("seed")
                theirs = {prefix: one.reindex(mine.index) for prefix, one in rivals.items()}
                at = {"threshold": threshold, "horizon": rule, "method": method, "title": title(results, method)}
                for name in costs.CURRENCIES:
                    rows += [at | {"currency": name, "way": way} | _row(mine, theirs, name, way) for way in WAYS]
    return pd.DataFrame(rows)


def _rivals(results: Results) -> dict[str, str]:
    """Prefix of a column -> the method that speed-ups in it are over; "" where there is none."""
    return {"": baseline(results), "cheap_": strongest_cheap(results)}


def _row(mine: pd.DataFrame, rivals: dict[str, pd.DataFrame], name: str, way: str) -> dict:
    """The numbers of one method, in one currency, counted in one way; ``rivals`` have a row for each of its seeds."""
    values, whole = mine[f"{name}_{way}"].to_numpy(), mine[f"{name}_run"].to_numpy()
    spent = whole + mine[f"{name}_upfront"].to_numpy() if way == "all_in" else whole
    row = {"n": int((~np.isnan(values)).sum()), "reached": int(np.isfinite(values).sum())}
    row |= dict(zip(("cost", "low", "high"), (_median(values), *cell_interval(values)), strict=True))
    row["spent"] = _median(spent)
    for prefix, own in rivals.items():
        cost_, run = own[f"{name}_alone"].to_numpy(), own[f"{name}_run"].to_numpy()
        ratios = speedups(np.minimum(cost_, run), values)[~np.isnan(cost_)]  # of the seeds that both have
        ends = zip(("speedup", "speedup_low", "speedup_high"), (_median(ratios), *cell_interval(ratios)), strict=True)
        row |= {f"{prefix}{key}": value for key, value in ends}
        row[f"{prefix}bound"] = bool(costs.censored(cost_, run).any())
    return row


def _median(values: np.ndarray) -> float:
    return float(median(values)) if len(values) else float("nan")


def shown(frame: pd.DataFrame, results: Results) -> pd.DataFrame:
    """One row per (threshold, method): medians, the paired speed-up all in with its interval, and what the matched rule found."""
    at = frame.set_index(["threshold", "horizon", "method", "currency", "way"]).sort_index()
    rows = []
    for threshold in THRESHOLDS:
        for method in results.compare:
            mine = at.loc[threshold, FIXED, method]
            steps, flops = mine.loc["steps", "alone"], mine.loc["flops", "all_in"]
            matched = at.loc[threshold, MATCHED, method, "steps", "alone"]
            cells = {"To": NAMES[threshold], "Method": title(results, method)}
            cells["Seeds there"] = f"{steps['reached']}/{steps['n']}" if steps["n"] else NOT_RUN
            cells["Steps"] = between(*(steps_cell(steps[end], horizon(results)) for end in ("cost", "low", "high")))
            cells["Tokens"] = _cell(mine.loc["tokens", "alone"], scientific)
            for name, unit, text in (("flops", "FLOPs", scientific), ("seconds", "s", _seconds)):
                cells[f"{unit}, alone"] = _cell(mine.loc[name, "alone"], text)
                cells[f"{unit}, all in"] = _cell(mine.loc[name, "all_in"], text)
            for prefix, rival in _rivals(results).items():
                heading = f"Paired speed-up, all in{', over cheap' * bool(prefix)} (×)"
                cells[heading] = _speedup(flops, prefix, method == rival)
            cells["Steps, matched horizon"] = steps_cell(matched["cost"], horizon(results))
            rows.append(cells)
    return pd.DataFrame(rows)


def _cell(row: pd.Series, text) -> str:
    """A cost; of one that was never enough, ">" what the whole runs cost."""
    return f">{text(row['spent'])}" if math.isinf(row["cost"]) and math.isfinite(row["spent"]) else text(row["cost"])


def _seconds(value: float) -> str:
    return number(value, 0 if value >= 100 else 1)


def _speedup(row: pd.Series, prefix: str, itself: bool) -> str:
    if itself:
        return "itself"
    ends = (row[f"{prefix}speedup{end}"] for end in ("", "_low", "_high"))
    return at_least(between(*map(times, ends)), row[f"{prefix}bound"])


def caption(results: Results) -> str:
    """What the three thresholds are, and how a cell was counted."""
    known = thresholds(results).itertuples()
    reach = "; ".join(
        f"{NAMES[threshold.threshold]}: {title(results, threshold.method)}, {threshold.loss:.4f} nats"
        if np.isfinite(threshold.loss)
        else f"{NAMES[threshold.threshold]}: {NOT_RUN}"
        for threshold in known
    )
    n = len(results.experiment.get("seeds", []))
    return (
        f"What each threshold costs; thresholds are median final validation losses ({reach}). Medians over seeds, in"
        f" brackets the {interval_name(n)}{KNOWN_THRESHOLD}; >: not reached in a whole run. Alone: the run up to the"
        f" threshold; all in: with every run it depends on, in full. Horizon rule: {FIXED}, {horizon(results)} steps;"
        f" {MATCHED}: the shortest schedule that ended at the threshold. Paired speed-up: the baseline's FLOPs to the"
        " threshold over the method's, seed by seed; over cheap: those of"
        f" {title(results, strongest_cheap(results)) or NOT_RUN}, the better of uniform and objective weights. ≥: a seed"
        " of what it is counted over gets there with its last step or never, and its whole run stands for"
        f" it.{weighting(results)}"
    )


def render(results: Results, out: Path) -> None:
    frame = table(results)
    write_table(frame, shown(frame, results), "currencies", out, caption(results))


if __name__ == "__main__":
    program("currencies", __doc__, render)
