"""Validation curves: perplexity over steps, and each method's paired difference to the baseline in nats.

The line is the median over seeds, the band runs from the smallest to the largest seed. Perplexity is exp(mean loss over
domains, under the objective weights); its axis is logarithmic, so it is the loss's axis too. A cross is where a failed run ended.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from acodm_analysis.core import style
from acodm_analysis.core.costs import censored
from acodm_analysis.core.frames import baseline, crossings, horizon, losses, mean_name, thresholds, title
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.panels import near
from acodm_analysis.core.seed_statistics import median, perplexity
from acodm_analysis.core.tables import at_least, number, program, write_csv
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Efficiency",
    place=10,
    heading="Validation curves",
    figure="curves",
    data=("curves",),
    caption=(
        "Left: validation perplexity, exp of the mean loss over domains, on a logarithmic axis; dots mark where"
        " the median seed reaches the threshold. Right: difference to the baseline, seed by seed, and beside each"
        " name the steps saved on the way to the threshold. Lines are medians, bands (up to eight methods) the"
        ' smallest and largest seed, crosses the end of failed runs. "Above": a method so far off that its line'
        " leaves the axes."
    ),
)

_HALO = [withStroke(linewidth=2, foreground="white")]
_ENDED = ("ended", "ended_loss", "ended_difference")


def table(results: Results) -> pd.DataFrame:
    """One row per (method, step): loss and paired difference to the baseline (nats), each median, low and high over seeds.

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
    """Where each method's median seed reaches each threshold: ``threshold``, ``method``, ``steps`` (inf: not), ``loss`` (nats).

    ``fewer``: the share of the baseline's steps that are saved, with ``bound`` a lower bound, as the baseline is censored.
    """
    known, whole = thresholds(results).set_index("threshold")["loss"], horizon(results)
    found = crossings(results).groupby(["threshold", "method"], sort=False)["steps"].agg(median).reset_index()
    own = found["threshold"].map(found[found["method"] == baseline(results)].set_index("threshold")["steps"])
    found["loss"], found["fewer"] = found["threshold"].map(known), 1 - found["steps"] / own.clip(upper=whole)
    found["bound"] = censored(own, whole)
    return found[np.isfinite(found["loss"])].reset_index(drop=True)


def draw(frame: pd.DataFrame, reached: pd.DataFrame, base: str, mean: str) -> Figure:
    """Left: perplexity of the ``mean`` with the threshold and the crossings; right: the difference to the baseline."""
    if frame.empty:
        return style.said("No validation curve: not run.")
    style.use()
    methods = frame["method"].unique().tolist()
    bands = style.banded(methods)
    colours, horizon = style.colours(methods), frame["step"].max()
    figure, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, max(3.2, 1.1 + 0.13 * len(methods))))
    # Room for the names, about 4 points a letter, and for the steps saved.
    figure.subplots_adjust(left=0.09, right=0.91 - 0.0078 * frame["title"].str.len().max(), wspace=0.3)
    shown = frame[np.isfinite(frame["loss"])]
    # The first third or so is the same steep fall for every method; it would flatten the part that is compared.
    late = shown[shown["step"] >= 0.3 * horizon]
    late = late if len(late) else shown
    scale_setters = near(late.groupby("method")["loss"].last(), base)
    late = late[late["method"].isin(scale_setters)]
    _axes(left, right, late, base, bands)
    left.set_ylabel(mean.capitalize())
    ends = {left: [], right: []}
    for method in methods:
        mine = shown[shown["method"] == method]
        for ax, value, scale in ((left, "loss", perplexity), (right, "difference", np.asarray)):
            rows = mine if ax is left else mine[(mine["step"] >= 0.12 * horizon) & mine["difference"].notna()]
            if rows.empty:
                continue
            _line(ax, rows, value, scale, method, colours[method], 1.2 if method == base else 1.6, bands)
            end = (rows["step"].iloc[-1], float(scale(rows[value].iloc[-1])), rows["title"].iloc[0])
            # A line that stops short: most seeds failed.
            fate = " (failed)" if end[0] < horizon else "" if method in scale_setters else " (above)"
            ends[ax].append((*end[:2], end[2] + fate, colours[method], method))
    for ax in (left, right):
        ax.set_xlabel("Optimiser steps")
        ax.set_xlim(0 if ax is left else 0.12 * horizon, horizon)
    saved = {}
    for threshold, rows in reached.groupby("threshold"):
        _threshold(left, rows, threshold, colours, horizon)
        few = rows[(rows["method"] != base) & np.isfinite(rows["steps"])]
        saved[threshold] = {r.method: at_least(f"{number(100 * r.fewer, 0)} %", r.bound) for r in few.itertuples()}
    named = right if ends[right] else left
    style.label_lines(named, ends[named], saved)
    if any(saved.values()):
        words = named.annotate(
            "steps saved", (1, 1), (43, 1), xycoords="axes fraction", textcoords="offset points", ha="right"
        )
        words.set(fontsize=6.5, color=style.FAINT)
    return figure


def _line(
    ax: plt.Axes, rows: pd.DataFrame, value: str, scale: Callable, method: str, colour: str, width: float, bands: bool
) -> None:
    """A method's median, with ``bands`` its range over seeds, and the ends of its failed runs."""
    low, middle, high = (scale(rows[name].to_numpy()) for name in (f"{value}_low", value, f"{value}_high"))
    band = [ax.fill_between(rows["step"], low, high, color=colour, alpha=0.14, lw=0)] if bands else []
    (line,) = ax.plot(rows["step"], middle, color=colour, lw=width)
    fallen = rows[rows["ended"] > 0]
    worst = ax.plot(fallen["step"], scale(fallen[f"ended_{value}"]), "X", color=colour, ms=6, mec="white", mew=0.6)
    style.tag([*band, line, *worst], method)
    signed = value == "difference"
    digits = 4 if signed else 2
    texts = [[number(v, digits, signed=signed) for v in three] for three in zip(middle, low, high, strict=True)]
    seeds = [f", {n} seeds" if n > 1 else ", 1 seed" for n in rows["n"]]
    words = [f"{m} ({a} to {b}{n})" for (m, a, b), n in zip(texts, seeds, strict=True)]
    style.trace(line, "Difference, nats per token" if signed else "Validation perplexity", words)


def _axes(left: plt.Axes, right: plt.Axes, late: pd.DataFrame, base: str, bands: bool) -> None:
    """Scales and titles: the medians of ``late`` decide what is seen, bands may leave it."""
    low, high = perplexity(np.array(_limits(late, "loss", bands)))
    left.set_yscale("log")
    left.set_ylim(low, high)
    left.yaxis.set_major_locator(plt.MaxNLocator(6) if high < 4 * low else LogLocator(subs=(1, 1.5, 2, 3, 4, 6, 8)))
    left.yaxis.set_minor_formatter(NullFormatter())
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    left.set_title("Validation perplexity")
    right.axhline(0, color=style.INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
    right.set_title(f"Difference to {late.loc[late['method'] == base, 'title'].max()} (nats)")
    if late["difference"].notna().any():
        right.set_ylim(*_limits(late, "difference", bands))
    right.yaxis.set_major_locator(plt.MaxNLocator(6))


def _limits(rows: pd.DataFrame, value: str, bands: bool) -> tuple[float, float]:
    """All medians, and of the ``bands`` what lies within a third of their range beyond them."""
    low, high = rows[value].min(), rows[value].max()
    bottom, top = (rows[f"{value}_low"].min(), rows[f"{value}_high"].max()) if bands else (low, high)
    reach = float(high - low or top - bottom or 1.0)
    bottom, top = max(bottom, low - reach / 3), min(top, high + reach / 3)
    return bottom - 0.06 * reach, top + 0.06 * reach


def _threshold(ax: plt.Axes, reached: pd.DataFrame, threshold: str, colours: dict[str, str], horizon: float) -> None:
    """The threshold's line, and a dot where each method's median seed reaches it, with a line down while they are few."""
    drops = style.banded(colours)
    level = float(perplexity(reached["loss"].iloc[0]))
    line = ax.axhline(level, color=style.INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
    at = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
    # Below the line and left of the first crossing, where no curve has come yet.
    words = ax.annotate(f"threshold {level:.2f}", (0, level), (3, -3), va="top", zorder=6, **at)
    words.set(fontsize=7, color=style.INK, path_effects=_HALO)
    style.tag([line, words], threshold=threshold)
    for row in reached[np.isfinite(reached["steps"]) & (reached["steps"] < horizon)].itertuples():
        colour = colours[row.method]
        ends = [ax.get_ylim()[0], level]
        drop = ax.plot([row.steps] * 2, ends, color=colour, lw=0.9, ls=":", zorder=2) if drops else []
        dot = ax.plot(row.steps, level, "o", color=colour, ms=4.5, mec="white", mew=0.7, zorder=5)
        style.tag([*drop, *dot], row.method, f"reaches the threshold at step {row.steps:.0f}", threshold)


def render(results: Results, out: Path) -> None:
    frame = table(results)
    write_csv(frame, out / "curves.csv")
    style.save(draw(frame, marks(results), baseline(results), mean_name(results)), "curves", out)


if __name__ == "__main__":
    program("curves", __doc__, render)
