"""How far each method stays behind the oracle: the best static mixture that a search has found, compared as a method.

Regret is the final test loss minus the oracle's on the same seed. The gap closed is 1 − regret over uniform's regret: 0 is
uniform, 1 the oracle. The distance of two mixtures is their total variation, half the sum of absolute differences.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from acodm_analysis.core import pairs, style
from acodm_analysis.core.frames import ORACLE, runs_of, summary, title, weighting
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.seed_statistics import bootstrap, enough, generator, interval_name, median
from acodm_analysis.core.tables import between, number, program, with_interval, write_table
from acodm_core.errors import UserError
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Efficiency",
    place=50,
    heading="Regret to the oracle",
    figure="regret",
    tables=("regret",),
    needs=("method oracle",),
    caption=(
        "Left: how much of the gap between uniform's and the oracle's test loss each method closes, with its"
        " interval. Right: total variation between its mean requested mixture and the oracle's, the best static"
        " mixture that a search has found."
    ),
)

# Per cent of the gap: what is further off is a triangle at the edge, or all others would share a few pixels.
WORST = -200


def gap_closed(regrets: np.ndarray, axis: int = 0) -> np.ndarray:
    """1 − median(first column) / median(second column): the regrets of a method and of uniform, paired by seed."""
    method, uniform = np.moveaxis(median(regrets, axis=axis), -1, 0)
    return 1 - method / uniform


def table(results: Results) -> pd.DataFrame:
    """One row per compared method but the oracle: ``regret`` (nats, median), ``closed`` (share of the gap), ``distance``.

    ``closed`` is NaN where uniform was not compared, or is not behind the oracle on every seed: then there is no clear gap to
    close. ``distance`` is the median over seeds for the mean requested mixture.

    Raises:
        UserError: no oracle is compared.
    """
    if ORACLE not in results.compare:
        raise UserError(
            "no oracle is compared", where=str(results.folder), fix="add a static method `oracle` to compare"
        )
    gaps = pairs.differences(results, ORACLE).dropna(subset="difference")
    wide = gaps.pivot(index="seed", columns="method", values="difference")
    wide = wide.reindex(columns=[*dict.fromkeys([*results.compare, "uniform"])]).drop(columns=ORACLE)
    methods = [method for method in results.compare if method != ORACLE]
    frame = pd.DataFrame({"method": methods, "title": [title(results, m) for m in methods]}).set_index("method")
    found = summary(gaps.rename(columns={"difference": "regret"}), "regret")
    frame["n"] = found["n"]
    frame["regret"], frame["regret_low"], frame["regret_high"] = found["median"], found["low"], found["high"]
    closed = {method: _closed(wide[[method, "uniform"]].to_numpy(), method) for method in methods}
    frame[["closed", "closed_low", "closed_high"]] = [closed[method] for method in methods]
    frame["distance"] = distances(results)
    return frame.assign(n=frame["n"].fillna(0).astype(int)).reset_index()


def _closed(regrets: np.ndarray, method: str) -> tuple[float, float, float]:
    """The gap closed and its interval, over the seeds that both have."""
    regrets = regrets[~np.isnan(regrets).any(axis=1)]
    if not len(regrets) or not (np.isfinite(regrets[:, 1]) & (regrets[:, 1] > 0)).all():
        return (float("nan"),) * 3
    middle = float(gap_closed(regrets))
    if enough(len(regrets)):
        return middle, *bootstrap(regrets, generator("regret", method), gap_closed)
    each = 1 - regrets[:, 0] / regrets[:, 1]
    return middle, float(each.min()), float(each.max())


def distances(results: Results) -> pd.Series:
    """Method -> total variation between its mean requested mixture over the run and the oracle's, median over seeds."""
    runs = runs_of(results).set_index("run")
    mixture = results.mixture[results.mixture["run"].isin(runs.index)]
    asked = mixture.pivot_table(index="run", columns="domain", values="requested", aggfunc="mean")
    method = runs["method"].reindex(asked.index)
    oracle = asked[method == ORACLE].mean()
    return ((asked - oracle).abs().sum(axis=1) / 2).groupby(method).median()


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The table's cells."""
    rows = [row for _, row in frame.iterrows()]

    def closed(row: pd.Series) -> str:
        if "uniform" in set(frame["method"]) and row["n"] and np.isnan(row["closed"]):
            return "no clear gap"
        return between(*(number(100 * row[key], 0) for key in ("closed", "closed_low", "closed_high")))

    return pd.DataFrame(
        {
            "Method": frame["title"],
            "Pairs": [str(row["n"]) for row in rows],
            "Regret (nats)": [with_interval(row, "regret", 4, signed=True) for row in rows],
            "Gap closed (%)": [closed(row) for row in rows],
            "Distance to the oracle's mixture": [number(row["distance"]) for row in rows],
        }
    )


def draw(frame: pd.DataFrame, colours: dict[str, str]) -> Figure:
    """Left: the share of the gap between uniform and the oracle that a method closes; right: how far its mixture is."""
    style.use()
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(style.WIDTH, 0.8 + 0.3 * len(frame)), sharey=True, width_ratios=[2, 1]
    )
    figure.subplots_adjust(wspace=0.08)
    for y, row in enumerate(frame.itertuples()):
        colour, tip = colours[row.method], f"{row.title}: {100 * row.closed:.0f} % of the gap closed"
        if np.isfinite(row.closed):
            shown_at = max(100 * row.closed, WORST)
            span = [max(100 * end, WORST) for end in (row.closed_low, row.closed_high)]
            line = left.plot(span, [y, y], color=colour, lw=1.8, alpha=0.55)
            marker = "o" if 100 * row.closed >= WORST else "<"
            dot = left.plot(shown_at, y, marker, color=colour, ms=5.5, mec="white", mew=0.6, zorder=4)
            note = left.annotate(number(100 * row.closed, 0), (shown_at, y), (0, 6), textcoords="offset points")
            note.set_bbox({"fc": "white", "ec": "none", "pad": 0.4})
            note.set(ha="center", fontsize=6.5, color=colour)
            style.tag([*line, *dot, note], row.method, tip)
        else:
            words = "failed" if np.isinf(row.closed) else "no clear gap" if row.n else "not run"
            left.text(0.02, y, words, transform=left.get_yaxis_transform(), va="center", fontsize=7, color=style.FAINT)
        bar = right.barh(y, row.distance, height=0.5, color=colour, alpha=0.55)
        style.tag(list(bar), row.method, f"{row.title}: distance {row.distance:.3f}")
    for at, words, side in ((0, "uniform", "right"), (100, "oracle", "left")):
        left.axvline(at, color=style.INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
        left.annotate(words, (at, 1), (0, 3), xycoords=left.get_xaxis_transform(), textcoords="offset points", ha=side)
    left.set_xlim(left=max(left.get_xlim()[0], 1.08 * WORST))
    left.set_xlabel("Gap between uniform and oracle closed (%)")
    right.set_xlabel("Distance to the oracle's mixture")
    left.set_yticks(range(len(frame)), frame["title"])
    left.set_ylim(len(frame) - 0.5, -0.5)
    for ax in (left, right):
        ax.grid(axis="y", visible=False)
    return figure


def render(results: Results, out: Path) -> None:
    frame = table(results)
    n = int(frame["n"].max())
    by = " (of the gap: by bootstrap over seeds)" if enough(n) else ""
    caption = (
        f"Final test loss above {title(results, ORACLE)}'s on the same seed (regret) and the share of the gap between uniform"
        f" and the oracle that a method closes, 1 − regret / uniform's regret; medians, in brackets the"
        f" {interval_name(n)}{by}. Distance: total variation between the mean requested mixture and the oracle's, 0 to"
        f" 1.{weighting(results)}"
    )
    write_table(frame, shown(frame), "regret", out, caption)
    style.save(draw(frame, style.colours(results.compare)), "regret", out)


if __name__ == "__main__":
    program("regret", __doc__, render)
