"""What each method asked for: one panel per domain, its requested share over the steps, the natural share dashed.

Each seed is a thin line of means over short stretches of steps: where seeds go to different corners, a median over them is a
mixture that nobody asked for. A static method is one straight line. Shares differ by orders of magnitude, so their axis is
logarithmic.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from acodm_analysis.core import panels, style
from acodm_analysis.core.frames import baseline, static_methods, stretched, title
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.tables import number, program, write_csv
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Mixture dynamics",
    place=10,
    heading="Requested mixtures",
    figure="mixtures",
    data=("mixtures",),
    caption=(
        "Weight of each domain in the mixture that the methods asked for, on a logarithmic axis: one thin line"
        " per seed, means over short stretches of steps."
    ),
)


def table(results: Results) -> pd.DataFrame:
    """One row per (method, domain, seed, stretch): middle ``step``; ``share`` that was asked for, and ``drawn``."""
    frame = stretched(results, results.mixture, ["domain"], ["requested", "drawn"]).rename(
        columns={"requested": "share"}
    )
    frame["seed"] = frame.pop("run").map(results.runs.set_index("run")["seed"])
    places = [frame["method"].map(results.compare.index), frame["domain"].map(results.domains.index), frame["seed"]]
    places.append(frame["stretch"])
    frame = frame.iloc[np.lexsort(places[::-1])]
    frame["natural"] = frame["domain"].map(results.natural_weights)
    frame["static"] = frame["method"].isin(static_methods(results))
    frame.insert(1, "title", [title(results, method) for method in frame["method"]])
    return frame.drop(columns="stretch").reset_index(drop=True)


def draw(frame: pd.DataFrame, base: str) -> Figure:
    """Small multiples by domain, the largest natural share first, all on one logarithmic axis; colours are the methods'."""
    if frame.empty:
        return style.said("No mixture was recorded: not run.")
    weights = frame.drop_duplicates("domain").set_index("domain")["natural"].sort_values(ascending=False, kind="stable")
    methods = frame["method"].unique().tolist()
    moving = frame.loc[~frame["static"], "method"].unique()
    colours, dashes = style.colours(methods), style.dashes(methods)
    percent = frame.assign(share=100 * frame["share"])
    floor = 1.0 if 100 * min(frame["share"].min(), frame["natural"].min()) >= 1 else 0.1  # percent
    figure, axes = panels.grid(weights.index.tolist(), 4, sharey=True)
    for ax, (domain, natural) in zip(axes, weights.items(), strict=True):
        mine = percent[percent["domain"] == domain]
        for method in methods:
            rows, static = mine[mine["method"] == method], method not in moving
            # A share below the axis is drawn on its edge.
            low = rows.assign(share=rows["share"].clip(lower=floor))
            look = {"color": colours[method], "ls": dashes[method], "lw": 1.0 if static else 0.7}
            if method == base:
                continue
            drawn = set()  # seeds of one static mixture lie on each other
            for seed, one in low.groupby("seed"):
                if (shares := tuple(one["share"].round(9))) not in drawn:
                    words = (f"{domain}, share, seed {seed}", partial(_share, floor=floor))
                    panels.line(ax, one, "share", method, words, band=False, **look)
                drawn.add(shares)
        ax.axhline(100 * natural, color=colours.get(base, style.INK), lw=0.9, ls=(0, (4, 3)))
    axes[0].set_yscale("log")
    axes[0].set_ylim(0.85 * floor, 130)
    axes[0].yaxis.set_major_formatter(lambda value, _: f"≤{value:g}" if value <= floor else f"{value:g}")
    axes[0].yaxis.set_minor_locator(plt.NullLocator())
    for ax in axes[::4]:
        ax.set_ylabel("Mixture (%)")
    titles = frame.drop_duplicates("method").set_index("method")["title"]
    handles = [
        plt.Line2D([], [], color=colours[m], lw=1 if m == base else 1.6, ls=(0, (4, 3)) if m == base else dashes[m])
        for m in methods
    ]
    panels.legend(figure, handles, [f"{titles[m]} (fixed)" if m == base else titles[m] for m in methods])
    return figure


def _share(percent: float, floor: float) -> str:
    """A share as hovering writes it."""
    return f"≤{floor:g} %" if percent <= floor else f"{number(percent, 1 if percent >= 10 else 2)} %"


def render(results: Results, out: Path) -> None:
    frame = table(results)
    write_csv(frame, out / "mixtures.csv")
    style.save(draw(frame, baseline(results)), "mixtures", out)


if __name__ == "__main__":
    program("mixtures", __doc__, render)
