"""The main table: one row per compared method, from its loss to what reaching the threshold costs.

Losses are means over domains (nats per token) under the objective weights, uniform unless the experiment says; perplexity is
exp of that mean. The interquartile mean over seeds, the natural-weighted mean, the worst domain that counts, bits a byte and the
paper's mean of perplexities (both unweighted) are columns of the CSV, and so is the unweighted mean where it is another. A
failed run counts as infinitely bad and is named in the column of seeds; a censored one is ">N". Methods are held against the
baseline and against the strongest cheap one.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from acodm_analysis.core import costs, pairs, probed
from acodm_analysis.core.frames import (
    baseline,
    finals,
    horizon,
    statuses,
    strongest_cheap,
    summary,
    thresholds,
    title,
    uniformly_weighted,
    weighting,
)
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.seed_statistics import (
    KNOWN_THRESHOLD,
    interquartile_mean,
    interquartile_mean_interval,
    interval_name,
    no_verdict,
    perplexity,
    speedups,
)
from acodm_analysis.core.tables import (
    FAILED,
    NOT_RUN,
    at_least,
    between,
    number,
    program,
    scientific,
    seeds_cell,
    steps_cell,
    times,
    with_interval,
    write_table,
)
from acodm_core.results.reader import Results, disagreements

OUTPUT = Output(
    section="Summary",
    heading="Main table",
    tables=("comparison",),
    caption="Quality, steps to the threshold, and cost alone and with every run that a method depends on.",
)

BASELINE, CHEAPEST = AGAINST = ("baseline", "cheap")  # what methods are held against: see frames.held_against
VERDICTS = ["Against baseline", "Against cheap"]  # columns of the table's cells
ITSELF = "itself"
WIDTH = 80  # columns of a terminal that the printed table fits
LOSSES = ("valid_mean", "test_mean", "test_natural", "test_worst", "test_mean_of_perplexities", "test_bits_per_byte")


def table(results: Results, threshold: str = "natural") -> pd.DataFrame:
    """One row per compared method; NaN: not run; inf: failed, or a ``threshold`` that was never reached."""
    final, runs = finals(results), costs.per_run(results, threshold)
    frame = pd.DataFrame({"method": results.compare, "title": [title(results, m) for m in results.compare]})
    frame = frame.set_index("method")
    frame = frame.join(statuses(final, results.compare))
    trials = results.experiment.get("trials") or {}
    frame["trials"] = [int(trials.get(method, 0)) for method in frame.index]
    for name in LOSSES if uniformly_weighted(results) else (*LOSSES, "test_unweighted"):
        _put(frame, name, summary(final, name))
    for end in ("", "_low", "_high"):
        frame[f"test_perplexity{end}"] = perplexity(frame[f"test_mean{end}"])
    frame = frame.join(_interquartile(final, "test_mean"))
    _put(frame, "steps", summary(runs, "steps"))
    for name in ("flops", "seconds"):
        for way in ("alone", "all_in"):
            _put(frame, f"{name}_{way}", summary(runs, f"{name}_{way}"))
        for part in ("run", "upfront"):
            frame[f"{name}_{part}"] = summary(runs, f"{name}_{part}")["median"]
    against = dict(zip(AGAINST, [baseline(results), strongest_cheap(results)], strict=True))
    for which, method in against.items():
        frame[which] = method
        frame[f"{which}_steps"], frame[f"{which}_bound"] = costs.reference(runs, method, "steps")
        frame[f"fewer_steps_than_{which}"] = 1 - frame["steps"] / frame[f"{which}_steps"]
        for name in ("flops", "seconds"):
            to_beat, _ = costs.reference(runs, method, name)
            for way in ("alone", "all_in"):
                frame[f"{name}_{way}_speedup_over_{which}"] = speedups(to_beat, frame[f"{name}_{way}"])
    timed = probed.table(results).set_index("method")
    for name in ("time_ratio", "time_ratio_low", "time_ratio_high", "device_memory_ratio", "host_memory_ratio"):
        frame[name] = timed[name]
    for which, method in against.items():
        found = pairs.table(results, method).set_index("method")["verdict"].to_dict() if method else {}
        frame[f"verdict_against_{which}"] = [found.get(m, ITSELF if method else NOT_RUN) for m in frame.index]
    return frame.reset_index()


def _put(frame: pd.DataFrame, name: str, found: pd.DataFrame) -> None:
    frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = found["median"], found["low"], found["high"]


def _interquartile(final: pd.DataFrame, name: str) -> pd.DataFrame:
    """Per method: the interquartile mean of column ``name`` and its interval; NaN under five seeds."""
    rows = {}
    for method, group in final.groupby("method"):
        values = group[name].to_numpy(dtype=float)
        rows[method] = (interquartile_mean(values), *interquartile_mean_interval(values))
    columns = [f"{name}_iqm", f"{name}_iqm_low", f"{name}_iqm_high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def shown(frame: pd.DataFrame, steps: int) -> pd.DataFrame:
    """The cells of the main table; ``steps`` is the horizon."""
    rows = [row for _, row in frame.iterrows()]

    def reached(row: pd.Series) -> str:
        return between(*(steps_cell(row[key], steps) for key in ("steps", "steps_low", "steps_high")))

    def speedup(row: pd.Series, name: str, which: str = BASELINE) -> str:
        if row["method"] == row[which]:
            return "1.00"
        return at_least(times(row[f"{name}_speedup_over_{which}"]), row[f"{which}_bound"])

    def fewer(row: pd.Series) -> str:
        if row["method"] == row[BASELINE]:
            return "0.0"
        value = row[f"fewer_steps_than_{BASELINE}"]
        return "never" if math.isinf(value) else at_least(number(100 * value, 1), row[f"{BASELINE}_bound"])

    return pd.DataFrame(
        {
            "Method": frame["title"],
            "Seeds": [seeds_cell(row) for row in rows],
            "Trials": frame["trials"].astype(str),
            "Valid. loss": [with_interval(row, "valid_mean") for row in rows],
            "Test loss": [with_interval(row, "test_mean") for row in rows],
            "Test perplexity": [with_interval(row, "test_perplexity", 2) for row in rows],
            "Steps to threshold": [reached(row) for row in rows],
            "Fewer steps (%)": [fewer(row) for row in rows],
            "FLOPs alone": [_to_threshold(row, "flops_alone") for row in rows],
            "FLOPs all in": [_to_threshold(row, "flops_all_in") for row in rows],
            "Speed-up alone (×)": [speedup(row, "flops_alone") for row in rows],
            "Speed-up all in (×)": [speedup(row, "flops_all_in") for row in rows],
            "All in, over cheap (×)": [speedup(row, "flops_all_in", CHEAPEST) for row in rows],
            "Step time (×)": [number(row["time_ratio"]) for row in rows],
            "Memory (×)": [number(_memory(row)) for row in rows],
        }
        | {name: frame[f"verdict_against_{which}"] for name, which in zip(VERDICTS, AGAINST, strict=True)}
    )


def _to_threshold(row: pd.Series, name: str) -> str:
    """FLOPs to the threshold; of a run that never reaches it, ">" what it spent."""
    spent = row["flops_run"] + (row["flops_upfront"] if name == "flops_all_in" else 0.0)
    return f">{scientific(spent)}" if math.isinf(row[name]) and math.isfinite(spent) else scientific(row[name])


def _memory(row: pd.Series) -> float:
    """The device's ratio, the host's where there is no device."""
    device = row["device_memory_ratio"]
    return row["host_memory_ratio"] if math.isnan(device) else device


def caption(results: Results, threshold: str = "natural", *, intervals: bool = True) -> str:
    """Threshold, horizon rule, number of seeds and kind of interval: what every reader of the table must know."""
    setter, loss = thresholds(results).set_index("threshold").loc[threshold, ["method", "loss"]]
    n = len(results.experiment.get("seeds", []))
    within = f"; in brackets the {interval_name(n)}{KNOWN_THRESHOLD}" if intervals else ""
    cheap = f"{title(results, strongest_cheap(results)) or NOT_RUN}, the better of uniform and objective weights"
    mixed = "".join(f" The runs differ in {words}." for words in disagreements(results.runs))
    reach = f"{loss:.4f} nats, perplexity {np.exp(loss):.2f}" if np.isfinite(loss) else NOT_RUN
    return (
        f"Medians over seeds{within}. Threshold: median final validation loss of"
        f" {title(results, setter)} ({reach}). Horizon rule: {results.experiment.get('horizon', 'fixed-horizon')},"
        f" {horizon(results)} steps, {results.experiment.get('schedule', 'unstated')} schedule; >{horizon(results)}: not"
        f" reached. Speed-up: {title(results, baseline(results))}'s FLOPs to the threshold over the method's, alone and"
        f" with every run it depends on; cheap: {cheap}. ≥: what it is counted against gets to the threshold with its"
        f" last step at the earliest, so its whole run stands for it. {no_verdict(n)}Trials: configurations tried in"
        " tuning, on data that this table does not use."
        f" Step time and memory: against a plain step, from the probe. A {FAILED} run counts as infinite."
        f"{mixed}{weighting(results)}"
    )


def render(results: Results, out: Path) -> None:
    frame = table(results)
    write_table(frame, shown(frame, horizon(results)), "comparison", out, caption(results))


def short(results: Results, frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """The cells that fit a README (validation loss, FLOPs and verdicts stay in the files) of ``frame``, by default ``table``'s."""
    cells = shown(table(results) if frame is None else frame, horizon(results))
    kept = ["Method", "Seeds", "Trials", "Test perplexity", "Steps to threshold"]
    return cells[[*kept, *(name for name in cells if name.endswith("(×)"))]]


def printed(results: Results, frame: pd.DataFrame) -> pd.DataFrame:
    """The cells that fit 80 columns of a terminal: medians alone, and of the speed-ups those all in."""
    cells = short(results, frame)
    seeds = [
        str(row.n) if row.statuses in (f"{row.n} finished", NOT_RUN) else f"{row.n}*" for row in frame.itertuples()
    ]
    columns = {
        "Method": cells["Method"],
        "Seeds": seeds,
        "Trials": cells["Trials"],
        "Test perplexity": cells["Test perplexity"],
        "Steps to threshold": cells["Steps to threshold"],
        "Speed-up all in": cells["Speed-up all in (×)"],
        "... over cheap": cells["All in, over cheap (×)"],
        "Step time": cells["Step time (×)"],
        "Memory": cells["Memory (×)"],
    }
    return pd.DataFrame(columns).map(lambda cell: str(cell).split(" [")[0])


def show(results: Results) -> None:
    """Print the main table to the terminal: 80 columns are enough for it, and no word is cut."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    frame = table(results)
    cells = printed(results, frame)
    grid = Table(title=str(results.experiment["experiment"]), header_style="bold", box=SIMPLE_HEAD, padding=0)
    grid.show_edge = False
    for i, name in enumerate(cells.columns):
        # A column of numbers is as wide as its longest cell or word of its name; the first one has the rest.
        width = max(map(len, [*name.split(), *cells[name]]))
        grid.add_column(name, justify="right" if i else "left", vertical="bottom", width=width if i else None)
    for row in cells.values.tolist():
        grid.add_row(*row)
    console = Console()
    console.width = max(console.width, WIDTH)
    console.print(grid)
    for row in frame[[cell.endswith("*") for cell in cells["Seeds"]]].itertuples():
        console.print(f"* {row.title}: {row.statuses}", soft_wrap=True, highlight=False)
    console.print(caption(results, intervals=False), style="dim", highlight=False)


if __name__ == "__main__":
    program("comparison", __doc__, render, show)
