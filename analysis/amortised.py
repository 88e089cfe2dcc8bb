"""What a phase that is paid up front costs a run when its result is used again: the all-in cost to the threshold over m reuses.

A curve per method that depends on other runs, as a ratio to the baseline's cost to the same threshold, and a level line for the
strongest cheap baseline, which pays for no phase. Where a curve falls to 1, at the break-even number of the cost table, its phase
has paid for itself against the baseline; where it falls to the line, against the cheap one. Where it levels off is the target run
alone.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from acodm_analysis.core import costs, panels, style
from acodm_analysis.core.frames import baseline, strongest_cheap, title
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.tables import NOT_RUN, program, write_csv
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Cost",
    place=20,
    heading="When a phase is used again",
    figure="amortised",
    data=("amortised",),
    caption=(
        "The all-in cost to the threshold per run, over how many runs use what was paid for up front, as a ratio"
        " to the baseline's; the level line without dots is the strongest cheap baseline, which pays for no"
        " phase."
    ),
)

REUSES = (1, 2, 3, 5, 10, 20, 50, 100)
UNITS = {"flops": "FLOPs", "seconds": "seconds"}


def table(results: Results) -> pd.DataFrame:
    """One row per (method with a phase up front or the strongest cheap one, currency, reuses): ``cost`` per target run (median over
    seeds; inf: the threshold is never reached, NaN: not run), ``ratio`` to the baseline's, ``break_even``, the reuses from which
    that is below 1, and ``bound``: the baseline is censored, so the ratio is an upper bound."""
    runs, base, cheap = costs.per_run(results), baseline(results), strongest_cheap(results)
    rows = []
    for method in results.compare:
        mine = runs[runs["method"] == method]
        if method != cheap and not (mine["flops_upfront"] != 0).any():
            continue
        for name in UNITS:
            to_beat, bound = costs.reference(runs, base, name)
            upfront, alone = float(np.median(mine[f"{name}_upfront"])), float(np.median(mine[f"{name}_alone"]))
            at = {
                "method": method,
                "title": title(results, method),
                "cheap": method == cheap,
                "currency": name,
                "bound": bound,
            }
            at["break_even"] = costs.break_even(upfront, to_beat - alone)
            for m in REUSES:
                each = float(np.median(mine[f"{name}_alone"] + mine[f"{name}_upfront"] / m))
                rows.append(at | {"reuses": m, "cost": each, "ratio": each / to_beat})
    columns = ["method", "title", "cheap", "currency", "bound", "break_even", "reuses", "cost", "ratio"]
    return pd.DataFrame(rows, columns=columns)


def draw(frame: pd.DataFrame, colours: dict[str, str], base: str) -> Figure:
    """One panel per currency, reuses on a logarithmic axis; level lines are the baseline (dashed) and the strongest cheap one."""
    if frame["cheap"].all():
        return style.said("No compared method pays for a phase up front.")
    drawn = frame[np.isfinite(frame["ratio"])]
    if drawn["cheap"].all():
        return style.said("No method with a phase up front reached the threshold.")
    style.use()
    methods = drawn["method"].unique().tolist()
    titles = drawn.groupby("method")["title"].first()
    dashes = style.dashes(methods)
    figure, axes = plt.subplots(1, 2, figsize=(style.WIDTH, 2.5), sharey=True)
    figure.subplots_adjust(wspace=0.08)
    for ax, (name, unit) in zip(axes, UNITS.items(), strict=True):
        ax.set_title(f"{unit[:1].upper()}{unit[1:]} to threshold", fontweight="normal")
        for method in methods:
            rows = drawn[(drawn["currency"] == name) & (drawn["method"] == method)]
            even = rows["break_even"].max()
            words = f"break-even after {even:.0f} runs" if np.isfinite(even) else "never breaks even"
            mark = "" if rows["cheap"].any() else "o"
            words = "no phase" if rows["cheap"].any() else words
            look = {"marker": mark, "ls": dashes[method], "ms": 3.2, "color": colours[method]}
            line = ax.plot(rows["reuses"], rows["ratio"], **look)
            style.tag(line, method, f"{titles[method]}: {words}")
        if not (drawn["currency"] == name).any():
            ax.text(0.5, 0.5, NOT_RUN, transform=ax.transAxes, ha="center", color=style.FAINT)
        ax.axhline(1, color=style.INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
        ax.set_xscale("log")
        ax.set_xticks(REUSES, [str(m) for m in REUSES])
        ax.set_xlim(0.8 * REUSES[0], 1.25 * REUSES[-1])  # of a panel without lines, too
        ax.minorticks_off()
        ax.set_xlabel("Target runs that use the phase's result")
    axes[0].set_ylabel(f"Cost ({'at most ' * bool(frame['bound'].any())}× {base}'s)")
    axes[0].set_ylim(0, 1.06 * axes[0].get_ylim()[1])
    free = set(drawn.loc[drawn["cheap"], "method"])
    keys = [
        plt.Line2D([], [], marker="" if m in free else "o", ms=3.2, color=colours[m], ls=dashes[m]) for m in methods
    ]
    keys.append(plt.Line2D([], [], color=style.INK, lw=0.8, ls=(0, (4, 3))))
    names = [f"{titles[m]} (no phase)" if m in free else titles[m] for m in methods]
    panels.legend(figure, keys, [*names, f"{base}, alone"])
    return figure


def render(results: Results, out: Path) -> None:
    frame = table(results)
    write_csv(frame, out / "amortised.csv")
    style.save(draw(frame, style.colours(results.compare), title(results, baseline(results))), "amortised", out)


if __name__ == "__main__":
    program("amortised", __doc__, render)
