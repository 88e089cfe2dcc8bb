"""Small multiples over the steps of a run: a panel a quantity, a line a method with its band over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import style


def grid(titles: Sequence[str], columns: int) -> tuple[Figure, list[Axes]]:
    """A figure with one axes a title; the lowest of each column names the steps."""
    style.use()
    columns = min(columns, len(titles))
    lines = math.ceil(len(titles) / columns)
    figure, axes = plt.subplots(lines, columns, figsize=(style.WIDTH, 0.75 + 1.35 * lines), sharex=True, squeeze=False)
    figure.subplots_adjust(hspace=0.42, wspace=0.3)
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


def line(ax: Axes, rows: pd.DataFrame, name: str, method: str, colour: str, tip: str, *, width: float = 1.4) -> None:
    """Column ``name`` of ``rows`` against their ``step``, with the band from ``low`` to ``high``."""
    band = ax.fill_between(rows["step"], rows["low"], rows["high"], color=colour, alpha=0.13, lw=0)
    style.tag([band, *ax.plot(rows["step"], rows[name], color=colour, lw=width)], method, tip)


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
