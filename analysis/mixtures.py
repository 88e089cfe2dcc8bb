"""What each method asked for: one panel a domain, its requested share over the steps, the natural share dashed.

Lines are medians over seeds of means over short stretches of steps, bands run from the smallest to the largest seed. Methods
that never move their mixture are thin straight lines; a panel's scale is its own, as shares differ by orders of magnitude.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from acodm_core.study.results import Results

from . import panels, style
from .frames import baseline, static_methods, stretched, title
from .tables import program, write_csv


def table(results: Results) -> pd.DataFrame:
    """One row a (method, domain, stretch): middle ``step``; ``share`` (median over seeds), ``low``, ``high``, ``drawn``."""
    means = stretched(results, results.mixture, ["domain"], ["requested", "drawn"])
    seeds = means.groupby(["method", "domain", "stretch"])
    frame = seeds["requested"].agg(share="median", low="min", high="max")
    frame["drawn"], frame["step"] = seeds["drawn"].median(), seeds["step"].median()
    frame = frame.reset_index()
    places = [frame["method"].map(results.compare.index), frame["domain"].map(results.domains.index), frame["stretch"]]
    frame = frame.iloc[np.lexsort(places[::-1])]
    frame["natural"] = frame["domain"].map(results.natural_weights)
    frame["static"] = frame["method"].isin(static_methods(results))
    frame.insert(1, "title", [title(results, method) for method in frame["method"]])
    return frame.drop(columns="stretch").reset_index(drop=True)


def draw(frame: pd.DataFrame, base: str) -> Figure:
    """Small multiples by domain, the largest natural share first; colours are the methods'."""
    if frame.empty:
        return style.said("No mixture was recorded: not run.")
    weights = frame.drop_duplicates("domain").set_index("domain")["natural"].sort_values(ascending=False, kind="stable")
    methods = frame["method"].unique().tolist()
    colours = style.colours(methods)
    percent = frame.assign(**{name: 100 * frame[name] for name in ("share", "low", "high")})
    figure, axes = panels.grid(weights.index.tolist(), 4)
    for ax, (domain, natural) in zip(axes, weights.items(), strict=True):
        mine = percent[percent["domain"] == domain]
        for method in methods:
            rows = mine[mine["method"] == method]
            if method == base or rows.empty:
                continue
            tip = f"{rows['title'].iloc[0]}, {domain}: {rows['share'].iloc[-1]:.1f} % at the end"
            panels.line(ax, rows, "share", method, colours[method], tip, width=1.0 if rows["static"].all() else 1.4)
        ax.axhline(100 * natural, color=colours.get(base, style.INK), lw=0.9, ls=(0, (4, 3)))
        ax.set_ylim(0, 1.08 * max(100 * natural, np.nanmax(mine["high"].to_numpy())))
        ax.yaxis.set_major_locator(plt.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    for ax in axes[::4]:
        ax.set_ylabel("Share (%)")
    titles = frame.drop_duplicates("method").set_index("method")["title"]
    handles = [
        plt.Line2D([], [], color=colours[m], lw=1.8 if m != base else 1, ls=(0, (4, 3)) if m == base else "-")
        for m in methods
    ]
    panels.legend(figure, handles, [f"{titles[m]} (fixed)" if m == base else titles[m] for m in methods])
    return figure


def render(results: Results, out: Path) -> None:
    frame = table(results)
    write_csv(frame, out / "mixtures.csv")
    style.save(draw(frame, baseline(results)), "mixtures", out)


if __name__ == "__main__":
    program("mixtures", __doc__, render)
