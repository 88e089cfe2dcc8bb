"""The main table: one row a compared method, from its loss to what reaching the target costs.

Losses are means over domains (nats a token) under the target's weights, uniform unless the experiment says; perplexity is
exp of that mean. The interquartile mean over seeds, the natural-weighted mean, the worst domain that counts, bits a byte and the
paper's mean of perplexities (both unweighted) are columns of the CSV, and so is the unweighted mean where it is another. A
failed run counts as infinitely bad and is named in the column of seeds; a censored one is ">N".
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from acodm_core.study.results import Results, disagreements

from . import cost, overhead, paired
from .frames import (
    baseline,
    finals,
    horizon,
    statuses,
    summary,
    targets,
    title,
    uniformly_weighted,
    weighting,
)
from .statistics import MIN_SEEDS, interquartile_mean, interquartile_mean_interval, interval_name, perplexity
from .tables import (
    FAILED,
    NOT_RUN,
    between,
    number,
    program,
    scientific,
    seeds_cell,
    steps_cell,
    with_interval,
    write_table,
)

LOSSES = ("valid_mean", "test_mean", "test_natural", "test_worst", "test_mean_of_perplexities", "test_bits_per_byte")


def table(results: Results, target: str = "natural") -> pd.DataFrame:
    """One row a compared method; NaN: not run; inf: failed, or a ``target`` that was never reached."""
    final, runs = finals(results), cost.per_run(results, target)
    frame = pd.DataFrame({"method": results.compare, "title": [title(results, m) for m in results.compare]})
    frame = frame.set_index("method")
    frame = frame.join(statuses(final, results.compare))
    if trials := _trials(results):
        frame["trials"] = [trials.get(method, 0) for method in frame.index]
    for name in LOSSES if uniformly_weighted(results) else (*LOSSES, "test_unweighted"):
        _put(frame, name, summary(final, name))
    for end in ("", "_low", "_high"):
        frame[f"test_perplexity{end}"] = perplexity(frame[f"test_mean{end}"])
    frame = frame.join(_interquartile(final, "test_mean"))
    _put(frame, "steps", summary(runs, "steps"))
    own = frame["steps"].get(baseline(results), float("nan"))
    # The baseline reaches its own final loss at its horizon at the latest, whatever the noise of its last evaluations.
    frame["baseline_steps"] = min(own, horizon(results)) if not math.isnan(own) else own
    frame["fewer_steps"] = 1 - frame["steps"] / frame["baseline_steps"]
    for name in ("flops", "seconds"):
        to_beat = cost.reference(runs, baseline(results), name)
        for way in ("alone", "all_in"):
            _put(frame, f"{name}_{way}", summary(runs, f"{name}_{way}"))
            frame[f"{name}_{way}_speedup"] = to_beat / frame[f"{name}_{way}"]
        for part in ("run", "upfront"):
            frame[f"{name}_{part}"] = summary(runs, f"{name}_{part}")["median"]
    probed = overhead.table(results).set_index("method")
    for name in ("time_ratio", "time_ratio_low", "time_ratio_high", "device_memory_ratio", "host_memory_ratio"):
        frame[name] = probed[name]
    frame["verdict"] = paired.table(results).set_index("method")["verdict"].reindex(frame.index).fillna("baseline")
    return frame.reset_index()


def _put(frame: pd.DataFrame, name: str, found: pd.DataFrame) -> None:
    frame[name], frame[f"{name}_low"], frame[f"{name}_high"] = found["median"], found["low"], found["high"]


def _interquartile(final: pd.DataFrame, name: str) -> pd.DataFrame:
    """Per method: the interquartile mean of column ``name`` and, from five seeds on, its interval."""
    rows = {}
    for method, group in final.groupby("method"):
        values = group[name].to_numpy(dtype=float)
        ends = interquartile_mean_interval(values) if len(values) >= MIN_SEEDS else (math.nan, math.nan)
        rows[method] = (float(interquartile_mean(values)), *ends)
    columns = [f"{name}_iqm", f"{name}_iqm_low", f"{name}_iqm_high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _trials(results: Results) -> dict[str, int]:
    """Method -> configurations tried in tuning it; empty where nothing was tuned."""
    trials = {method: int(n) for method, n in results.experiment.get("trials", {}).items() if method in results.compare}
    return trials if any(trials.values()) else {}


def shown(frame: pd.DataFrame, steps: int) -> pd.DataFrame:
    """The cells of the main table; ``steps`` is the horizon."""
    rows = [row for _, row in frame.iterrows()]

    def reached(row: pd.Series) -> str:
        return between(*(steps_cell(row[key], steps) for key in ("steps", "steps_low", "steps_high")))

    def speedup(row: pd.Series, name: str) -> str:
        value = 1.0 if row["verdict"] == "baseline" else row[f"{name}_speedup"]
        return "never" if value == 0 else number(value, 2)

    def fewer(row: pd.Series) -> str:
        value = 0.0 if row["verdict"] == "baseline" else row["fewer_steps"]
        return "never" if math.isinf(value) else number(100 * value, 1)

    tuned = {"Trials": frame["trials"].astype(str)} if "trials" in frame else {}
    return pd.DataFrame(
        {
            "Method": frame["title"],
            "Seeds": [seeds_cell(row) for row in rows],
            **tuned,
            "Valid. loss": [with_interval(row, "valid_mean") for row in rows],
            "Test loss": [with_interval(row, "test_mean") for row in rows],
            "Test perplexity": [with_interval(row, "test_perplexity", 2) for row in rows],
            "Steps to target": [reached(row) for row in rows],
            "Fewer steps (%)": [fewer(row) for row in rows],
            "FLOPs alone": [_to_target(row, "flops_alone") for row in rows],
            "FLOPs all in": [_to_target(row, "flops_all_in") for row in rows],
            "Speed-up alone (×)": [speedup(row, "flops_alone") for row in rows],
            "Speed-up all in (×)": [speedup(row, "flops_all_in") for row in rows],
            "Step time (×)": [number(row["time_ratio"]) for row in rows],
            "Memory (×)": [number(_memory(row)) for row in rows],
            "Against baseline": frame["verdict"],
        }
    )


def _to_target(row: pd.Series, name: str) -> str:
    """FLOPs to the target; of a run that never reaches it, ">" what it spent."""
    spent = row["flops_run"] + (row["flops_upfront"] if name == "flops_all_in" else 0.0)
    return f">{scientific(spent)}" if math.isinf(row[name]) and math.isfinite(spent) else scientific(row[name])


def _memory(row: pd.Series) -> float:
    """The device's ratio, the host's where there is no device."""
    device = row["device_memory_ratio"]
    return row["host_memory_ratio"] if math.isnan(device) else device


def caption(results: Results, target: str = "natural") -> str:
    """Target, horizon rule, number of seeds and kind of interval: what every reader of the table must know."""
    setter, goal = targets(results).set_index("target").loc[target, ["method", "loss"]]
    n = len(results.experiment.get("seeds", []))
    tuned = " Trials: configurations tried in tuning, on data that this table does not use." if _trials(results) else ""
    mixed = "".join(f" The runs differ in {words}." for words in disagreements(results.runs))
    reach = f"{goal:.4f} nats, perplexity {np.exp(goal):.2f}" if np.isfinite(goal) else NOT_RUN
    return (
        f"Medians over seeds; in brackets the {interval_name(n)}. Target: median final validation loss of"
        f" {title(results, setter)} ({reach}). Horizon rule: {results.experiment.get('horizon', 'fixed-horizon')},"
        f" {horizon(results)} steps, {results.experiment.get('schedule', 'unstated')} schedule; >{horizon(results)}: not"
        f" reached. Speed-up: baseline's FLOPs to the target over the method's, alone and with every run it depends on."
        f" Step time and memory: against a plain step, from the probe. A {FAILED} run counts as infinite."
        f"{tuned}{mixed}{weighting(results)}"
    )


def render(results: Results, out: Path) -> None:
    frame = table(results)
    write_table(frame, shown(frame, horizon(results)), "comparison", out, caption(results))


def short(results: Results) -> pd.DataFrame:
    """The cells that fit a terminal or a README: validation loss, FLOPs and verdicts stay in the files."""
    cells = shown(table(results), horizon(results))
    return cells[["Method", "Seeds", "Test perplexity", "Steps to target", *(c for c in cells if c.endswith("(×)"))]]


def show(results: Results) -> None:
    """Print the main table to the terminal."""
    from rich.console import Console
    from rich.table import Table

    cells = short(results)
    grid = Table(title=str(results.experiment["experiment"]), header_style="bold")
    for i, name in enumerate(cells.columns):
        grid.add_column(name.replace(" (×)", " ×"), justify="left" if i == 0 else "right", no_wrap=i == 0)
    for row in cells.values.tolist():
        grid.add_row(*(cell.split(" [")[0] for cell in row))
    console = Console()
    console.width = max(console.width, 100)
    console.print(grid)
    console.print(caption(results), style="dim", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    program("comparison", __doc__, render, show)
