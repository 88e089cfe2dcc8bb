"""What reaching a loss costs, alone and all in, in steps, tokens, FLOPs, seconds and, where the device tells, joules.

Alone: the target run up to the step where it reaches the threshold. All in: that, plus every run it depends on, each in
full and charged once. FLOPs count the model's passes and the method's own, evenly over the steps. Seconds are steps times
the probe's step time for that method and model, so a busy machine changes nothing. Joules are what the device's own meter
counted while the run trained. Break-even: after how many reuses of the phase paid up front the all-in cost falls to the
baseline's.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from acodm_analysis.core import style
from acodm_analysis.core.costs import CURRENCIES, break_even, per_run, phases, reference
from acodm_analysis.core.frames import baseline, strongest_cheap, title
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.tables import NOT_RUN, number, program, scientific, write_csv, write_table
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Cost",
    place=10,
    heading="Cost to threshold",
    figure="cost",
    tables=("cost",),
    data=("cost_phases",),
    caption=(
        "FLOPs and seconds to the threshold: the target run, and in a paler colour the runs it depends on, each"
        " in full. Dashed outlines with > are whole runs that did not reach it."
    ),
)

NOT_REPORTED = "not reported"  # of energy: the device has no meter, or none that was read


def table(results: Results) -> pd.DataFrame:
    """One row per compared method: medians over seeds of ``per_run`` and the break-even number of reuses, against the baseline and
    (``_cheap``) against the strongest cheap one."""
    runs, rivals = per_run(results), {"": baseline(results), "_cheap": strongest_cheap(results)}
    rows = []
    for method in results.compare:
        mine = runs[runs["method"] == method]
        row = {"method": method, "title": title(results, method), "n": len(mine)}
        for name in CURRENCIES:
            for way in ("run", "upfront", "alone", "all_in"):
                row[f"{name}_{way}"] = float(np.median(mine[f"{name}_{way}"])) if len(mine) else float("nan")
            for end, rival in rivals.items():
                saved = reference(runs, rival, name)[0] - row[f"{name}_alone"]
                row[f"{name}_break_even{end}"] = break_even(row[f"{name}_upfront"], saved)
        rows.append(row)
    return pd.DataFrame(rows)


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The table's cells; a cost that was never enough is ">" the whole run's."""

    def to_threshold(row: pd.Series, name: str, way: str, text) -> str:
        value, whole = row[f"{name}_{way}"], row[f"{name}_run"] + (row[f"{name}_upfront"] if way == "all_in" else 0.0)
        return f">{text(whole)}" if math.isinf(value) and math.isfinite(whole) else text(value)

    def reuses(row: pd.Series, name: str, end: str) -> str:
        value = row[f"{name}_break_even{end}"]
        if math.isnan(value):
            return NOT_RUN
        return "no phase" if row[f"{name}_upfront"] == 0 else "never" if math.isinf(value) else f"{value:.0f}"

    def seconds(value: float) -> str:
        return number(value, 0 if value >= 100 else 1 if value >= 10 or value == 0 else 2)

    def energy(value: float) -> str:
        return NOT_REPORTED if math.isnan(value) else number(value / 1e3, 1)

    rows = [row for _, row in frame.iterrows()]
    cells = {"Method": frame["title"]}
    for name, unit, text in (("flops", "FLOPs", scientific), ("seconds", "s", seconds)):
        cells[f"Whole run ({unit})"] = [text(row[f"{name}_run"]) for row in rows]
        cells[f"Up front ({unit})"] = [text(row[f"{name}_upfront"]) for row in rows]
        cells[f"To threshold, alone ({unit})"] = [to_threshold(row, name, "alone", text) for row in rows]
        cells[f"To threshold, all in ({unit})"] = [to_threshold(row, name, "all_in", text) for row in rows]
        cells[f"Break-even runs ({unit})"] = [reuses(row, name, "") for row in rows]
        cells[f"Break-even over cheap ({unit})"] = [reuses(row, name, "_cheap") for row in rows]
    cells["Energy, all in (kJ)"] = [energy(row["joules_run"] + row["joules_upfront"]) for row in rows]
    return pd.DataFrame(cells)


def bars(results: Results) -> pd.DataFrame:
    """What the figure draws: per method, phase and currency the median cost to the threshold; ``censored`` bars are whole runs."""
    runs, stages = per_run(results), phases(results)
    rows = []
    for method in results.compare:
        mine = runs[runs["method"] == method]
        for name in ("flops", "seconds"):
            value = float(np.median(mine[f"{name}_alone"])) if len(mine) else float("nan")
            whole = float(np.median(mine[f"{name}_run"])) if len(mine) else float("nan")
            rows.append(
                (
                    method,
                    title(results, method),
                    "target",
                    name,
                    whole if math.isinf(value) else value,
                    math.isinf(value),
                )
            )
            upfront = stages[(stages["method"] == method) & (stages["phase"] != "target")]
            # A phase may be many runs, a swarm's: what it cost a seed is their sum.
            each = upfront.groupby(["phase", "run"], sort=False)[name].agg(lambda costs: costs.sum(skipna=False))
            for phase, cost in each.groupby("phase", sort=False).median().items():
                rows.append((method, title(results, method), phase, name, cost, False))
    return pd.DataFrame(rows, columns=["method", "title", "phase", "currency", "cost", "censored"])


def draw(frame: pd.DataFrame, titles: dict[str, str], base: str) -> Figure:
    """Bars of cost to the threshold, the target run first and the phases behind it, in FLOPs and in seconds."""
    style.use()
    methods = frame["method"].unique().tolist()
    colours = style.colours([*methods, *sorted(set(frame["phase"]) - {"target", *methods})])
    figure, axes = plt.subplots(1, 2, figsize=(style.WIDTH, 1.0 + 0.36 * len(methods)), sharey=True)
    figure.subplots_adjust(wspace=0.08)
    for ax, name, words in zip(
        axes, ("flops", "seconds"), ("FLOPs to threshold", "Seconds to threshold (probed)"), strict=True
    ):
        rows = frame[frame["currency"] == name]
        longest = np.nanmax(rows.groupby("method")["cost"].sum().to_numpy())
        if not longest > 0:
            style.plain(ax, f"{words}: not run")
            continue
        power = int(np.floor(np.log10(longest))) if longest >= 1e5 else 0
        scale, digits = 10.0**power, 2 if power or longest < 10 else 1 if longest < 100 else 0
        for y, method in enumerate(methods):
            start = 0.0
            mine = rows[rows["method"] == method]
            for row in mine.itertuples():
                if np.isnan(row.cost):
                    ax.text(start + 0.01 * longest, y, NOT_RUN, va="center", color=style.FAINT, fontsize=7)
                    continue
                own = row.phase == "target"
                bar = ax.barh(
                    y, row.cost, left=start, height=0.58, ec=colours[method], lw=0.8, ls="--" if row.censored else "-",
                    color="white" if row.censored else colours[method] if own else style.pale(colours[method]),
                )  # fmt: skip
                label = "target run" if own else titles.get(row.phase, row.phase)
                style.tag(
                    list(bar),
                    method,
                    f"{row.title}, {label}: {row.cost:.3g} {name}" + (" (not reached)" * row.censored),
                )
                start += row.cost
            if start:
                text = f"{'>' * bool(mine['censored'].any())}{number(start / scale, digits)}"
                note = ax.text(start + 0.015 * longest, y, text, va="center", fontsize=6.5, color=style.FAINT)
                note.set_bbox({"fc": "white", "ec": "none", "pad": 0.8})
        own = rows[(rows["method"] == base) & (rows["phase"] == "target")]["cost"].max()
        if np.isfinite(own):
            ax.axvline(own, color=style.INK, lw=0.8, ls=(0, (4, 3)), zorder=0.9)
        ax.set_xlim(0, 1.2 * longest)
        ax.xaxis.set_major_formatter(lambda value, _, scale=scale: f"{value / scale:g}")
        ax.set_xlabel(f"{words} (× {10.0**power:.0e})".replace("e+", "e") if power else words)
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(methods)), [frame.loc[frame["method"] == m, "title"].iloc[0] for m in methods])
    axes[0].set_ylim(len(methods) - 0.5, -0.5)
    keys = [
        plt.Rectangle((0, 0), 1, 1, fc=style.FAINT),
        plt.Rectangle((0, 0), 1, 1, fc=style.pale(style.FAINT), ec=style.FAINT),
        plt.Rectangle((0, 0), 1, 1, fc="white", ec=style.FAINT, ls="--"),
    ]
    keys.append(plt.Line2D([], [], color=style.INK, lw=0.8, ls=(0, (4, 3))))
    words = ["target run", "runs it depends on (all in)", "whole run, not reached", "baseline alone"]
    figure.legend(keys, words, loc="lower center", bbox_to_anchor=(0.5, 0.88 + 0.05 / figure.get_figheight()), ncols=4)
    return figure


def render(results: Results, out: Path) -> None:
    frame, pieces = table(results), bars(results)
    caption = (
        f"Cost of reaching the {title(results, baseline(results))} mixture's final validation loss: medians over seeds. Alone:"
        " the target run; all in: with every run it depends on, in full. Seconds: steps times probed step time."
        " Break-even: target runs after which the up-front phase has paid for itself against the baseline, and over cheap against"
        f" {title(results, strongest_cheap(results)) or NOT_RUN}, the better of uniform and objective weights. Energy: whole runs,"
        " where the device has a meter."
    )
    write_table(frame, shown(frame), "cost", out, caption)
    write_csv(pieces, out / "cost_phases.csv")
    style.save(draw(pieces, results.experiment.get("titles", {}), baseline(results)), "cost", out)


if __name__ == "__main__":
    program("cost", __doc__, render)
