"""Validation curves: perplexity over steps, and each method's paired difference to the baseline in nats.

The line is the median over seeds, the band runs from the smallest to the largest seed. Perplexity is exp(mean loss over
domains, under the target's weights); its axis is logarithmic, so it is the loss's axis too. A cross is where a failed run ended.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from acodm_core.study.results import Results

from . import style
from .frames import baseline, crossings, losses, mean_name, targets, title
from .statistics import median, perplexity
from .tables import program, write_csv

_ENDED = ("ended", "ended_loss", "ended_difference")


def table(results: Results) -> pd.DataFrame:
    """One row a (method, step): loss and paired difference to the baseline (nats), each median, low and high over seeds.

    ``ended``: failed runs whose last evaluation this is, with their worst loss and difference. From there on they count
    as ``inf`` in the median.
    """
    curves = losses(results, "valid")
    base = curves[curves["method"] == baseline(results)].set_index(["seed", "step"])["mean"]
    keys = pd.MultiIndex.from_frame(curves[["seed", "step"]])
    curves["difference"] = curves["mean"].to_numpy() - base.reindex(keys).to_numpy()
    last = curves.groupby("run")["step"].transform("max")
    curves["ended"] = (curves["step"] == last) & (curves["status"] != "finished")
    rows = []
    for method in results.compare:
        mine = curves[curves["method"] == method]
        for step, group in mine.groupby("step"):
            lost = mine.loc[mine["ended"] & (mine["step"] < step), "run"].nunique()
            row = {"method": method, "title": title(results, method), "step": step, "n": len(group) + lost}
            for name, column in (("loss", "mean"), ("difference", "difference")):
                values = group[column].dropna().to_numpy()
                low, high = (values.min(), values.max()) if len(values) else (np.nan, np.nan)
                row |= {name: float(median([*values, *[np.inf] * lost])) if len(values) else np.nan}
                row |= {f"{name}_low": low, f"{name}_high": high}
            fallen = group[group["ended"]]
            row |= {
                "ended": len(fallen),
                "ended_loss": fallen["mean"].max(),
                "ended_difference": fallen["difference"].max(),
            }
            rows.append(row)
    columns = ["method", "title", "step", "n", "loss", "loss_low", "loss_high"]
    return pd.DataFrame(rows, columns=[*columns, "difference", "difference_low", "difference_high", *_ENDED])


def marks(results: Results) -> pd.DataFrame:
    """Where each method's median seed reaches the natural target: ``method``, ``steps`` (inf: not), ``loss`` (nats)."""
    goal = targets(results).set_index("target").loc["natural", "loss"]
    steps = crossings(results).query("target == 'natural'").groupby("method", sort=False)["steps"].agg(median)
    return steps.reset_index().assign(loss=goal)


def draw(frame: pd.DataFrame, reached: pd.DataFrame, base: str, mean: str) -> Figure:
    """Left: perplexity of the ``mean`` with the target and the crossings; right: the difference to the baseline."""
    if frame.empty:
        return style.said("No validation curve: not run.")
    style.use()
    methods = frame["method"].unique().tolist()
    colours, horizon = style.colours(methods), frame["step"].max()
    figure, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 3.2))
    # Room for the names between the panels: about 4 points a letter.
    figure.subplots_adjust(wspace=0.4 + 0.03 * frame["title"].str.len().max())
    shown = frame[np.isfinite(frame["loss"])]
    # The first third or so is the same steep fall for every method; it would flatten the part that is compared.
    late = shown[shown["step"] >= 0.3 * horizon]
    late = late if len(late) else shown
    ends = {left: [], right: []}
    for method in methods:
        mine = shown[shown["method"] == method]
        if mine.empty:
            continue
        colour, name = colours[method], mine["title"].iloc[0]
        for ax, value, scale in ((left, "loss", perplexity), (right, "difference", np.asarray)):
            rows = mine if ax is left else mine[(mine["step"] >= 0.12 * horizon) & mine["difference"].notna()]
            if rows.empty:
                continue
            x, y = rows["step"], scale(rows[value])
            band = ax.fill_between(
                x, scale(rows[f"{value}_low"]), scale(rows[f"{value}_high"]), color=colour, alpha=0.14, lw=0
            )
            line = ax.plot(x, y, color=colour, lw=1.2 if method == base else 1.6)
            crosses = rows[rows["ended"] > 0]
            worst = ax.plot(
                crosses["step"], scale(crosses[f"ended_{value}"]), "X", color=colour, ms=6, mec="white", mew=0.6
            )
            final = f"{name}: {scale(rows[value].iloc[-1]):.4g} at step {rows['step'].iloc[-1]}"
            style.tag([band, *line, *worst], method, final)
            end = (x.iloc[-1], float(np.asarray(y)[-1]))
            if end[0] == horizon:
                ends[ax].append((*end, name, colour, method))
            else:  # most seeds failed: the name belongs where the line stops
                note = ax.annotate(f"{name} failed", end, (7, 0), textcoords="offset points", va="center", color=colour)
                note.set(fontsize=7.5, path_effects=[withStroke(linewidth=2, foreground="white")])
                style.tag(note, method)
    left.set_title(f"Validation perplexity, {mean}")
    _left(left, late, reached, colours, horizon, base)
    right.axhline(0, color=style.INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
    right.set_title(f"Difference to {frame.loc[frame['method'] == base, 'title'].max()} (nats a token)")
    for ax in (left, right):
        ax.set_xlabel("Optimiser steps")
        ax.set_xlim(0 if ax is left else 0.12 * horizon, horizon)
    right.margins(y=0.08)
    right.yaxis.set_major_locator(plt.MaxNLocator(6))
    for ax, labels in ends.items():
        style.label_lines(ax, labels)
    return figure


def _left(
    ax: plt.Axes, late: pd.DataFrame, reached: pd.DataFrame, colours: dict[str, str], horizon: float, base: str
) -> None:
    """Axis, target line and crossings of the perplexity panel."""
    low, high = perplexity(late["loss_low"].min()), perplexity(late["loss_high"].max())
    ax.set_yscale("log")
    ax.set_ylim(low / (high / low) ** 0.16, high)
    ax.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 8)))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    goal, own = reached["loss"].max(), reached.loc[reached["method"] == base, "steps"].max()
    if not np.isfinite(goal):
        return
    goal = float(perplexity(goal))
    ax.axhline(goal, color=style.INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
    words = ax.annotate(f"target {goal:.2f}", (0, goal), (4, -3), textcoords="offset points", va="top", fontsize=7)
    words.set_color(style.INK)
    early = reached[np.isfinite(reached["steps"]) & (reached["steps"] < horizon)]
    places = style.spread_labels((early["steps"] / horizon).tolist(), 0.19, 0.0, 1.0)
    for place, row in zip(places, early.itertuples(), strict=True):
        colour = colours[row.method]
        fewer = 100 * (1 - row.steps / min(own, horizon))
        if fewer >= 2:
            note = ax.text(
                place, 0.015, f"−{fewer:.0f} %", color=colour, transform=ax.transAxes, ha="center", fontsize=7
            )
            note.set_bbox({"fc": "white", "ec": "none", "pad": 0.6})
            style.tag(note, row.method, f"{fewer:.0f} % fewer steps than the baseline")
        drop = ax.plot([row.steps, row.steps], [ax.get_ylim()[0], goal], color=colour, lw=0.9, ls=":", zorder=2)
        dot = ax.plot(row.steps, goal, "o", color=colour, ms=4.5, mec="white", mew=0.7, zorder=5)
        style.tag([*drop, *dot], row.method, f"reaches the target at step {row.steps:.0f}")


def render(results: Results, out: Path) -> None:
    frame = table(results)
    write_csv(frame, out / "curves.csv")
    style.save(draw(frame, marks(results), baseline(results), mean_name(results)), "curves", out)


if __name__ == "__main__":
    program("curves", __doc__, render)
