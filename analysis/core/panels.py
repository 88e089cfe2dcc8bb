"""Shapes that several figures share: small multiples over the steps of a run (a panel a quantity, a line a method with its
band over seeds), and coloured tables of methods by domains."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from acodm_analysis.core import style


def grid(titles: Sequence[str], columns: int, *, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with one axes a title; the lowest of each column names the steps."""
    style.use()
    columns = min(columns, len(titles))
    lines = math.ceil(len(titles) / columns)
    size = (style.WIDTH, 0.75 + 1.35 * lines)
    figure, axes = plt.subplots(lines, columns, figsize=size, sharex=True, sharey=sharey, squeeze=False)
    figure.subplots_adjust(hspace=0.42, wspace=0.12 if sharey else 0.3)
    for ax in axes.flat[len(titles) :]:
        ax.set_axis_off()
    for ax in axes.flat[max(0, len(titles) - columns) : len(titles)]:
        ax.set_xlabel("Steps")
        ax.xaxis.set_tick_params(labelbottom=True)
    used = list(axes.flat[: len(titles)])
    for ax, title in zip(used, titles, strict=True):
        ax.set_title(title, fontweight="normal", fontsize=7.5, pad=3)
        ax.xaxis.set_major_locator(plt.MaxNLocator(3))
    return figure, used


def line(
    ax: Axes,
    rows: pd.DataFrame,
    name: str,
    method: str,
    words: tuple[str, Callable[[float], str]],
    *,
    band: bool,
    **look: object,
) -> None:
    """Column ``name`` of ``rows`` against their ``step``, with the ``band`` from ``low`` to ``high``; ``look`` is the line's.

    Rows of one seed have no ``low`` and ``high``.

    ``words``: what hovering calls the panel, and how it writes a number.
    """
    around = []
    if band:
        around = [ax.fill_between(rows["step"], rows["low"], rows["high"], color=look["color"], alpha=0.13, lw=0)]
    (middle,) = ax.plot(rows["step"], rows[name], **look)
    style.tag([*around, middle], method)
    panel, write = words
    values = [write(value) for value in rows[name]]
    if "low" in rows:
        ends = zip(rows["low"], rows["high"], strict=True)
        values = [f"{value} ({write(a)} to {write(b)})" for value, (a, b) in zip(values, ends, strict=True)]
    style.trace(middle, panel, values)


def heat(ax: Axes, cells: pd.DataFrame, rows: dict[str, str], columns: Sequence[str]) -> None:
    """A coloured table: a row a method (``rows``: method -> title), a column a name.

    ``cells``: method, column, ``colour`` (RGBA), ``text``, ``bold`` (True or False), ``tip``.
    """
    places = {method: y for y, method in enumerate(rows)}, {name: x for x, name in enumerate(columns)}
    for cell in cells.itertuples():
        y, x = places[0][cell.method], places[1][cell.column]
        box = ax.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, fc=cell.colour, ec="white", lw=0.8))
        dark = float(np.dot(cell.colour[:3], (0.2126, 0.7152, 0.0722))) < 0.45
        word = ax.text(x, y, cell.text, ha="center", va="center", fontsize=6.3, color="white" if dark else style.INK)
        word.set_fontweight("bold" if cell.bold else "normal")
        style.tag([box, word], cell.method, cell.tip)
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_yticks(range(len(rows)), list(rows.values()))
    ax.set_xticks(range(len(columns)), columns, rotation=38, ha="left", rotation_mode="anchor")
    ax.xaxis.tick_top()
    ax.tick_params(length=0, pad=2)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)


def legend(figure: Figure, handles: Sequence, names: Sequence[str]) -> None:
    """Names above the panels, in as many columns as fit the figure's width."""
    place = (0.5, 0.88 + 0.24 / figure.get_figheight())
    figure.legend(handles, names, loc="lower center", bbox_to_anchor=place, ncols=_columns(names))


def _columns(names: Sequence[str]) -> int:
    """Legends fill column by column; a column takes about 0.06 inches a letter of its longest name and 0.55 besides."""
    for columns in range(min(6, len(names)), 1, -1):
        lines = math.ceil(len(names) / columns)
        longest = [max(map(len, names[i : i + lines])) for i in range(0, len(names), lines)]
        if sum(0.06 * letters + 0.55 for letters in longest) <= style.WIDTH:
            return columns
    return 1


def near(ends: pd.Series, base: str) -> list[str]:
    """The methods that set the scale: all (method -> final loss) but those that would make one line of the others.

    Up to a quarter of the methods may be so far off that without them the range is less than a third; never the baseline.
    """
    kept = ends.sort_values()
    for _ in range(len(ends) // 4):
        if kept.index[-1] == base or np.ptp(kept.iloc[:-1]) >= np.ptp(kept) / 3:
            break
        kept = kept.iloc[:-1]
    return kept.index.tolist()


def perplexity_axes(ax: Axes, rows: pd.DataFrame, words: str) -> None:
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
