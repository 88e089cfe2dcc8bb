"""The AC-ODM paper's validation curves as read off, and beside them, never in one axes, the same figure from these results."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acodm_analysis.core import style
from acodm_analysis.core.frames import strongest_cheap, title
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.panels import near, perplexity_axes
from acodm_analysis.core.seed_statistics import crossing
from acodm_analysis.core.tables import NOT_RUN, program, write_csv
from acodm_analysis.paper.measures import fewer_steps, final_perplexity, mean_perplexities, steps_to
from acodm_analysis.paper.published import published
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="The paper",
    place=20,
    heading="Validation curves of the paper, and here",
    figure="paper_curves",
    data=("paper_curves", "paper_marks"),
    caption=(
        "Mean over domains of their validation perplexities, against step. Left: the AC-ODM paper's curves as"
        " read off. Right: here, medians over seeds, with the strongest cheap baseline; (above): so far off that"
        " the line leaves the axes. Dashed: ODM's final perplexity, with the steps that AC-ODM's rows save"
        " against ODM's whole run; a row without a mark never reaches it."
    ),
)

REFERENCE = "odm"  # whose final perplexity the marks of "x % fewer steps" are at
MARKED = ("acodm", "acodm_proxy")
PUBLISHED, HERE = "published", "here"


def table(results: Results) -> pd.DataFrame:
    """One row per (panel, method, step): ``perplexity``, of the paper's curves as read off and of our methods in their place."""
    known, table = published(), published().tables["validation"]
    rows = [
        (PUBLISHED, name, name, known.row(name), step, value)
        for name, values in table.rows.items()
        for step, value in zip(table.steps, values, strict=True)
    ]
    shown = [(name, method) for name in table.rows for method in known.stand_ins(results, name)]
    cheap = strongest_cheap(results)
    for name, method in shown if cheap in {"", *(method for _, method in shown)} else [*shown, (cheap, cheap)]:
        for step, value in mean_perplexities(results, method).items():
            rows.append((HERE, name, method, title(results, method), step, value))
    return pd.DataFrame(rows, columns=["panel", "of", "method", "title", "step", "perplexity"])


def marks(results: Results) -> pd.DataFrame:
    """One row per (panel, AC-ODM's method): the ``steps`` to ODM's final ``perplexity``, and percent ``fewer`` (−inf: never)."""
    known, table, cost = published(), published().tables["validation"], published().tables["cost"]
    end, whole = table.rows[REFERENCE][-1], cost.rows[REFERENCE]["steps"]
    rows = []
    for name in MARKED:
        at = crossing(table.steps, np.log(table.rows[name]), math.log(end))
        rows.append((PUBLISHED, name, end, at, 100 * (1 - at / whole)))
    for reference in list(known.stand_ins(results, REFERENCE))[:1]:
        level = final_perplexity(results, reference).value
        for name in MARKED:
            for method in known.stand_ins(results, name):
                found = steps_to(results, method, reference).value
                rows.append((HERE, method, level, found, fewer_steps(results, method, reference).value))
    return pd.DataFrame(rows, columns=["panel", "method", "perplexity", "steps", "fewer"])


def draw(frame: pd.DataFrame, reached: pd.DataFrame) -> Figure:
    """Two panels, published and here, each with its own axes, ODM's final perplexity dashed and AC-ODM's crossings marked."""
    style.use()
    figure, axes = plt.subplots(1, 2, figsize=(style.WIDTH, 3.3))
    longest = frame["title"].str.len().max()
    figure.subplots_adjust(wspace=0.4 + 0.03 * longest)
    colours = style.colours(frame["method"].unique())
    for ax, panel, words in zip(axes, (PUBLISHED, HERE), ("Published, as read off", "Here"), strict=True):
        mine = frame[frame["panel"] == panel]
        if mine.empty:
            style.plain(ax, f"{words}: {NOT_RUN}")
            continue
        close, ends = near(mine.groupby("method")["perplexity"].last(), REFERENCE), []
        for method, rows in mine.groupby("method", sort=False):
            line = ax.plot(
                rows["step"], rows["perplexity"], color=colours[method], marker="o" if panel == PUBLISHED else "", ms=3
            )
            name, last = rows["title"].iloc[0], rows.iloc[-1]
            style.tag(line, method, f"{name}: {last['perplexity']:.2f} at step {last['step']}")
            far = "" if method in close else " (above)"
            ends.append((last["step"], last["perplexity"], name + far, colours[method], method))
        perplexity_axes(ax, mine[mine["method"].isin(close)], words)
        _mark(ax, reached[reached["panel"] == panel], colours, mine["step"].max())
        style.label_lines(ax, ends, {})
    axes[0].set_ylabel("Validation perplexity")
    return figure


def _mark(ax: Axes, reached: pd.DataFrame, colours: dict[str, str], horizon: float) -> None:
    """ODM's final perplexity, and at each crossing of it how many steps fewer it took."""
    level = reached["perplexity"].max()
    if not np.isfinite(level):
        return
    ax.axhline(level, color=style.INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
    early = reached[np.isfinite(reached["steps"]) & (reached["steps"] < horizon)].sort_values("steps")
    places = style.spread_labels((early["steps"] / horizon).tolist(), 0.21, 0.25, 0.88)
    if len(early):
        ax.text(0.01, 0.02, "steps:", transform=ax.transAxes, fontsize=7, color=style.FAINT)
    for place, row in zip(places, early.itertuples(), strict=True):
        colour = colours[row.method]
        dot = ax.plot(row.steps, level, "o", color=colour, ms=5, mec="white", mew=0.6, zorder=4)
        note = ax.annotate(
            f"−{row.fewer:.0f} %", (row.steps, level), (place, 0.02), textcoords="axes fraction", ha="center",
            va="bottom", color=style.legible(colour), fontsize=7,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "alpha": 0.6},
        )  # fmt: skip
        style.tag([*dot, note], row.method, f"reached at step {row.steps:.0f}")


def render(results: Results, out: Path) -> None:
    frame, reached = table(results), marks(results)
    write_csv(frame, out / "paper_curves.csv")
    write_csv(reached, out / "paper_marks.csv")
    style.save(draw(frame, reached), "paper_curves", out)


if __name__ == "__main__":
    program("paper.curves", __doc__, render)
