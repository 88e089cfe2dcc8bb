"""What a method costs a step: time and memory as ratios to a plain step, from the probe's interleaved blocks.

The ratio is median(step with the method) / median(plain step); its 95 % interval resamples whole blocks, so that a
drift of the machine, which both arms of a block share, cancels. Parts are medians too. Memory is the ratio of median
peaks of processes of their own.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acodm_analysis.core import style
from acodm_analysis.core.frames import runs_of, title
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.probed import table
from acodm_analysis.core.tables import NOT_RUN, between, number, program, with_interval, write_csv, write_table
from acodm_core.measure.ratio import ratio_of_medians
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Overhead and memory",
    heading="A step with the method",
    figure="overhead",
    tables=("overhead",),
    data=("overhead_parts",),
    caption=(
        "A step with the method against a plain step: time ratio with its 95 % bootstrap interval over"
        " interleaved blocks, where the time goes, and peak memory."
    ),
)

PARTS = ("data", "forward", "backward", "signals", "mixer", "communication", "optimiser", "other")
SHADES = dict(
    zip(PARTS, ("#cfcfcf", "#a9c4dc", "#6f97bd", "#d55e00", "#8c2d82", "#e6c34a", "#8fb39a", "#efefef"), strict=True)
)


def gradients_alone(results: Results) -> str:
    """A sentence on what measuring the per-domain gradients costs, on the compared methods' model; "" if not timed."""
    models = set(runs_of(results)["model"])
    rows = results.probe.query("part == 'step' and arm in ('gradients', 'plain')")
    # The arm is shared: it stands beside every method with the same numbers.
    blocks = rows[rows["model"].isin(models)].groupby(["block", "arm"])["seconds"].median().unstack("arm")
    if "gradients" not in blocks or len(models) != 1:
        return ""
    pairs = blocks[["gradients", "plain"]].dropna().to_numpy()
    cell = between(*map(number, ratio_of_medians(*pairs.T)))
    return f" The per-domain gradients alone: {cell} × plain."


def parts(results: Results) -> pd.DataFrame:
    """Tidy: ``method``, ``title``, ``part``, ``seconds`` (median of the method's arm), with the unnamed rest as "other"."""
    frame = table(results).set_index("method")
    rows = []
    for method in results.compare:
        probe = results.probe
        mine = probe[
            (probe["method"] == method) & (probe["model"] == frame.loc[method, "model"]) & (probe["arm"] == "method")
        ]
        medians = mine.groupby("part")["seconds"].median().to_dict()
        whole = medians.pop("step", None)
        if whole is None:
            continue
        named = [part for part in PARTS if part in medians] + sorted(set(medians) - set(PARTS))
        rows += [(method, title(results, method), part, medians[part]) for part in named]
        rows.append((method, title(results, method), "other", max(0.0, whole - sum(medians.values()))))
    return pd.DataFrame(rows, columns=["method", "title", "part", "seconds"])


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The table's cells."""
    return pd.DataFrame(
        {
            "Method": frame["title"],
            "Blocks": [str(blocks) if blocks else NOT_RUN for blocks in frame["blocks"]],
            "Plain step (ms)": [number(1e3 * value, 1) for value in frame["plain_seconds"]],
            "Step (ms)": [number(1e3 * value, 1) for value in frame["step_seconds"]],
            "Step time (× plain)": [with_interval(row, "time_ratio") for _, row in frame.iterrows()],
            "Peak device memory (× plain)": [_device(row) for _, row in frame.iterrows()],
            "Peak host memory (× plain)": [number(value) for value in frame["host_memory_ratio"]],
        }
    )


def _device(row: pd.Series) -> str:
    """A CPU's runs were measured and have no device memory: that is not "not run"."""
    none = np.isnan(row["device_memory_ratio"]) and np.isfinite(row["host_memory_ratio"])
    return "no device" if none else number(row["device_memory_ratio"])


def draw(frame: pd.DataFrame, pieces: pd.DataFrame) -> Figure:
    """Left: time ratio with its interval. Middle: where the step's time goes. Right: memory ratios."""
    if not frame["blocks"].any():
        return style.said("The probe was not run: no step time, no memory.")
    style.use()
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(style.WIDTH, 0.9 + 0.34 * len(frame)), sharey=True, width_ratios=[1.1, 1.5, 1.1]
    )
    figure.subplots_adjust(wspace=0.12)
    colours = style.colours(frame["method"])
    for y, row in enumerate(frame.itertuples()):
        colour = colours[row.method]
        if not row.blocks:
            for ax in (left, middle):
                words = ax.text(0.02, y, NOT_RUN, transform=ax.get_yaxis_transform(), va="center")
                words.set(fontsize=7, color=style.FAINT, bbox={"fc": "white", "ec": "none", "pad": 0.8})
            continue
        _time(left, y, row, colour)
        _parts(middle, y, row, pieces[pieces["method"] == row.method])
        _memory(right, y, row, colour)
    if remembered := bool(right.lines):
        look = {"ls": "", "mec": style.FAINT}
        keys = [plt.Line2D([], [], marker=m, mfc=face, **look) for m, face in (("s", style.FAINT), ("o", "white"))]
        right.legend(keys, ["device", "host"], loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=6.5)
    else:
        style.plain(right, "Memory: not run")
    for ax, words in ((left, "Step time (× plain step)"), (right, "Peak memory (× plain)"))[: 1 + remembered]:
        ax.axvline(1, color=style.INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
        ax.set_xlabel(words)
        ax.grid(axis="y", visible=False)
        low, high = ax.get_xlim()
        ax.set_xlim(min(low, 0.98), max(high, 1.04))
    middle.set_xlabel("Milliseconds per step, by part")
    middle.grid(axis="y", visible=False)
    left.set_yticks(range(len(frame)), frame["title"])
    left.set_ylim(len(frame) - 0.5, -0.6)
    used = [
        part for part in pieces["part"].unique() if 1e3 * pieces.loc[pieces["part"] == part, "seconds"].max() > 0.05
    ]
    handles = [plt.Rectangle((0, 0), 1, 1, color=SHADES.get(part, "#bbbbbb")) for part in used]
    middle.legend(
        handles,
        used,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=4,
        handlelength=0.9,
        columnspacing=0.9,
        fontsize=6.5,
    )
    return figure


def _time(ax: Axes, y: int, row: tuple, colour: str) -> None:
    """A method's time ratio, a dot with its interval."""
    tip = f"{row.title}: {row.time_ratio:.3f} × [{row.time_ratio_low:.3f}, {row.time_ratio_high:.3f}]"
    line = ax.plot([row.time_ratio_low, row.time_ratio_high], [y, y], color=colour, lw=2.2, alpha=0.5)
    dot = ax.plot(row.time_ratio, y, "o", color=colour, ms=5)
    name = ax.annotate(f"{row.time_ratio:.2f}", (row.time_ratio, y), (0, 5), textcoords="offset points", ha="center")
    name.set(fontsize=6.5, bbox={"fc": "white", "ec": "none", "pad": 0.3})
    style.tag([*line, *dot, name], row.method, tip)


def _parts(ax: Axes, y: int, row: tuple, pieces: pd.DataFrame) -> None:
    """Where the time of a method's step goes, as one stacked bar in milliseconds."""
    start = 0.0
    for piece in pieces.itertuples():
        bar = ax.barh(
            y,
            1e3 * piece.seconds,
            left=start,
            height=0.6,
            color=SHADES.get(piece.part, "#bbbbbb"),
            ec="white",
            lw=0.4,
        )
        style.tag(list(bar), row.method, f"{row.title}, {piece.part}: {1e3 * piece.seconds:.1f} ms")
        start += 1e3 * piece.seconds


def _memory(ax: Axes, y: int, row: tuple, colour: str) -> None:
    """A method's peak memory, on the device and on the host."""
    for value, mark, kind in ((row.device_memory_ratio, "s", "device"), (row.host_memory_ratio, "o", "host")):
        if np.isfinite(value):
            face = colour if kind == "device" else "white"
            point = ax.plot(value, y, mark, mfc=face, mec=colour, ms=5.5 if kind == "device" else 5)
            style.tag(point, row.method, f"{row.title}, {kind} memory: {value:.3f} ×")


def render(results: Results, out: Path) -> None:
    frame, pieces = table(results), parts(results)
    caption = (
        "Cost of a step against a plain step of the same model (uniform mixture, no signals), timed in interleaved blocks;"
        " ratio of medians with its 95 % bootstrap interval over blocks. Memory: ratio of median peaks."
        + gradients_alone(results)
    )
    write_table(frame, shown(frame), "overhead", out, caption)
    write_csv(pieces, out / "overhead_parts.csv")
    style.save(draw(frame, pieces), "overhead", out)


if __name__ == "__main__":
    program("overhead", __doc__, render)
