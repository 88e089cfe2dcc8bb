"""Performance profiles over workloads: on which share of them is a method within a factor tau of the fastest?

A workload is an experiment's results folder. A method's cost there is its median over seeds, to the threshold that its baseline
sets; its ratio is that over the least of the compared methods' (Dolan and More 2002, Mathematical Programming 91:201-213), and a
threshold that is not reached counts as an infinite one. rho(tau) is the share of workloads whose ratio is at most tau; the score is
its mean over tau from 1 to 4, so 1 is fastest everywhere and 0 never within a factor of four. Intervals resample each
workload's seeds, the same ones for all methods. With fewer than five seeds on any workload there is no profile, score or rank.
Beside it stands the geometric mean over workloads of the speed-up over the baseline, and over each workload's strongest cheap
baseline. The oracle is a bound and no competitor; a method that a workload did not run is in no profile.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from acodm_analysis.core import panels, style
from acodm_analysis.core.costs import per_run, reference
from acodm_analysis.core.frames import ORACLE, baseline, horizon, strongest_cheap, title
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.seed_statistics import LEVEL, MIN_SEEDS, enough, generator
from acodm_analysis.core.tables import NOT_RUN, at_least, between, few, number, times, write_csv, write_table
from acodm_core import entry
from acodm_core.errors import UserError
from acodm_core.results.reader import Results, disagreements

OUTPUT = Output(
    section="Efficiency",
    place=60,
    heading="Performance profiles",
    figure="profiles",
    tables=("profiles",),
    data=("profiles_curve",),
    several=True,
    caption=(
        "Over several workloads: the share of them on which a method's cost is within a factor of the fastest method's."
    ),
)

WIDEST = 4.0  # the largest factor that counts, as AlgoPerf's
RESAMPLES = 2000
RIVALS = {"baseline": baseline, "cheap": strongest_cheap}  # what speed-ups are over
WAYS = {"steps_alone": "steps", "flops_all_in": "FLOPs, all in"}


def workload(results: Results) -> str:
    return str(results.experiment["experiment"])


def check(workloads: Sequence[Results]) -> None:
    """UserError where the folders are not so many workloads: one given twice, or a method's name that means two mixers."""
    seen: dict[str, Path] = {}
    mixers: dict[str, tuple[str, Path]] = {}
    for results in workloads:
        name = workload(results)
        if name in seen:
            raise UserError(
                f"workload {name!r} stands in two folders",
                where=str(results.folder),
                fix=f"leave out this or {seen[name]}",
            )
        seen[name] = results.folder
        runs = results.runs[results.runs["method"].isin(results.compare)]
        for method, mixer in runs.groupby("method")["mixer"].first().items():
            first, where = mixers.setdefault(method, (mixer, results.folder))
            if first != mixer:
                raise UserError(
                    f"method {method!r} is mixer {mixer!r} here and {first!r} in {where}: two methods in one row",
                    where=str(results.folder),
                )


def costs(workloads: Sequence[Results]) -> pd.DataFrame:
    """One row per (workload, competitor, seed): ``title``, ``baseline`` (whether it is), ``steps_alone`` and ``flops_all_in`` to
    the natural threshold; inf: not reached, NaN: not run.

    The baseline reaches its own final loss with its last step at the latest, whatever the noise of its last evaluations.
    """
    frames = []
    for results in workloads:
        runs = per_run(results)
        runs = runs[runs["method"] != ORACLE].assign(baseline=runs["method"] == baseline(results))
        late = runs["baseline"] & np.isinf(runs["steps"]) & (runs["steps_run"] == horizon(results))
        for column in WAYS:
            name, way = column.split("_", 1)
            whole = runs[f"{name}_run"] + (runs[f"{name}_upfront"] if way == "all_in" else 0.0)
            runs[column] = runs[column].mask(late, whole)
        titles = [title(results, method) for method in runs["method"]]
        frames.append(runs[["method", "seed", "baseline", *WAYS]].assign(workload=workload(results), title=titles))
    return pd.concat(frames, ignore_index=True)


def ratios(medians: np.ndarray) -> np.ndarray:
    """(..., workloads, methods) costs over the least in each workload; all ``inf`` where nobody got there."""
    least = np.nanmin(medians, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        found = medians / least
    return np.where(np.isinf(medians), np.inf, found)


def scores(found: np.ndarray) -> np.ndarray:
    """(..., methods) mean of rho over tau in [1, WIDEST] from (..., workloads, methods) ratios; NaN: a workload not run."""
    inside = np.clip((WIDEST - found) / (WIDEST - 1), 0.0, 1.0)
    return np.where(np.isinf(found), 0.0, inside).mean(axis=-2)


def profile(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """tau and rho(tau) of one method's ratios: the corners of a step curve from 1 to WIDEST."""
    inside = np.sort(found[found <= WIDEST])
    tau = np.concatenate([[1.0], inside, [WIDEST]])
    return tau, np.array([np.mean(found <= t) for t in tau])


def _medians(frame: pd.DataFrame, names: Sequence[str], methods: Sequence[str], column: str, rng=None) -> np.ndarray:
    """([RESAMPLES,] workloads, methods) medians over seeds; with ``rng`` over resampled seeds, the same for all methods."""
    tables = []
    for name in names:
        wide = frame[frame["workload"] == name].pivot(index="seed", columns="method", values=column)
        values = wide.reindex(columns=methods).to_numpy(dtype=float)
        if rng is None:
            tables.append(np.median(values, axis=0))
        else:
            tables.append(np.median(values[rng.integers(len(values), size=(RESAMPLES, len(values)))], axis=1))
    return np.stack(tables, axis=-2)


def table(workloads: Sequence[Results]) -> pd.DataFrame:
    """One row per (competitor, way of counting): ``workloads`` it ran on, ``fastest`` and ``reached`` of them, ``score`` with its
    interval and ``speedup`` (geometric mean over the baseline; 0: a threshold never reached); NaN where a workload did not run it.

    Raises:
        UserError: see ``check``.
    """
    check(workloads)
    frame = costs(workloads)
    names, methods = [workload(results) for results in workloads], list(dict.fromkeys(frame["method"]))
    seeds = int(frame.groupby(["workload", "method"])["seed"].nunique().min())
    rows = []
    for column in WAYS:
        medians = _medians(frame, names, methods, column)
        found = ratios(medians)
        drawn = scores(ratios(_medians(frame, names, methods, column, generator("profiles", column))))
        ratio = {rival: _speedup(workloads, rival, column, medians) for rival in RIVALS}
        for i, method in enumerate(methods):
            ran = ~np.isnan(medians[:, i])
            row = {"method": method, "title": frame.loc[frame["method"] == method, "title"].iloc[0], "counted": column}
            row |= {"workloads": int(ran.sum()), "of": len(names), "seeds": seeds}
            row["reached"] = int(np.isfinite(medians[:, i]).sum())
            for rival, (speedup, bound) in ratio.items():
                row |= {
                    f"speedup_over_{rival}": float(speedup[i]),
                    f"{rival}_bound": bound and any(RIVALS[rival](one) != method for one in workloads),
                }
            row["fastest"] = int((found[:, i] == 1).sum()) if enough(seeds) else math.nan
            tail = (1 - LEVEL) / 2
            judged = ran.all() and enough(seeds)
            ends = (scores(found)[i], *np.quantile(drawn[:, i], [tail, 1 - tail])) if judged else [math.nan] * 3
            row |= dict(zip(("score", "score_low", "score_high"), map(float, ends), strict=True))
            rows.append(row)
    return pd.DataFrame(rows)


def _speedup(workloads: Sequence[Results], rival: str, column: str, medians: np.ndarray) -> tuple[np.ndarray, bool]:
    """(methods,) geometric mean over workloads of the cost of each one's ``rival`` over (workloads, methods) ``medians``; -inf:
    a threshold was never reached. And whether it is a lower bound, because a rival is censored."""
    found = [reference(per_run(one), RIVALS[rival](one), column.split("_", 1)[0]) for one in workloads]
    with np.errstate(divide="ignore"):
        means = np.exp(np.log(np.array([to_beat for to_beat, _ in found])[:, None] / medians).mean(axis=0))
    return np.where(means == 0, -np.inf, means), any(bound for _, bound in found)


def steps(workloads: Sequence[Results]) -> pd.DataFrame:
    """What the figure draws: ``counted``, ``method``, ``title``, ``tau`` and ``rho``, of the methods that every workload ran; empty
    with too few seeds."""
    frame = costs(workloads)
    names, methods = [workload(results) for results in workloads], list(dict.fromkeys(frame["method"]))
    titles = frame.groupby("method")["title"].first()
    judged = enough(int(frame.groupby(["workload", "method"])["seed"].nunique().min()))
    rows = []
    for column in WAYS if judged else ():
        found = ratios(_medians(frame, names, methods, column))
        for i, method in enumerate(methods):
            if not np.isnan(found[:, i]).any():
                pairs = zip(*profile(found[:, i]), strict=True)
                rows += [(column, method, titles[method], tau, rho) for tau, rho in pairs]
    return pd.DataFrame(rows, columns=["counted", "method", "title", "tau", "rho"])


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells: one row per method, each way of counting with its score and speed-up."""
    at = frame.set_index(["method", "counted"])
    rows = []
    for method in frame["method"].unique():
        one = at.loc[(method, next(iter(WAYS)))]
        cells = {"Method": one["title"], "Workloads": f"{one['workloads']}/{one['of']}"}
        for column, words in WAYS.items():
            row = at.loc[(method, column)]
            whole = row["workloads"] == row["of"]
            cells[f"Reached ({words})"] = f"{row['reached']}/{row['workloads']}"
            cells[f"Fastest ({words})"] = few(row["seeds"], f"{row['fastest']:.0f}/{row['workloads']}")
            ends = [number(row[key], 2) for key in ("score", "score_low", "score_high")]
            cells[f"Score ({words})"] = few(row["seeds"], between(*ends)) if whole else NOT_RUN
            for rival in RIVALS:
                text = at_least(times(row[f"speedup_over_{rival}"]), row[f"{rival}_bound"])
                cells[f"Speed-up ({words}{', over cheap' * (rival == 'cheap')}, ×)"] = text
        rows.append(cells)
    return pd.DataFrame(rows)


def caption(workloads: Sequence[Results]) -> str:
    cheap = dict.fromkeys(title(r, strongest_cheap(r)) or NOT_RUN for r in workloads)
    parts = [f"{workload(r)} (n = {len(r.experiment.get('seeds', []))}, {horizon(r)} steps)" for r in workloads]
    text = (
        f"Performance profiles over {len(workloads)} workload{'s' * (len(workloads) != 1)}: {'; '.join(parts)}. Cost to"
        " each workload's own threshold (its baseline's median final validation loss), medians over seeds. Score: mean"
        f" share of workloads within a factor tau of the fastest, tau from 1 to {WIDEST:g}; in brackets the 95 % bootstrap"
        f" interval over seeds. Fewer than {MIN_SEEDS} seeds on any workload give no score and no rank. Speed-up:"
        f" geometric mean over workloads, over the baseline, and over cheap: {'; '.join(cheap)}, the better of uniform and"
        " objective weights. Never: a threshold was not reached; ≥: what it is counted over gets to a threshold with its"
        " last step or never, and its whole run stands for it."
    )
    for words in disagreements(pd.concat([results.runs for results in workloads])):
        text += f" The runs differ in {words}; within a workload see its own report."
    return text


def draw(frame: pd.DataFrame, methods: Sequence[str], count: int) -> Figure:
    """rho against tau, one panel per way of counting."""
    if frame.empty:
        return style.said(f"No profiles: no method was run on every workload with {MIN_SEEDS} seeds or more.")
    style.use()
    figure, axes = plt.subplots(1, len(WAYS), figsize=(style.WIDTH, 2.6), sharey=True)
    figure.subplots_adjust(wspace=0.08)
    titles = frame.groupby("method")["title"].first()
    drawn = [method for method in methods if method in titles]
    colours, dashes = style.colours(drawn), style.dashes(drawn)
    for ax, (column, words) in zip(axes, WAYS.items(), strict=True):
        for i, method in enumerate(drawn):
            rows = frame[(frame["counted"] == column) & (frame["method"] == method)]
            # Equal curves lie beside each other, not under one another.
            lift = 0.006 * (i - (len(drawn) - 1) / 2)
            line = ax.step(
                rows["tau"], rows["rho"] + lift, where="post", color=colours[method], ls=dashes[method], lw=1.4
            )
            style.tag(
                line, method, f"{titles[method]}: within a factor {WIDEST:g} on {rows['rho'].max():.0%} of workloads"
            )
        ax.set_xscale("log")
        ax.set_xticks([1, 1.5, 2, 3, 4], ["1", "1.5", "2", "3", "4"])
        ax.minorticks_off()
        ax.set_xlim(0.98, WIDEST)
        ax.set_title(words[:1].upper() + words[1:], fontweight="normal")
        ax.set_xlabel("Factor of the fastest method")
    axes[0].set_ylim(-0.06, 1.06)
    axes[0].set_ylabel(f"Share of {count} workloads")
    axes[0].yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    keys = [plt.Line2D([], [], color=colours[m], ls=dashes[m], lw=1.4) for m in drawn]
    panels.legend(figure, keys, [titles[m] for m in drawn])
    return figure


def render(workloads: Sequence[Results], out: Path) -> None:
    frame, curve = table(workloads), steps(workloads)
    write_table(frame, shown(frame), "profiles", out, caption(workloads))
    write_csv(curve, out / "profiles_curve.csv")
    style.save(draw(curve, list(frame["method"].unique()), len(workloads)), "profiles", out)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m acodm_analysis.profiles",
        description=__doc__,
        epilog="example: python -m acodm_analysis.profiles results/quick results/synthetic --out results/profiles",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "results", type=Path, nargs="+", metavar="RESULTS", help="folders that `collect` wrote, one a workload"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the files; made when it is missing")
    arguments = parser.parse_args()
    entry.run("error", lambda: render([Results(folder) for folder in arguments.results], arguments.out))


if __name__ == "__main__":
    main()
