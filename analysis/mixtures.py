"""What each method asked for: one panel a domain, its requested share over the steps, the natural share dashed.

Lines are medians over seeds of means over short stretches of steps, bands run from the smallest to the largest seed. Methods
that never move their mixture are thin straight lines; shares differ by orders of magnitude, so their axis is logarithmic.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from acodm_core.study.results import Results

from . import panels, style
from .frames import baseline, static_methods, stretched, title
from .tables import number, program, write_csv


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
    """Small multiples by domain, the largest natural share first, all on one logarithmic axis; colours are the methods'."""
    if frame.empty:
        return style.said("No mixture was recorded: not run.")
    weights = frame.drop_duplicates("domain").set_index("domain")["natural"].sort_values(ascending=False, kind="stable")
    methods = frame["method"].unique().tolist()
    moving = frame.loc[~frame["static"], "method"].unique()
    colours, dashes, bands = style.colours(methods), style.dashes(methods), style.banded(moving)
    percent = frame.assign(**{name: 100 * frame[name] for name in ("share", "low", "high")})
    floor = 1.0 if 100 * min(frame["share"].min(), frame["natural"].min()) >= 1 else 0.1  # percent
    figure, axes = panels.grid(weights.index.tolist(), 4, sharey=True)
    for ax, (domain, natural) in zip(axes, weights.items(), strict=True):
        mine = percent[percent["domain"] == domain]
        for method in methods:
            rows, static = mine[mine["method"] == method], method not in moving
            # A share below the axis is drawn on its edge.
            low = rows.assign(**{name: rows[name].clip(lower=floor) for name in ("share", "low", "high")})
            look = {"color": colours[method], "ls": dashes[method], "lw": 1.0 if static else 1.4}
            if method != base and len(rows):
                panels.line(
                    ax,
                    low,
                    "share",
                    method,
                    (f"{domain}, share", partial(_share, floor=floor)),
                    band=bands and not static,
                    **look,
                )
        ax.axhline(100 * natural, color=colours.get(base, style.INK), lw=0.9, ls=(0, (4, 3)))
    axes[0].set_yscale("log")
    axes[0].set_ylim(0.85 * floor, 130)
    axes[0].yaxis.set_major_formatter(lambda value, _: f"≤{value:g}" if value <= floor else f"{value:g}")
    axes[0].yaxis.set_minor_locator(plt.NullLocator())
    for ax in axes[::4]:
        ax.set_ylabel("Share (%)")
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
