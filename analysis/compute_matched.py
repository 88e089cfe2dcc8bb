"""Would a plain mixture have done as well with the same compute? Each method beside the best cheap baseline at equal FLOPs, all in.

Cheap: static mixtures that depend on no other run and measure nothing (the oracle is a bound and left out). Losses are read off
validation curves at the last evaluation that the budget pays for, of the shortest training that spends the budget to within a
step; nothing is interpolated, and where no run spent that much it says "not run". A run's curve starts at the cost of the runs it
depends on. Three budgets: what the method spent in whole, one plain run, and what the method had spent when it reached the
threshold. A curve cut before its end still has a high learning rate under a decaying schedule, so it looks a little worse than a
run that was planned to end there: `acodm rerun` plans such runs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from acodm_analysis.core import costs
from acodm_analysis.core.frames import ORACLE, baseline, horizon, losses, static_methods, thresholds, title, weighting
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.seed_statistics import difference_interval, median
from acodm_analysis.core.tables import NOT_RUN, number, program, scientific, with_interval, write_table
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Cost",
    place=30,
    heading="The same compute in a plain mixture",
    tables=("compute_matched",),
    caption=(
        "Each method beside the best cheap baseline at equal compute, all in; read off existing curves, nothing"
        " extrapolated."
    ),
)

NOT_BEGUN = "spent up front"
SLACK = 1e-6  # of a budget: equal counts may differ by rounding
Curve = tuple[str, np.ndarray, np.ndarray]  # status; at every evaluation FLOPs all in and mean validation loss (nats)
Curves = dict[tuple[int, str], list[Curve]]


def cheap(results: Results) -> list[str]:
    """The static mixtures, but the oracle, that depend on no run and of which nothing is measured."""
    spent = costs.whole_runs(results).merge(results.runs[["run", "method_flops"]], on="run")
    free = spent.groupby("method")[["flops_upfront", "method_flops"]].max().max(axis=1) == 0
    return [method for method in static_methods(results) if method != ORACLE and free.get(method, False)]


def curves(results: Results) -> Curves:
    """(seed, method) -> the curves of its trainings, to the shortest horizon first."""
    rows = losses(results, "valid", further=True)
    rows = rows.merge(costs.whole_runs(results, further=True).drop(columns=["method", "seed"]), on="run")
    rows["flops"] = rows["flops_upfront"] + rows["flops_run"] * rows["step"] / rows["steps_run"]
    found: Curves = {}
    for _, curve in sorted(rows.sort_values("step").groupby("run"), key=lambda pair: pair[1]["steps_run"].iloc[0]):
        one = (curve["status"].iloc[0], curve["flops"].to_numpy(), curve["mean"].to_numpy())
        found.setdefault((curve["seed"].iloc[0], curve["method"].iloc[0]), []).append(one)
    return found


def losses_at(found: Curves, method: str, budget: float, step: float) -> pd.Series:
    """Seed -> the method's loss at the last evaluation that ``budget`` FLOPs pay for; ``step``: of a plain step.

    ``inf``: a failed run, or a budget that was spent up front; NaN: runs that ended before the budget, or no budget.
    """
    return pd.Series(
        {seed: _loss_at(runs, budget, step) for (seed, name), runs in found.items() if name == method}, dtype=float
    )


def _loss_at(runs: list[Curve], budget: float, step: float) -> float:
    finished = [(flops, loss) for status, flops, loss in runs if status == "finished"]
    if finished and finished[0][0][0] > budget:
        return np.inf
    for flops, loss in finished:
        if flops[-1] > (budget - step) * (1 - SLACK):
            return loss[flops <= budget * (1 + SLACK)][-1]
    return np.nan if len(finished) == len(runs) else np.inf


def table(results: Results) -> pd.DataFrame:
    """One row per compared method that is not cheap; losses are medians over seeds (nats), FLOPs all in, medians too.

    ``whole_*``: the method's whole compute; ``plain_*``: that of one cheap run; ``threshold_*``: what the method had spent at
    the threshold. ``*_loss`` is the method's, ``*_cheap`` the name of the best cheap baseline and ``*_cheap_loss`` its loss, NaN
    where no cheap run got that far. ``difference`` is method - cheap at the plain budget, seed by seed: mean with its t interval.
    """
    plain, runs, found = cheap(results), costs.per_run(results), curves(results)
    one_run = _median(runs.loc[runs["method"].isin(plain), "flops_run"])
    step = one_run / horizon(results)
    rows = []
    for method in results.compare:
        if method in plain or method == ORACLE:
            continue
        mine = runs[runs["method"] == method]
        whole = _median(mine["flops_run"] + mine["flops_upfront"])
        row = {"method": method, "title": title(results, method), "n": len(mine)}
        row["begun"] = not _median(mine["flops_upfront"]) > one_run
        for kind, budget in (("whole", whole), ("plain", one_run), ("threshold", _median(mine["flops_all_in"]))):
            at = pd.DataFrame({name: losses_at(found, name, budget, step) for name in (method, *plain)})
            medians = at.median()
            known = medians[plain][np.isfinite(medians[plain])]
            chosen = known.idxmin() if len(known) else ""
            row |= {f"{kind}_flops": budget, f"{kind}_loss": float(medians[method])}
            row |= {f"{kind}_cheap": title(results, chosen) if chosen else ""}
            row[f"{kind}_cheap_loss"] = float(known.min()) if chosen else float("nan")
            if kind == "plain":
                row |= _difference((at[method] - at[chosen]).dropna().to_numpy() if chosen else np.empty(0))
        rows.append(row)
    return pd.DataFrame(rows)


def _median(values: pd.Series) -> float:
    return float(median(values)) if len(values) else float("nan")


def _difference(gaps: np.ndarray) -> dict[str, float]:
    names = ("difference", "difference_low", "difference_high")
    if not len(gaps) or not np.isfinite(gaps).all():
        return dict.fromkeys(names, float("inf") if len(gaps) else float("nan"))
    return dict(zip(names, (float(gaps.mean()), *difference_interval(gaps)), strict=True))


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells: a loss, and beside it the best cheap baseline's with its name."""

    def theirs(row: pd.Series, name: str) -> str:
        return f"{number(row[f'{name}_cheap_loss'])} ({row[f'{name}_cheap']})" if row[f"{name}_cheap"] else NOT_RUN

    def own(row: pd.Series) -> str:
        return number(row["plain_loss"]) if row["begun"] else NOT_BEGUN

    def spent(row: pd.Series) -> str:
        return "never" if np.isinf(row["threshold_flops"]) else scientific(row["threshold_flops"])

    rows = [row for _, row in frame.iterrows()]
    return pd.DataFrame(
        {
            "Method": [row["title"] for row in rows],
            "Whole compute (FLOPs)": [scientific(row["whole_flops"]) for row in rows],
            "Loss": [number(row["whole_loss"]) for row in rows],
            "Cheap, same compute": [theirs(row, "whole") for row in rows],
            "Loss at one plain run's compute": [own(row) for row in rows],
            "Cheap, one plain run": [theirs(row, "plain") for row in rows],
            "Difference (nats)": [with_interval(row, "difference", signed=True) for row in rows],
            "Compute to threshold (FLOPs)": [spent(row) for row in rows],
            "Cheap, same compute as to threshold": [theirs(row, "threshold") for row in rows],
        }
    )


def caption(results: Results) -> str:
    names = ", ".join(title(results, method) for method in cheap(results)) or "none was run"
    loss = thresholds(results).set_index("threshold").loc["natural", "loss"]
    reach = f"{loss:.4f} nats" if np.isfinite(loss) else NOT_RUN
    return (
        "Validation loss at equal compute, all in: methods beside the best cheap baseline (static mixtures without a phase or"
        f" measurements: {names}), medians over seeds. Read off validation curves at the last evaluation that the compute pays"
        f" for, of the shortest training that spends it; {NOT_RUN}: no cheap run was trained that far. Difference at the"
        " compute of one plain run, seed by seed (negative is better): mean, with its 95 % t interval, or with fewer than five"
        f" seeds the smallest and largest. Threshold: {title(results, baseline(results))}'s median final loss, {reach}."
        f"{weighting(results)}"
    )


def render(results: Results, out: Path) -> None:
    frame = table(results)
    write_table(frame, shown(frame), "compute_matched", out, caption(results))


if __name__ == "__main__":
    program("compute_matched", __doc__, render)
