"""What the trained models can do: each score with what knowing nothing scores, its error and the smallest difference one could see.

All seeds answer the same questions, so the error over questions does not shrink with the seeds: the squared error of a method's
mean is the mean squared error over questions plus the variance between seeds over their number. Differences to the baseline are
taken seed by seed, their errors over questions as if the two models' answers were independent: rather too wide than too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy.stats import norm

from acodm_analysis.core import panels, style
from acodm_analysis.core.evaluated import downstream
from acodm_analysis.core.frames import baseline, runs_of, title
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.seed_statistics import NO_VERDICT, enough
from acodm_analysis.core.tables import NOT_RUN, between, number, program, write_table
from acodm_core.downstream.scores import CONFIDENCE, detectable_difference
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Downstream",
    place=10,
    heading="Scores",
    figure="downstream",
    tables=("downstream",),
    needs=("downstream",),
    caption=(
        "A task's share of right answers and what the right answer's text costs, with 95 % intervals over"
        " questions and seeds; against step where several checkpoints were asked. Dashed: what knowing nothing"
        " scores."
    ),
)

SAME = "not distinguishable"
WIDTH_95 = float(norm.ppf((1 + CONFIDENCE) / 2))
FITTING = ("shots_kept", "cut_share", "unasked_share")  # about the prompts, no scores
KEYS = ["task", "shots", "metric"]
SHARES = ("accuracy", "pass@1", "acc_norm", "acc")  # the first that a task has is drawn, and its bits a byte
CLOZE = ("bits_per_byte", "unigram_ratio")


def error_of(value: ArrayLike, error: ArrayLike, n: ArrayLike) -> np.ndarray:
    """Standard errors over items, in which none or all of ``n`` items right is no certainty.

    Where ``error`` is 0 and ``value`` is 0 or 1 it is that of one right item (one wrong), about 1 / n.
    """
    value, error, n = (np.asarray(x, dtype=float) for x in (value, error, n))
    extreme = (error == 0) & ((value == 0) | (value == 1))
    return np.where(extreme, np.sqrt((n - 1).clip(0)) / n**1.5, error)


def pooled(value_S: ArrayLike, error_S: ArrayLike) -> tuple[float, float]:
    """The mean over seeds and its standard error, from each seed's value and its error over the items that all share."""
    value_S, error_S = np.asarray(value_S, dtype=float), np.asarray(error_S, dtype=float)
    between_seeds = value_S.var(ddof=1) / len(value_S) if len(value_S) > 1 else 0.0
    return float(value_S.mean()), math.sqrt(float((error_S**2).mean()) + between_seeds)


def against(value: float, other: float, smallest: float) -> str:
    """``higher`` or ``lower`` than ``other`` where further off than ``smallest``; "" where either is unknown."""
    if math.isnan(other) or math.isnan(smallest) or math.isnan(value):
        return ""
    return SAME if abs(value - other) <= smallest else "higher" if value > other else "lower"


def answers(results: Results) -> pd.DataFrame:
    """One row per (compared run, step, task, shots, metric), the task as a whole; ``last``: of the run's last checkpoint asked."""
    rows = downstream(results)
    rows = rows[(rows["status"] == "measured") & (rows["subject"] == "")].dropna(subset="value")
    rows = rows.merge(runs_of(results)[["run", "method", "seed"]], on="run")
    floats = ["value", "standard_error", "chance", "n"]
    rows = rows.astype(dict.fromkeys(floats, float))
    rows["standard_error"] = error_of(rows["value"], rows["standard_error"], rows["n"])
    rows["last"] = rows["step"] == rows.groupby(["run", "task", "shots"])["step"].transform("max")
    return rows


def table(results: Results) -> pd.DataFrame:
    """One row per (task, shots, metric, step, method) that was measured; ``last`` as in ``answers``.

    ``score`` with ``standard_error``, ``low`` and ``high``; ``difference`` to the baseline and ``detectable``, the smallest that a
    test at 5 % finds in 80 % of cases; NaN where there is none.
    """
    rows = answers(results)
    fitting = rows[rows["metric"].isin(FITTING)].pivot_table(
        index=["method", "task", "shots", "step"], columns="metric", values="value"
    )
    rows = rows[~rows["metric"].isin(FITTING)]
    found = []
    for (*key, step, last), group in rows.groupby([*KEYS, "step", "last"], sort=False):
        seeds = {method: mine.set_index("seed") for method, mine in group.groupby("method")}
        lowest, highest = (0, 1) if key[-1] in SHARES or key[-1].startswith("pass@") else (-math.inf, math.inf)
        for method in (method for method in results.compare if method in seeds):
            mine, own = seeds[method], seeds.get(baseline(results))
            score, error = pooled(mine["value"], mine["standard_error"])
            chance = float(mine["chance"].mean())
            difference, error_of_difference = _difference(mine, own) if method != baseline(results) else (math.nan,) * 2
            detectable = detectable_difference(error_of_difference / math.sqrt(2))
            verdict = against(difference, 0.0, detectable)
            at_chance = against(score, chance, WIDTH_95 * error)
            if not enough(len(mine)):  # that it cannot be told from chance is a warning and stays
                verdict = verdict and NO_VERDICT
                at_chance = at_chance and at_chance.replace("higher", NO_VERDICT).replace("lower", NO_VERDICT)
            found.append(
                dict(zip(KEYS, key, strict=True))
                | {"step": step, "last": last, "method": method, "title": title(results, method), "seeds": len(mine)}
                | {"score": score, "standard_error": error, "low": max(score - WIDTH_95 * error, lowest)}
                | {"high": min(score + WIDTH_95 * error, highest), "n": int(mine["n"].max()), "chance": chance}
                | {"against_chance": at_chance, "difference": difference}
                | {"detectable": detectable, "against_baseline": verdict}
            )
    columns = [
        *KEYS,
        "step",
        "last",
        "method",
        "title",
        "seeds",
        "score",
        "standard_error",
        "low",
        "high",
        "n",
        "chance",
    ]
    columns += ["against_chance", "difference", "detectable", "against_baseline"]
    frame = pd.DataFrame(found, columns=columns).join(fitting, on=["method", "task", "shots", "step"])
    return frame.reindex(columns=[*columns, *FITTING])


def _difference(mine: pd.DataFrame, other: pd.DataFrame | None) -> tuple[float, float]:
    """Mean difference over the seeds that both have, and its standard error; NaN where there is none."""
    both = mine.join(other.add_suffix("_other"), how="inner") if other is not None else mine.iloc[:0]
    if not len(both):
        return math.nan, math.nan
    errors = np.hypot(both["standard_error"], both["standard_error_other"])
    return pooled(both["value"] - both["value_other"], errors)


def skipped(results: Results) -> pd.DataFrame:
    """One row per (task, reason): ``methods`` whose runs were to be asked and were not."""
    rows = downstream(results)
    rows = rows[rows["status"] == "skipped"].merge(runs_of(results)[["run", "method"]], on="run")
    found = []
    for (task, reason), group in rows.groupby(["task", "reason"], sort=False):
        methods = [method for method in results.compare if method in set(group["method"])]
        found.append({"task": task, "reason": reason, "methods": methods})
    return pd.DataFrame(found, columns=["task", "reason", "methods"])


def task_name(task: str, shots: float) -> str:
    return f"{task}, {shots:.0f}-shot" if shots > 0 else task


def shown(frame: pd.DataFrame, missing: pd.DataFrame, results: Results) -> pd.DataFrame:
    """The cells: last checkpoints, then what was skipped and why."""
    asked = set(downstream(results).merge(runs_of(results)[["run", "method"]], on="run")["method"])
    rows = []
    for row in frame[frame["last"]].itertuples():
        digits = 4

        def cell(value: float, *, signed: bool = False, digits: int = digits) -> str:
            return "" if math.isnan(value) else number(value, digits, signed=signed)

        ends = (cell(row.low), cell(row.high))
        rows.append(
            {
                "Method": row.title,
                "Task": task_name(row.task, row.shots),
                "Measure": row.metric.replace("_", " "),
                "Score": between(cell(row.score), *ends) if all(ends) else cell(row.score),
                "Error": cell(row.standard_error),
                "n": f"{row.n:,}".replace(",", "\u202f"),
                "Chance": cell(row.chance, digits=2),
                "Against chance": row.against_chance,
                "Difference": cell(row.difference, signed=True),
                "Detectable": cell(row.detectable),
                "Against baseline": "baseline" if row.method == baseline(results) else row.against_baseline,
                "Note": _fitting(row),
            }
        )
    for row in missing.itertuples():
        every = set(row.methods) == asked and len(row.methods) > 1
        named = "All" if every else ", ".join(title(results, method) for method in row.methods)
        rows.append({"Method": named, "Task": row.task, "Score": NOT_RUN, "Note": f"skipped: {row.reason}"})
    columns = ["Method", "Task", "Measure", "Score", "Error", "n", "Chance", "Against chance"]
    columns += ["Difference", "Detectable"]
    return pd.DataFrame(rows, columns=[*columns, "Against baseline", "Note"]).fillna("")


def _fitting(row: tuple) -> str:
    """What of the prompts did not fit the context; "" where all did."""
    words = []
    if row.metric in CLOZE:  # asked with prompts of its own
        return ""
    if row.shots > 0 and row.shots_kept < row.shots:
        words.append(f"{row.shots_kept:.2g} of {row.shots:.0f} shots fit")
    if row.cut_share > 0:
        words.append(f"{100 * row.cut_share:.3g} % of prompts cut")
    if row.unasked_share > 0:
        words.append(f"{100 * row.unasked_share:.3g} % of prompts too long to answer")
    return ", ".join(words)


def caption(results: Results, frame: pd.DataFrame) -> str:
    seeds = sorted({int(n) for n in frame["seeds"]})
    counted = f" over {'/'.join(map(str, seeds))} seed{'s' if seeds != [1] else ''}" if seeds else ""
    return (
        f"Means{counted}, in brackets the 95 % interval over questions and seeds; error: the standard error behind it; n: the"
        " questions, the same for all seeds. Chance: what knowing nothing scores; a score"
        f" whose interval holds it is {SAME}. Difference: to {title(results, baseline(results))}, seed by seed; detectable: the"
        f" smallest difference that a test at 5 % finds in 80 % of cases; a smaller one is {SAME}. Fewer than five seeds give"
        f" {NO_VERDICT}. None (or all) of n right counts with the error of one. Of bits per byte and the unigram ratio, lower is"
        " better."
    )


def drawn(frame: pd.DataFrame) -> list[tuple[str, int, str]]:
    """The (task, shots, metric) with a panel: a task's share of right answers and its bits a byte, else its first metric."""
    found = []
    for (task, shots), group in frame.groupby(["task", "shots"], sort=False):
        metrics = list(dict.fromkeys(group["metric"]))
        first = next((name for name in SHARES if name in metrics), metrics[0])
        found += [(task, shots, name) for name in dict.fromkeys([first, "bits_per_byte"]) if name in metrics]
    return found


def draw(frame: pd.DataFrame, methods: Sequence[str]) -> Figure:
    """A panel a task and metric: score against step where several checkpoints were asked, else each method's with its interval."""
    chosen = drawn(frame)
    if not chosen:
        return style.said("no score was measured")
    methods = [method for method in methods if method in set(frame["method"])]
    colours = style.colours(methods)
    rows_of = {key: frame[(frame[KEYS] == pd.Series(dict(zip(KEYS, key, strict=True)))).all(axis=1)] for key in chosen}
    names = [f"{task_name(task, shots)}: {metric.replace('_', ' ')}" for task, shots, metric in chosen]
    if frame.groupby(["method", *KEYS])["step"].nunique().max() > 1:
        figure, axes = panels.grid(names, 2)
        for ax, key, name in zip(axes, chosen, names, strict=True):
            _steps(ax, rows_of[key], methods, colours, name)
        handles = [
            plt.Line2D([], [], color=colours[m], marker="o", ms=3, ls=d) for m, d in style.dashes(methods).items()
        ]
        panels.legend(figure, handles, list(frame.drop_duplicates("method").set_index("method")["title"][methods]))
        return figure
    style.use()
    columns = min(3, len(chosen))
    lines = math.ceil(len(chosen) / columns)
    tall = 0.22 * len(methods)  # inches of a panel; the gap between two rows of panels is always the same
    figure, axes = plt.subplots(
        lines, columns, figsize=(style.WIDTH, lines * (0.75 + tall)), sharey=True, squeeze=False
    )
    figure.subplots_adjust(hspace=0.6 / tall, wspace=0.1)
    for ax in axes.flat[len(chosen) :]:
        ax.set_axis_off()
    for ax, key, name in zip(axes.flat, chosen, names, strict=False):
        _dots(ax, rows_of[key], methods, colours, name)
    titles = frame.drop_duplicates("method").set_index("method")["title"]
    axes[0, 0].set_yticks(range(len(methods)), [titles[method] for method in methods])
    axes[0, 0].set_ylim(len(methods) - 0.5, -0.5)
    return figure


def _chance(line, rows: pd.DataFrame) -> None:
    if np.isfinite(level := rows["chance"].mean()):
        line(level, color=style.INK, lw=0.8, ls=(0, (4, 3)), zorder=1)


def _steps(ax: Axes, rows: pd.DataFrame, methods: Sequence[str], colours: dict[str, str], name: str) -> None:
    dashes = style.dashes(methods)
    for method, mine in rows.groupby("method"):
        look = {"color": colours[method], "ls": dashes[method], "marker": "o", "ms": 2.5}
        words = (name, lambda value: number(value, 4))
        panels.line(ax, mine.sort_values("step"), "score", method, words, band=style.banded(methods), **look)
    _chance(ax.axhline, rows)


def _dots(ax: Axes, rows: pd.DataFrame, methods: Sequence[str], colours: dict[str, str], name: str) -> None:
    for row in rows.itertuples():
        y, colour = methods.index(row.method), colours[row.method]
        line = ax.plot([row.low, row.high], [y, y], color=colour, lw=1.8, alpha=0.55)
        dot = ax.plot(row.score, y, "o", color=colour, ms=4.5, mec="white", mew=0.6, zorder=4)
        style.tag([*line, *dot], row.method, f"{row.title}: {number(row.score, 4)}")
    _chance(ax.axvline, rows)
    ax.set_title(name, fontweight="normal", fontsize=7.5, pad=3)
    ax.xaxis.set_major_locator(plt.MaxNLocator(3, prune="both"))  # a label at an edge would meet the next panel's
    ax.grid(axis="y", visible=False)


def render(results: Results, out: Path) -> None:
    frame = table(results)
    write_table(frame, shown(frame, skipped(results), results), "downstream", out, caption(results, frame))
    style.save(draw(frame, results.compare), "downstream", out)


if __name__ == "__main__":
    program("downstream", __doc__, render)
