"""The workload's noise card: how far apart seeds of one method end, and the smallest difference that so many seeds can find.

The baseline's standard deviation is the workload's noise; as if runs were not paired, differences have sqrt(2) times that. Beside
it stands every method's own (noise depends on the mixture), and that of its differences to the baseline seed by seed, which is
what a paired comparison meets. The smallest difference is what a two-sided paired t-test at 5 % finds with 80 % power. From
eight seeds on a standard deviation is known to within a factor of two or so; with fewer its row is marked.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from acodm_analysis.core import pairs, style
from acodm_analysis.core.frames import baseline, finals, title, weighting
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.seed_statistics import sd_interval
from acodm_analysis.core.tables import NOT_RUN, between, number, program, write_csv, write_table
from acodm_core.measure.statistical_power import smallest_difference
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Noise card",
    heading="What so many seeds can tell apart",
    figure="noise",
    tables=("noise",),
    data=("noise_seeds",),
    caption=(
        "Standard deviations over seeds with their intervals, and the smallest difference that n pairs of seeds find."
    ),
)

SEEDS = 8  # protocol, section 5: a noise card needs at least these many
PAIRS = (3, 5, 10)


def seeds(results: Results) -> pd.DataFrame:
    """One row per finished run: ``value`` (final test loss, nats), ``deviation`` from its method's mean, ``difference`` to the
    baseline on that seed."""
    frame = finals(results)[["method", "seed", "test_mean"]].rename(columns={"test_mean": "value"})
    frame = frame[np.isfinite(frame["value"])]
    frame["deviation"] = frame["value"] - frame.groupby("method")["value"].transform("mean")
    gaps = pairs.differences(results)[["method", "seed", "difference"]]
    return frame.merge(gaps, on=["method", "seed"], how="left").reset_index(drop=True)


def table(results: Results) -> pd.DataFrame:
    """One row per compared method, the baseline first: ``n`` finished seeds, ``few`` (fewer than eight), ``sd`` with its chi-square
    interval, ``sd_of_differences`` (nats; the baseline's: sd times sqrt(2)), ``detectable_N`` and the mean ``difference``.

    NaN: fewer than two seeds.
    """
    found, base = seeds(results), baseline(results)
    rows = []
    for method in [base, *(m for m in results.compare if m != base)]:
        mine = found[found["method"] == method]
        row = {"method": method, "title": title(results, method), "n": len(mine), "few": len(mine) < SEEDS}
        row["sd"] = _sd(mine["value"])
        row["sd_low"], row["sd_high"] = sd_interval(row["sd"], len(mine)) if len(mine) > 1 else (math.nan, math.nan)
        gaps = mine["difference"][np.isfinite(mine["difference"])]
        row["sd_of_differences"] = row["sd"] * math.sqrt(2) if method == base else _sd(gaps)
        known = not math.isnan(row["sd_of_differences"])
        row |= {
            f"detectable_{n}": smallest_difference(row["sd_of_differences"], n) if known else math.nan for n in PAIRS
        }
        row["difference"] = float(gaps.mean()) if method != base and len(gaps) else math.nan
        rows.append(row)
    return pd.DataFrame(rows)


def _sd(values: pd.Series) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The table's cells."""

    def finished(row: pd.Series) -> str:
        return NOT_RUN if not row["n"] else f"{row['n']} (few)" if row["few"] else str(row["n"])

    def of(row: pd.Series, name: str) -> str:
        return "one seed" if row["n"] == 1 else number(row[name], 4)

    rows = [row for _, row in frame.iterrows()]
    cells = {
        "Method": frame["title"],
        "Finished seeds": [finished(row) for row in rows],
        "SD (nats)": [between(*(of(row, name) for name in ("sd", "sd_low", "sd_high"))) for row in rows],
        "SD of differences": [of(row, "sd_of_differences") for row in rows],
    }
    for n in PAIRS:
        cells[f"Detectable, n = {n}"] = [of(row, f"detectable_{n}") for row in rows]
    return pd.DataFrame(cells)


def caption(results: Results) -> str:
    base = title(results, baseline(results))
    return (
        f"Noise of the final test loss over seeds: standard deviation with its 95 % chi-square interval; (few): fewer than {SEEDS}"
        f" finished seeds, so the figure is rough. SD of differences: to {base} seed by seed; in {base}'s own row √2 times its SD,"
        f" as for runs that are not paired. Detectable: the smallest true mean difference that a two-sided paired t-test at"
        f" 5 % finds with 80 % power.{weighting(results)}"
    )


def draw(frame: pd.DataFrame, dots: pd.DataFrame, colours: dict[str, str], base: str) -> Figure:
    """Left: every seed's distance from its method's mean. Right: the detectable differences beside the measured one."""
    if not frame["sd"].notna().any():
        return style.said("No noise card: it needs two finished seeds of a method.")
    style.use()
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(style.WIDTH, 0.9 + 0.3 * len(frame)), sharey=True, width_ratios=[1, 1.3]
    )
    figure.subplots_adjust(wspace=0.08)
    for y, row in enumerate(frame.itertuples()):
        colour = colours[row.method]
        if math.isnan(row.sd):
            words = NOT_RUN if not row.n else "one seed"
            left.text(0.02, y, words, transform=left.get_yaxis_transform(), va="center", fontsize=7, color=style.FAINT)
            continue
        mine = dots[dots["method"] == row.method]
        band = left.plot([-row.sd, row.sd], [y, y], color=colour, lw=5, alpha=0.25, solid_capstyle="butt")
        points = left.plot(mine["deviation"], [y] * len(mine), "o", ms=3.2, color=colour, mew=0)
        style.tag([*band, *points], row.method, f"{row.title}: sd {row.sd:.4f} nats over {row.n} seeds")
        if math.isnan(row.detectable_3):
            continue
        limits = [getattr(row, f"detectable_{n}") for n in PAIRS]
        line = right.plot(limits, [y] * len(PAIRS), "|-", ms=9, mew=1.4, lw=0.8, color=colour)
        tip = ", ".join(f"{limit:.4f} at n = {n}" for n, limit in zip(PAIRS, limits, strict=True))
        style.tag(line, row.method, f"{row.title}: detectable {tip}")
        if y == 0:
            for n, limit in zip(PAIRS, limits, strict=True):
                note = right.annotate(str(n), (limit, y), (0, 7), textcoords="offset points", ha="center")
                note.set(fontsize=6.5, color=style.FAINT)
        if row.difference:  # NaN is drawn as nothing
            dot = right.plot(abs(row.difference), y, "D", ms=4, mfc="white", color=colour, mew=1)
            style.tag(dot, row.method, f"{row.title}: measured {row.difference:+.4f} nats")
    right.set_xscale("log")
    right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    right.minorticks_off()
    if frame["few"].any():
        left.set_title(f"n < {SEEDS}: a rough figure", fontweight="normal", color=style.FAINT, fontsize=7)
    left.xaxis.set_major_locator(MaxNLocator(5))
    left.set_xlabel("Test loss, seed minus mean (nats)")
    right.set_xlabel("Difference of test losses (nats)")
    left.set_yticks(range(len(frame)), [f"{row.title} (n = {row.n})" for row in frame.itertuples()])
    left.set_ylim(len(frame) - 0.5, -0.8)
    for ax in (left, right):
        ax.grid(axis="y", visible=False)
    keys = [
        plt.Line2D([], [], marker="o", color=style.FAINT, ms=3.2, lw=0),
        plt.Line2D([], [], color=style.FAINT, lw=5, alpha=0.4),
        plt.Line2D([], [], marker="|", color=style.FAINT, ms=8, mew=1.4, lw=0.8),
        plt.Line2D([], [], marker="D", color=style.FAINT, ms=4, mfc="white", lw=0),
    ]
    words = ["a seed", "one standard deviation", "detectable at n = 10, 5, 3", f"measured, to {base}"]
    figure.legend(keys, words, loc="lower center", bbox_to_anchor=(0.5, 0.88 + 0.14 / figure.get_figheight()), ncols=4)
    return figure


def render(results: Results, out: Path) -> None:
    frame, dots = table(results), seeds(results)
    write_table(frame, shown(frame), "noise", out, caption(results))
    write_csv(dots, out / "noise_seeds.csv")
    colours = style.colours(results.compare)
    style.save(draw(frame, dots, colours, title(results, baseline(results))), "noise", out)


if __name__ == "__main__":
    program("noise", __doc__, render)
