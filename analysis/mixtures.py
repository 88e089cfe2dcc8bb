"""What each method asked for: one panel a domain, its requested share over the steps, the natural share dashed.

Lines are medians over seeds of means over short stretches of steps, bands run from the smallest to the largest seed. Methods
that never move their mixture are thin straight lines; a panel's scale is its own, as shares differ by orders of magnitude.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from acodm_core.study.results import Results

from . import style
from .frames import baseline, compared_runs, horizon, static_methods, title
from .tables import program, write_csv

STRETCHES = 60


def table(results: Results) -> pd.DataFrame:
    """One row a (method, domain, stretch): middle ``step``; ``share`` (median over seeds), ``low``, ``high``, ``drawn``."""
    runs = compared_runs(results).set_index("run")["method"]
    rows = results.mixture[results.mixture["run"].isin(runs.index)]
    width = max(1, math.ceil(horizon(results) / STRETCHES))
    rows = rows.assign(stretch=(rows["step"] - 1) // width, method=rows["run"].map(runs))
    means = rows.groupby(["method", "domain", "stretch", "run"]).agg(
        step=("step", "mean"), requested=("requested", "mean"), drawn=("drawn", "mean")
    )
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
    style.use()
    weights = frame.drop_duplicates("domain").set_index("domain")["natural"].sort_values(ascending=False, kind="stable")
    methods = frame["method"].unique().tolist()
    colours = style.colours(methods)
    columns = min(4, len(weights))
    lines = math.ceil(len(weights) / columns)
    figure, axes = plt.subplots(lines, columns, figsize=(style.WIDTH, 0.75 + 1.35 * lines), sharex=True, squeeze=False)
    figure.subplots_adjust(hspace=0.42, wspace=0.3)
    for ax, (domain, natural) in zip(axes.flat, weights.items(), strict=False):
        mine = frame[frame["domain"] == domain]
        for method in methods:
            rows = mine[mine["method"] == method]
            if method == base or rows.empty:
                continue
            fixed = bool(rows["static"].all())
            band = ax.fill_between(
                rows["step"], 100 * rows["low"], 100 * rows["high"], color=colours[method], alpha=0.13, lw=0
            )
            line = ax.plot(rows["step"], 100 * rows["share"], color=colours[method], lw=1.0 if fixed else 1.4)
            tip = f"{rows['title'].iloc[0]}, {domain}: {100 * rows['share'].iloc[-1]:.1f} % at the end"
            style.tag([band, *line], method, tip)
        ax.axhline(100 * natural, color=colours.get(base, style.INK), lw=0.9, ls=(0, (4, 3)))
        ax.set_title(domain, fontweight="normal", fontsize=7.5, pad=3)
        top = max(100 * natural, np.nanmax(100 * mine["high"].to_numpy()))
        ax.set_ylim(0, 1.08 * top)
        ax.yaxis.set_major_locator(plt.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        ax.xaxis.set_major_locator(plt.MaxNLocator(3))
    unused = axes.flat[len(weights) :]
    for ax in unused:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("Share (%)")
    for ax in axes.flat[max(0, len(weights) - columns) : len(weights)]:
        ax.set_xlabel("Steps")
        ax.xaxis.set_tick_params(labelbottom=True)
    titles = frame.drop_duplicates("method").set_index("method")["title"]
    handles = [
        plt.Line2D([], [], color=colours[m], lw=1.8 if m != base else 1, ls=(0, (4, 3)) if m == base else "-")
        for m in methods
    ]
    names = [f"{titles[m]} (fixed)" if m == base else titles[m] for m in methods]
    figure.legend(
        handles,
        names,
        loc="lower center",
        bbox_to_anchor=(0.5, 0.88 + 0.24 / figure.get_figheight()),
        ncols=min(6, len(methods)),
    )
    return figure


def render(results: Results, out: Path) -> None:
    frame = table(results)
    write_csv(frame, out / "mixtures.csv")
    style.save(draw(frame, baseline(results)), "mixtures", out)


if __name__ == "__main__":
    program("mixtures", __doc__, render)
