"""What the AC-ODM paper varies, here: validation curves for each value of those axes of the ablation."""

from __future__ import annotations

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from acodm_analysis.core import style
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.panels import perplexity_axes
from acodm_analysis.core.tables import NOT_RUN, program, write_csv
from acodm_analysis.paper.measures import mean_perplexities
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="The paper",
    place=40,
    heading="What the paper varies, here",
    figure="paper_axes",
    data=("paper_axes",),
    needs=("axis granularity", "axis proxy_size", "axis architecture"),
    caption=(
        "Mean over domains of their validation perplexities, median over seeds, for each value of the axes that"
        " the paper varies."
    ),
)

AXES = ("granularity", "proxy_size", "architecture")  # of the ablation: what the paper varies


def table(results: Results) -> pd.DataFrame:
    """One row per (axis, label, step): the median validation ``perplexity`` of each value of the axes that the paper varies."""
    rows = []
    for axis in AXES:
        about = results.axes.get(axis, {"methods": {}})
        for label, method in about["methods"].items():
            found = mean_perplexities(results, method)
            rows += [(axis, about["title"], label, method, step, value) for step, value in found.items()]
    return pd.DataFrame(rows, columns=["axis", "title", "label", "method", "step", "perplexity"])


def draw(frame: pd.DataFrame) -> Figure:
    """One panel per axis, a line a value."""
    style.use()
    names = frame["axis"].unique()
    figure, axes = plt.subplots(1, len(names), figsize=(style.WIDTH, 2.6), squeeze=False)
    figure.subplots_adjust(wspace=0.3)
    shades = plt.get_cmap("viridis")
    for ax, name in zip(axes.flat, names, strict=True):
        mine = frame[(frame["axis"] == name) & np.isfinite(frame["perplexity"])]
        words = textwrap.fill(frame.loc[frame["axis"] == name, "title"].iloc[0], 80 // len(names))
        if mine.empty:
            style.plain(ax, f"{words}: {NOT_RUN}")
            continue
        groups = list(mine.groupby("label", sort=False))
        for i, (label, rows) in enumerate(groups):
            look = {"color": shades(0.85 * i / max(1, len(groups) - 1)), "ls": ("-", "--", "-.", ":")[i % 4]}
            line = ax.plot(rows["step"], rows["perplexity"], label=label, **look)
            style.tag(line, rows["method"].iloc[0], f"{label}: {rows['perplexity'].iloc[-1]:.2f}")
        perplexity_axes(ax, mine, words)
        ax.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.2), fontsize=6.5)  # below: lines fill the panel
    axes.flat[0].set_ylabel("Validation perplexity")
    return figure


def render(results: Results, out: Path) -> None:
    frame = table(results)
    write_csv(frame, out / "paper_axes.csv")
    style.save(draw(frame), "paper_axes", out)


if __name__ == "__main__":
    program("paper.axes", __doc__, render)
