"""The AC-ODM paper's figures: its curves as read off, and beside them, never in one axes, the same figure from these results."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from acodm_analysis import curves
from acodm_analysis.core import style
from acodm_analysis.core.frames import losses, strongest_cheap, title
from acodm_analysis.core.seed_statistics import crossing, median
from acodm_analysis.core.tables import NOT_RUN, write_csv
from acodm_analysis.paper.measures import fewer_steps, final_perplexity, steps_to
from acodm_analysis.paper.published import published
from acodm_core.results.tables import Results

REFERENCE = "odm"  # whose final perplexity the marks of "x % fewer steps" are at
MARKED = ("acodm", "acodm_proxy")
AXES = ("granularity", "proxy_size", "architecture")  # of the ablation: what the paper varies
PUBLISHED, HERE = "published", "here"


def validation(results: Results) -> pd.DataFrame:
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


def mean_perplexities(results: Results, method: str) -> pd.Series:
    """Step -> the mean over domains of their validation perplexities, median over seeds; a failed seed is the worst throughout."""
    found = losses(results, "valid", [method])
    wide = found.pivot(index="step", columns="run", values="mean_of_perplexities")
    wide[found.loc[found["status"] != "finished", "run"].unique().tolist()] = np.inf
    medians = pd.Series(median(wide), wide.index)
    return medians[np.isfinite(medians)]


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


def draw_validation(frame: pd.DataFrame, reached: pd.DataFrame) -> Figure:
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
        near, ends = curves.near(mine.groupby("method")["perplexity"].last(), REFERENCE), []
        for method, rows in mine.groupby("method", sort=False):
            line = ax.plot(
                rows["step"], rows["perplexity"], color=colours[method], marker="o" if panel == PUBLISHED else "", ms=3
            )
            name, last = rows["title"].iloc[0], rows.iloc[-1]
            style.tag(line, method, f"{name}: {last['perplexity']:.2f} at step {last['step']}")
            far = "" if method in near else " (above)"
            ends.append((last["step"], last["perplexity"], name + far, colours[method], method))
        _frame(ax, mine[mine["method"].isin(near)], words)
        _mark(ax, reached[reached["panel"] == panel], colours, mine["step"].max())
        style.label_lines(ax, ends, {})
    axes[0].set_ylabel("Validation perplexity")
    return figure


def _frame(ax: Axes, rows: pd.DataFrame, words: str) -> None:
    """Logarithmic perplexities of what is compared, without the steep fall of curves from step 0; steps from 0."""
    late = rows[rows["step"] >= (0.3 * rows["step"].max() if rows["step"].min() == 0 else 0)]
    low, high = late["perplexity"].min(), late["perplexity"].max()
    ax.set_yscale("log")
    ax.set_ylim(low / (high / low) ** 0.12, high * (high / low) ** 0.05)
    ax.yaxis.set_major_locator(plt.MaxNLocator(6) if high < 4 * low else LogLocator(subs=(1, 1.5, 2, 3, 4, 6, 8)))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xlim(0, rows["step"].max())
    ax.xaxis.set_major_locator(plt.MaxNLocator(5))
    ax.set_xlabel("Optimiser steps")
    ax.set_title(words)


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


def draw_domains(frame: pd.DataFrame) -> Figure:
    """Left: the published means over the Pile's domains; right: our domains, a dot a method."""
    style.use()
    known, table = published(), published().tables["domains"]
    name, means = next(iter(table.rows.items()))
    domains = frame["domain"].unique().tolist()
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(style.WIDTH, 1.0 + 0.27 * max(len(domains), 6)), width_ratios=[1, 1.7]
    )
    figure.subplots_adjust(wspace=0.65)
    colours = style.colours([*means, *(method for method in frame["method"].unique() if method not in means)])
    for y, (method, value) in enumerate(means.items()):
        bar = left.barh(y, float(value), height=0.55, color=colours[method], alpha=0.7)
        left.text(float(value) + 0.15, y, value, va="center", fontsize=7, color=style.INK)
        style.tag(list(bar), method, f"{known.row(method)}: {value}")
    left.set_yticks(range(len(means)), [known.row(method) for method in means])
    left.set_ylim(len(means) - 0.5, -0.5)
    left.set_xlim(0, 1.15 * max(float(value) for value in means.values()))
    left.set_title(f"Published: {name}")
    if not np.isfinite(frame["perplexity"]).any():
        style.plain(right, f"Here: {NOT_RUN}")
        return figure
    shapes = style.markers(frame["method"].unique())
    offsets = dict(zip(shapes, np.linspace(-0.25, 0.25, len(shapes)) if len(shapes) > 1 else [0.0], strict=True))
    for method, rows in frame.groupby("method", sort=False):
        places = [domains.index(domain) + offsets[method] for domain in rows["domain"]]
        dots = right.plot(rows["perplexity"], places, shapes[method], color=colours[method], ms=4.2, alpha=0.85)
        dots[0].set_label(rows["title"].iloc[0])
        style.tag(dots, method, rows["title"].iloc[0])
    for i in range(0, len(domains), 2):
        right.axhspan(i - 0.5, i + 0.5, color="#f6f6f6", lw=0, zorder=0)
    right.axhline(len(domains) - 2.5, color=style.FAINT, lw=0.7)  # below it two means
    right.set_xscale("log")
    right.xaxis.set_minor_formatter(NullFormatter())
    shown = frame.loc[np.isfinite(frame["perplexity"]), "perplexity"]
    right.set_xticks(_round_ticks(shown.min(), shown.max()))
    right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    right.set_yticks(range(len(domains)), domains)
    right.set_ylim(len(domains) - 0.5, -0.5)
    right.set_title("Here")
    for ax in (left, right):
        ax.set_xlabel("Test perplexity")
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
    figure.legend(
        *right.get_legend_handles_labels(), loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=4, handletextpad=0.2
    )
    return figure


def _round_ticks(low: float, high: float) -> list[float]:
    """Ticks of a short logarithmic axis: one, two and five times a power of ten, and others between where it is shorter yet."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [
        step * 10.0**power for power in powers for step in ((1, 2, 5) if high > 5 * low else (1, 1.5, 2, 3, 4, 5, 7))
    ]
    return [tick for tick in ticks if 0.8 * low <= tick <= 1.25 * high]


def axes_curves(results: Results) -> pd.DataFrame:
    """One row per (axis, label, step): the median validation ``perplexity`` of each value of the axes that the paper varies."""
    rows = []
    for axis in AXES:
        about = results.axes.get(axis, {"methods": {}})
        for label, method in about["methods"].items():
            found = mean_perplexities(results, method)
            rows += [(axis, about["title"], label, method, step, value) for step, value in found.items()]
    return pd.DataFrame(rows, columns=["axis", "title", "label", "method", "step", "perplexity"])


def draw_axes(frame: pd.DataFrame) -> Figure:
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
        _frame(ax, mine, words)
        ax.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.2), fontsize=6.5)  # below: lines fill the panel
    axes.flat[0].set_ylabel("Validation perplexity")
    return figure


def render(results: Results, domains: pd.DataFrame, out: Path) -> dict[str, str]:
    """Write the figures, each with the CSV behind it; returns name -> caption. ``domains``: test perplexity by domain.

    The figure of axes is written where the experiment has one of AXES.
    """
    table = published().tables["validation"]
    frames = {"paper_curves": validation(results), "paper_domains_figure": domains, "paper_axes": axes_curves(results)}
    if not len(frames["paper_axes"]):
        del frames["paper_axes"]
    else:
        style.save(draw_axes(frames["paper_axes"]), "paper_axes", out)
    for name, frame in frames.items():
        write_csv(frame, out / f"{name}.csv")
    write_csv(marks(results), out / "paper_marks.csv")
    style.save(draw_validation(frames["paper_curves"], marks(results)), "paper_curves", out)
    style.save(draw_domains(domains), "paper_domains_figure", out)
    reference = next((title(results, name) for name in published().stand_ins(results, REFERENCE)), NOT_RUN)
    captions = {
        "paper_curves": (
            f"Mean over domains of their validation perplexities, against step. Left: {table.setting} ({table.source})."
            f" Right: here, medians over seeds; (above): so far off that the line leaves the"
            f" axes. Dashed: the final perplexity of ODM (left) and"
            f" {reference} (right), with the steps that AC-ODM's rows save against ODM's whole run; a row without a mark never"
            " reaches it. On the right stands the strongest cheap baseline, too."
        ),
        "paper_domains_figure": (
            "Test perplexity: published means over the Pile's domains, and our domains; the scales have nothing to do with each"
            " other."
        ),
        "paper_axes": (
            "What the paper varies, here: mean over domains of their validation perplexities, median over seeds, for each value of"
            " an axis."
        ),
    }
    return {name: captions[name] for name in frames}
