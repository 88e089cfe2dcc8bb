"""Steps to each of the three thresholds: the median over seeds as a bar, every seed as a dot, censored runs at the horizon.

Three thresholds (the final losses of the natural mixture, of uniform and of the best static method) show whether an order depends
on one number.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acodm_analysis.core import style
from acodm_analysis.core.frames import THRESHOLDS, crossings, horizon, thresholds, title, weighting
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.seed_statistics import median
from acodm_analysis.core.tables import NOT_RUN, program, steps_cell, write_table
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Efficiency",
    place=20,
    heading="Steps to threshold",
    figure="steps_to_threshold",
    tables=("steps_to_threshold",),
    caption=(
        "Median steps to each threshold, one panel per different threshold; dots are seeds. A triangle is a seed"
        " that did not get there, a dashed outline a median that did not."
    ),
)

NAMES = {"natural": "natural's final loss", "uniform": "uniform's final loss", "best_static": "best static final loss"}


def table(results: Results) -> pd.DataFrame:
    """One row per (threshold, method, seed): ``steps`` (inf: censored, NaN: not run), ``loss`` of the threshold (nats);
    ``median``: the method's."""
    known = thresholds(results).set_index("threshold")
    frame = crossings(results)
    frame["median"] = frame.groupby(["threshold", "method"])["steps"].transform(lambda steps: float(median(steps)))
    frame["loss"] = frame["threshold"].map(known["loss"])
    frame["set_by"] = frame["threshold"].map(known["method"])
    frame.insert(2, "title", [title(results, method) for method in frame["method"]])
    return frame.drop(columns="run")


def shown(frame: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Cells: one row per method, one column per threshold; every method compared has its row."""
    cells = {"Method": [title(results, method) for method in results.compare]}
    medians = frame.groupby(["threshold", "method"])["median"].first()
    for name in THRESHOLDS:
        mine = [medians.get((name, method), float("nan")) for method in results.compare]
        cells[f"To {NAMES[name]}"] = [steps_cell(value, horizon(results)) for value in mine]
    return pd.DataFrame(cells)


def distinct(frame: pd.DataFrame) -> dict[str, str]:
    """Threshold -> its words, one for each different loss: uniform's is often the best static one, and one panel says both."""
    found: dict[str, list[str]] = {}
    for name in THRESHOLDS:
        mine = frame.loc[frame["threshold"] == name, "set_by"].dropna()
        setter = mine.iloc[0] if len(mine) and mine.iloc[0] else name
        found.setdefault(setter, []).append(name)
    return {names[0]: ",\n".join(NAMES[name] for name in names).capitalize() for names in found.values()}


def draw(frame: pd.DataFrame, order: dict[str, str], limit: int) -> Figure:
    """One panel per different threshold; dashed outlines are censored medians, open triangles censored seeds."""
    style.use()
    methods, kinds = list(order), distinct(frame)
    figure, grid = plt.subplots(
        1, len(kinds), figsize=(style.WIDTH, 1.1 + 0.36 * len(methods)), sharey=True, squeeze=False
    )
    axes = grid[0]
    figure.subplots_adjust(wspace=0.08)
    colours = style.colours(methods)
    for ax, (name, words) in zip(axes, kinds.items(), strict=True):
        rows = frame[frame["threshold"] == name]
        loss = rows["loss"].max()
        by = rows["set_by"].max()
        ax.set_title(
            words + (f"\n{loss:.4f} nats ({order.get(by, by)})" if np.isfinite(loss) else "\nnot run"),
            fontweight="normal",
        )
        for y, method in enumerate(methods):
            mine = rows[rows["method"] == method]
            middle = mine["median"].max() if len(mine) else np.nan
            if np.isnan(middle):
                ax.text(
                    0.02, y, NOT_RUN, transform=ax.get_yaxis_transform(), va="center", color=style.FAINT, fontsize=7
                )
                continue
            _bar(ax, y, mine, order[method], colours[method], limit)
        ax.set_xlim(0, 1.06 * limit)
        ax.axvline(limit, color=style.FAINT, lw=0.7, zorder=1)
        ax.set_xlabel("Steps")
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(methods)), list(order.values()))
    axes[0].set_ylim(len(methods) - 0.5, -0.5)
    keys = [plt.Line2D([], [], ls="", marker="o", color=style.FAINT, ms=4)]
    keys += [plt.Line2D([], [], ls="", marker=">", mfc="white", color=style.FAINT, ms=5)]
    keys += [plt.Rectangle((0, 0), 1, 1, fc="white", ec=style.FAINT, ls="--")]
    words = ["a seed", f"a seed that did not reach it (>{limit})", "median not reached"]
    figure.legend(
        keys,
        words,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.11 - 0.4 / figure.get_figheight()),
        ncols=3,
        handlelength=1.2,
    )
    return figure


def _bar(ax: Axes, y: int, mine: pd.DataFrame, name: str, colour: str, limit: int) -> None:
    """A method's median as a bar, its seeds as dots."""
    method, middle = mine["method"].iloc[0], mine["median"].max()
    censored = np.isinf(middle)
    bar = ax.barh(
        y, limit if censored else middle, height=0.56, color="white" if censored else style.pale(colour), ec=colour,
        ls="--" if censored else "-", lw=0.8,
    )  # fmt: skip
    style.tag(list(bar), method, f"{name}: median {steps_cell(middle, limit)} steps")
    places = y + np.linspace(-0.17, 0.17, len(mine)) if len(mine) > 1 else [y]
    for place, seed in zip(places, mine.itertuples(), strict=True):
        lost = np.isinf(seed.steps)
        dot = ax.plot(
            limit if lost else seed.steps, place, ">" if lost else "o", ms=4.2 if lost else 3.4, color=colour,
            mfc="white" if lost else colour, mew=0.8, clip_on=False, zorder=4,
        )  # fmt: skip
        style.tag(dot, method, f"{name}, seed {seed.seed}: {steps_cell(seed.steps, limit)} steps")
    note = ax.text(0.03, y, steps_cell(middle, limit), transform=ax.get_yaxis_transform(), va="center", fontsize=7)
    note.set_bbox({"fc": "white", "ec": "none", "alpha": 0.75, "pad": 1})


def render(results: Results, out: Path) -> None:
    frame = table(results)
    caption = (
        f"Steps to three thresholds: medians over seeds; >{horizon(results)}: not reached. Horizon rule:"
        f" {results.experiment.get('horizon', 'fixed-horizon')}.{weighting(results)}"
    )
    write_table(frame, shown(frame, results), "steps_to_threshold", out, caption)
    order = {method: title(results, method) for method in results.compare}
    style.save(draw(frame, order, horizon(results)), "steps_to_threshold", out)


if __name__ == "__main__":
    program("steps_to_threshold", __doc__, render)
