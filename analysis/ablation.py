"""One table and one figure per axis: what becomes of a method when one of its settings takes other values.

Every value is trained like its base method, on the same seeds: final losses, steps to the comparison's threshold, and the
paired difference of the test loss to the base, with Holm's correction over the axis. Cheap baselines and the baseline stand
below for scale. With fewer than five seeds there is no verdict.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from acodm_analysis.core import pairs, style
from acodm_analysis.core.frames import (
    baseline,
    crossings,
    finals,
    held_against,
    horizon,
    mean_name,
    runs_of,
    statuses,
    summary,
    title,
    weighting,
)
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.seed_statistics import KNOWN_THRESHOLD, enough, interval_name, no_verdict, perplexity
from acodm_analysis.core.tables import (
    between,
    number,
    program,
    seeds_cell,
    steps_cell,
    with_interval,
    write_csv,
    write_table,
)
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Ablations",
    heading="{axis}",
    figure="ablation_{axis}",
    tables=("ablation_{axis}",),
    data=("ablation_{axis}_seeds",),
    caption=(
        "Each value of the setting on the seeds of the base: final test loss (median with its interval, seeds as"
        " small dots) and the difference to the base seed by seed. Dashed: medians of the references."
    ),
)

VALUE, BASE, REFERENCE = "value", "base", "reference"


def rows_of(results: Results, axis: str) -> pd.DataFrame:
    """One row per value of the axis, then the references: ``method``, ``label``, ``kind`` (VALUE, BASE, REFERENCE).

    Labels that stand for one and the same method share its row. The base has a row by itself, first, where no value is the base.
    """
    of, labels = results.axes[axis]["of"], {}
    for label, method in results.axes[axis]["methods"].items():
        labels.setdefault(method, []).append(label)
    if of not in labels:
        labels = {of: [title(results, of)]} | labels
    rows = [(method, ", ".join(same), BASE if method == of else VALUE) for method, same in labels.items()]
    others = [m for m in dict.fromkeys([*reversed(held_against(results)), "uniform"]) if m in results.compare]
    rows += [(m, title(results, m), REFERENCE) for m in others if m not in labels]
    return pd.DataFrame(rows, columns=["method", "label", "kind"])


def table(results: Results, axis: str) -> pd.DataFrame:
    """One row per value and a reference: medians over seeds, ``failed`` (share of runs), paired difference to the base, verdict.

    Losses in nats; inf: failed, or a threshold that was never reached; NaN: not run.
    """
    frame = rows_of(results, axis).set_index("method")
    methods = frame.index.tolist()
    final = finals(results, methods)
    frame = frame.join(statuses(final, methods))
    frame["failed"] = (final["status"] != "finished").groupby(final["method"]).mean()
    reached = crossings(results, methods).query("threshold == 'natural'")
    for name, source in (("valid_mean", final), ("test_mean", final), ("steps", reached)):
        found = summary(source, name)
        frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = found["median"], found["low"], found["high"]
    for end in ("", "_low", "_high"):
        frame[f"test_perplexity{end}"] = perplexity(frame[f"test_mean{end}"])
    values = frame.index[frame["kind"] != REFERENCE].tolist()
    tests = pairs.table(results, results.axes[axis]["of"], values).set_index("method")
    tests = tests.rename(columns={"n": "pairs"})
    frame = frame.join(tests[["pairs", "difference", "difference_low", "difference_high", "holm", "verdict"]])
    frame["pairs"] = frame["pairs"].fillna(0).astype(int)
    frame["verdict"] = frame["verdict"].where(frame["kind"] == VALUE, frame["kind"])
    return frame.reset_index()


def seeds(results: Results, axis: str) -> pd.DataFrame:
    """One row per run of the axis: ``label``, ``method``, ``seed``, ``test_mean``, ``difference`` to the base on that seed."""
    labels = rows_of(results, axis).query("kind != @REFERENCE").set_index("method")["label"]
    final = finals(results, labels.index.tolist())[["method", "seed", "test_mean"]]
    gaps = pairs.differences(results, results.axes[axis]["of"], labels.index.tolist())
    final = final.merge(gaps[["method", "seed", "difference"]], how="left")
    final.insert(0, "label", final["method"].map(labels))
    return final


def shown(frame: pd.DataFrame, steps: int) -> pd.DataFrame:
    """The cells; ``steps`` is the horizon."""
    rows = [row for _, row in frame.iterrows()]

    def against(row: pd.Series) -> str:
        return with_interval(row, "difference", 4, signed=True) if row["kind"] == VALUE else row["kind"]

    return pd.DataFrame(
        {
            "Value": [f"{row['label']} (base)" if row["kind"] == BASE else row["label"] for row in rows],
            "Seeds": [seeds_cell(row) for row in rows],
            "Failed (%)": [number(100 * row["failed"], 0) for row in rows],
            "Valid. loss": [with_interval(row, "valid_mean") for row in rows],
            "Test loss": [with_interval(row, "test_mean") for row in rows],
            "Test perplexity": [with_interval(row, "test_perplexity", 2) for row in rows],
            "Steps to threshold": [
                between(*(steps_cell(row[key], steps) for key in ("steps", "steps_low", "steps_high"))) for row in rows
            ],
            "Difference to base (nats)": [against(row) for row in rows],
            "Verdict": frame["verdict"],
        }
    )


def caption(results: Results, axis: str) -> str:
    """What is varied, and what the numbers are."""
    of = results.axes[axis]["of"]
    n = runs_of(results, [of])["seed"].nunique()
    return (
        f"{results.axes[axis]['title']}: {title(results, of)} with other values, all else as in the base. Medians over seeds;"
        f" in brackets the {interval_name(n)}{KNOWN_THRESHOLD}. Difference: final test loss against the base, seed by seed"
        f" (negative is better): mean, with its {'95 % t interval' if enough(n) else 'smallest and largest'};"
        f" verdict: paired t-test, Holm's correction over the axis. Threshold: {title(results, baseline(results))}'s median"
        f" final validation loss; >{horizon(results)}: not reached. {(no_verdict(n) + weighting(results)).strip()}"
    )


def draw(frame: pd.DataFrame, dots: pd.DataFrame, colours: dict[str, str], base: str, mean: str) -> Figure:
    """Left: test loss, dashed lines at the references; right: difference to the base. One row per value, the base shaded."""
    if not np.isfinite(frame["test_mean"]).any():
        return style.said("No test losses: not run.")
    style.use()
    rows = frame[frame["kind"] != REFERENCE]
    figure, axes = plt.subplots(1, 2, figsize=(style.WIDTH, 1.0 + 0.3 * len(rows)), sharey=True)
    figure.subplots_adjust(wspace=0.08)
    for ax, name in zip(axes, ("test_mean", "difference"), strict=True):
        for y, row in enumerate(rows.to_dict("records")):
            _row(ax, y, row, name, dots.loc[dots["method"] == row["method"], name], colours[base])
        ax.margins(x=0.08)
        ax.grid(axis="y", visible=False)
    for reference in frame[(frame["kind"] == REFERENCE) & np.isfinite(frame["test_mean"])].itertuples():
        line = axes[0].axvline(reference.test_mean, color=colours[reference.method], lw=1.1, ls=(0, (4, 3)), zorder=1)
        line.set_label(f"{reference.label}, median")
        style.tag(line, reference.method, f"{reference.label}: {reference.test_mean:.4f}")
    axes[1].axvline(0, color=style.INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
    axes[0].set_xlabel(f"Test loss, {mean} (nats)")
    axes[1].set_xlabel("Difference to the base (nats; left is better)")
    axes[0].set_yticks(
        range(len(rows)), [f"{r.label} (base)" if r.kind == BASE else r.label for r in rows.itertuples()]
    )
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    keys = [
        plt.Line2D([], [], marker="o", color=colours[base], ms=5, lw=1.6, label="median or mean, with its interval")
    ]
    keys += [plt.Line2D([], [], ls="", marker="o", color=colours[base], alpha=0.45, ms=3, mew=0, label="a seed")]
    keys += axes[0].get_legend_handles_labels()[0]
    figure.legend(handles=keys, loc="lower center", bbox_to_anchor=(0.5, 0.9), ncols=len(keys))
    return figure


def _row(ax: plt.Axes, y: int, row: dict, name: str, values: pd.Series, colour: str) -> None:
    """One value's seeds, interval and middle; how many failed, in words."""
    if row["kind"] == BASE:
        ax.axhspan(y - 0.5, y + 0.5, color="#f1f1f1", lw=0, zorder=0)
    points = ax.plot(values, [y + 0.2] * len(values), "o", color=colour, alpha=0.45, ms=3, mew=0)
    tip = f"{row['label']}: {row[name]:.4f}"
    style.tag(points, row["method"], tip)
    if np.isfinite(row[name]):
        ends = [row[f"{name}_low"], row[f"{name}_high"]]
        line = ax.plot(ends if np.isfinite(ends).all() else [row[name]] * 2, [y, y], color=colour, lw=1.6, alpha=0.6)
        dot = ax.plot(row[name], y, "o", color=colour, ms=5, mec="white", mew=0.6, zorder=4)
        style.tag([*line, *dot], row["method"], tip)
    if row["statuses"] != f"{row['n']} finished" and name == "difference":
        note = ax.annotate(
            row["statuses"], (1, y), (-3, 1), xycoords=ax.get_yaxis_transform(), textcoords="offset points"
        )
        note.set(ha="right", va="bottom", fontsize=7, color=style.FAINT)  # the seeds' dots are below


def render(results: Results, out: Path) -> None:
    for axis, about in results.axes.items():
        frame, dots = table(results, axis), seeds(results, axis)
        write_table(frame, shown(frame, horizon(results)), f"ablation_{axis}", out, caption(results, axis))
        write_csv(dots, out / f"ablation_{axis}_seeds.csv")
        colours = style.colours(dict.fromkeys([*results.compare, about["of"]]))
        style.save(draw(frame, dots, colours, about["of"], mean_name(results)), f"ablation_{axis}", out)


if __name__ == "__main__":
    program("ablation", __doc__, render)
