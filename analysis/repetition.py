"""How often a method repeated its data: per domain the tokens it asked for and drew, and the epochs that makes.

Beside it how far the drawn mixture was from the requested one: half the sum of absolute differences of the shares, over
the whole run and as the mean over single steps (a small batch cannot follow a mixture step by step).
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from acodm_analysis.core import panels, style
from acodm_analysis.core.frames import runs_of, title
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.tables import NOT_RUN, number, program, write_table
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Mixture dynamics",
    place=20,
    heading="Epochs, and drawn against requested",
    figure="repetition",
    tables=("repetition",),
    caption=(
        "Left: how often each domain was repeated. Right: half the absolute difference of the drawn and the"
        " requested mixture, as the mean over steps and over the whole run."
    ),
)

EPOCHS_FLAG = 4  # protocol, section 8: above this repetition costs quality


def table(results: Results) -> pd.DataFrame:
    """One row per (method, domain), medians over seeds: tokens asked and drawn, epochs, flag; the two distances a method."""
    runs = runs_of(results).set_index("run")
    mixture = results.mixture[results.mixture["run"].isin(runs.index)]
    a_step = (runs["tokens"] / runs["steps"].where(runs["steps"] > 0)).rename("a_step")
    sums = mixture.groupby(["run", "domain"])[["requested", "drawn"]].sum().reset_index().join(a_step, on="run")
    sums["asked_tokens"], sums["drawn_tokens"] = sums["requested"] * sums["a_step"], sums["drawn"] * sums["a_step"]
    steps = mixture.groupby("run")["step"].nunique()
    gap = mixture.assign(gap=(mixture["requested"] - mixture["drawn"]).abs() / 2)
    per_step = gap.groupby("run")["gap"].sum() / steps
    overall = sums.assign(gap=(sums["requested"] - sums["drawn"]).abs() / 2).groupby("run")["gap"].sum() / steps
    sums["method"] = sums["run"].map(runs["method"])
    frame = sums.groupby(["method", "domain"])[["asked_tokens", "drawn_tokens"]].median()
    index = pd.MultiIndex.from_product([results.compare, results.domains], names=["method", "domain"])
    frame = frame.reindex(index).reset_index()
    train = dict(zip(results.domains, results.experiment["corpus"]["train_tokens"], strict=True))
    frame["train_tokens"] = frame["domain"].map(train)
    frame["epochs"] = frame["drawn_tokens"] / frame["train_tokens"]
    frame["flag"] = frame["epochs"] > EPOCHS_FLAG
    for name, values in (("distance_step", per_step), ("distance_run", overall)):
        frame[name] = frame["method"].map(values.groupby(runs["method"].reindex(values.index)).median())
    frame.insert(1, "title", [title(results, method) for method in frame["method"]])
    return frame


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells: epochs, one row per domain and one column per method ("!" above four), then the distances."""
    methods = frame["method"].unique()
    domains = frame["domain"].unique().tolist()
    train = frame.drop_duplicates("domain").set_index("domain")["train_tokens"]
    ways = ["drawn − requested, each step", "drawn − requested, whole run"]
    cells = {"Domain": domains + ways, "Training tokens": [number(train[d], 0) for d in domains] + ["", ""]}
    for method in methods:
        mine = frame[frame["method"] == method].set_index("domain")
        column = [number(mine.loc[d, "epochs"], 2) + " !" * bool(mine.loc[d, "flag"]) for d in domains]
        ends = [mine["distance_step"].iloc[0], mine["distance_run"].iloc[0]]
        column += [NOT_RUN if pd.isna(value) else f"{number(100 * value, 2)} %" for value in ends]
        cells[mine["title"].iloc[0]] = column
    return pd.DataFrame(cells)


def draw(frame: pd.DataFrame) -> Figure:
    """Left: epochs, one row per method and one column per domain; right: how far drawn shares are from requested ones."""
    if frame["epochs"].isna().all():
        return style.said("No mixture was recorded: not run.")
    style.use()
    rows = frame.drop_duplicates("method").set_index("method")["title"].to_dict()
    domains = frame["domain"].unique().tolist()
    cells = frame[frame["epochs"].notna()].assign(column=frame["domain"], bold=frame["flag"])
    # Full colour at four times the flag, orange from the flag on and grey below it; where none is flagged, at the largest.
    full = 4 * EPOCHS_FLAG if cells["flag"].any() else cells["epochs"].max() or 1.0
    shades = [
        plt.get_cmap("Oranges" if r.flag else "Greys")(0.08 + 0.52 * min(1, r.epochs / full) ** 0.5)
        for r in cells.itertuples()
    ]
    cells = cells.assign(colour=shades, text=[number(e, 2 if e < 10 else 1 if e < 100 else 0) for e in cells["epochs"]])
    cells["tip"] = [
        f"{r.title}, {r.domain}: {r.epochs:.2f} epochs, {number(r.drawn_tokens, 0)} tokens drawn"
        for r in cells.itertuples()
    ]
    size = (style.WIDTH, 0.9 + 0.22 * len(rows))
    figure, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True, width_ratios=[len(domains), 4])
    figure.subplots_adjust(wspace=0.05)
    panels.heat(left, cells, rows, domains)
    left.set_xlabel(f"Epochs; bold above {EPOCHS_FLAG}")
    colours = style.colours(rows)
    for y, row in enumerate(frame.drop_duplicates("method").itertuples()):
        for value, mark, face in ((row.distance_step, "o", "white"), (row.distance_run, "D", colours[row.method])):
            if pd.notna(value):
                dot = right.plot(100 * value, y, mark, mec=colours[row.method], mfc=face, ms=4.2)
                way = "each step" if mark == "o" else "whole run"
                style.tag(dot, row.method, f"{row.title}, {way}: {100 * value:.2f} %")
    if (frame[["distance_step", "distance_run"]] > 0).any(axis=None):
        right.set_xscale("log")
    right.xaxis.set_major_formatter("{x:g}")
    right.grid(axis="y", visible=False)
    right.tick_params(axis="y", length=0)
    right.set_xlabel("Drawn − requested (%)")
    keys = [
        plt.Line2D([], [], ls="", marker=m, mec=style.FAINT, mfc=f, ms=4.2)
        for m, f in (("o", "white"), ("D", style.FAINT))
    ]
    right.legend(keys, ["each step", "whole run"], loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=6.5)
    return figure


def render(results: Results, out: Path) -> None:
    frame = table(results)
    caption = (
        f"Epochs of each domain (tokens drawn over training tokens), medians over seeds; ! above {EPOCHS_FLAG}. Last rows:"
        " half the absolute difference between drawn and requested shares, as the mean over steps and over the whole run."
    )
    write_table(frame, shown(frame), "repetition", out, caption)
    style.save(draw(frame), "repetition", out)


if __name__ == "__main__":
    program("repetition", __doc__, render)
