"""The tidy frames that several outputs share: one row per run, from ``Results``; nothing here draws or formats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from acodm_analysis.core.seed_statistics import cell_interval, crossing, median, perplexity, weighted
from acodm_analysis.core.tables import NOT_RUN
from acodm_core.errors import UserError
from acodm_core.results.reader import Results

# Over domains: under the objective weights (the objective loss), under natural weights, the worst domain that counts.
MEANS = ("mean", "natural", "worst")
THRESHOLDS = ("natural", "uniform", "best_static")
# One schedule to N for every run, or one trained anew that ends at the crossing (protocol, section 3).
FIXED, MATCHED = "fixed-horizon", "matched-horizon"
ORACLE = "oracle"  # the method whose static mixture a search has found: a bound, no competitor
# Drawing evenly, and drawing by the weights of the objective: no phase, no measurement, nothing learned.
CHEAP = ("uniform", "objective")
STRETCHES = 60  # over a run: figures of every step show means over this many


def baseline(results: Results) -> str:
    """The method that defines the threshold and that differences are taken to."""
    return results.experiment.get("baseline", "natural")


def title(results: Results, method: str) -> str:
    return results.experiment.get("titles", {}).get(method, method)


def horizon(results: Results) -> int:
    """Optimiser steps of every compared run."""
    return int(results.experiment["steps"])


def uniformly_weighted(results: Results) -> bool:
    """Whether the objective loss is the plain mean over domains."""
    return bool(np.ptp(list(results.objective_weights.values())) < 1e-9)


def mean_kind(results: Results) -> str:
    return "unweighted" if uniformly_weighted(results) else "objective-weighted"


def mean_name(results: Results) -> str:
    """The objective loss as a row or an axis of a figure calls it."""
    return "mean over domains" if uniformly_weighted(results) else "objective-weighted mean"


def weighting(results: Results) -> str:
    """The sentence for captions that says which mean it is; "" for the plain one."""
    if uniformly_weighted(results):
        return ""
    weights = results.objective_weights
    if np.allclose(list(weights.values()), list(results.natural_weights.values())):
        return " Losses are means over domains weighted by natural share."
    counted = ", ".join(f"{domain} {weight:.3g}" for domain, weight in weights.items() if weight > 0)
    rest = "; the others count nothing" if min(weights.values()) == 0 else ""
    return f" Losses are objective-weighted means over domains ({counted}{rest})."


def runs_of(results: Results, methods: Sequence[str] | None = None, *, further: bool = False) -> pd.DataFrame:
    """The rows of ``runs`` of these methods (default: the compared ones), in their order, then by seed.

    A compared method's runs are those of the comparison; with ``further`` also its trainings to other horizons.
    """
    methods = results.compare if methods is None else methods
    runs = results.runs[results.runs["method"].isin(methods)]
    if not further:
        runs = runs[runs["compared"] | ~runs["method"].isin(results.compare)]
    place = runs["method"].map({method: i for i, method in enumerate(methods)})
    return runs.assign(_place=place).sort_values(["_place", "seed"]).drop(columns="_place").reset_index(drop=True)


@lru_cache(maxsize=8)
def by_domain(results: Results, split: str, metric: str = "loss") -> pd.DataFrame:
    """One row per (run, step), one column per domain; NaN where a domain was not evaluated. Shared: do not change it."""
    metrics = results.metrics
    rows = metrics[
        (metrics["metric"] == metric) & (metrics["split"] == split) & metrics["domain"].isin(results.domains)
    ]
    try:
        wide = rows.pivot(index=["run", "step"], columns="domain", values="value")
    except ValueError:
        path = results.folder / "metrics.parquet"
        raise UserError(f"holds a {split} {metric} twice", where=str(path), fix="collect the runs again") from None
    return wide.reindex(columns=results.domains).sort_index()


def losses(
    results: Results, split: str, methods: Sequence[str] | None = None, *, further: bool = False
) -> pd.DataFrame:
    """One row per (run, step) of ``runs_of`` these: MEANS over domains, nats per token.

    Beside them the ``unweighted`` mean and the paper's ``mean_of_perplexities``, unweighted too.

    A row with a missing domain is NaN throughout: a mean over fewer domains is another quantity.
    """
    wide = by_domain(results, split)
    values = wide.to_numpy(dtype=float)
    weights = np.array(list(results.objective_weights.values()))
    frame = pd.DataFrame(index=wide.index)
    frame["mean"] = weighted(values, weights) if len(values) else []
    frame["natural"] = weighted(values, list(results.natural_weights.values())) if len(values) else []
    frame["worst"] = np.where(np.isnan(values).any(axis=1), np.nan, values[:, weights > 0].max(axis=1))
    frame["unweighted"] = values.mean(axis=1)
    frame["mean_of_perplexities"] = perplexity(values).mean(axis=1)
    columns = ["run", "method", "seed", "status"]
    return runs_of(results, methods, further=further)[columns].merge(frame.reset_index(), on="run", how="inner")


def finals(results: Results, methods: Sequence[str] | None = None) -> pd.DataFrame:
    """One row per run of ``methods``: its last validation and its test values, ``inf`` for a run that failed, NaN if missing.

    Columns are those of ``losses`` as ``valid_mean``, ``test_mean`` and so on, and ``test_bits_per_byte`` (unweighted).
    """
    frame = runs_of(results, methods)[["run", "method", "seed", "status"]].set_index("run")
    for split in ("valid", "test"):
        table = losses(results, split, methods).sort_values("step").groupby("run").last()
        for name in (*MEANS, "unweighted", "mean_of_perplexities"):
            frame[f"{split}_{name}"] = table[name].reindex(frame.index)
    bits = by_domain(results, "test", "bits_per_byte").groupby("run").last().mean(axis=1, skipna=False)
    frame["test_bits_per_byte"] = bits.reindex(frame.index)
    measured = frame.columns[3:]
    frame.loc[frame["status"] != "finished", measured] = np.inf
    return frame.reset_index()


@lru_cache(maxsize=8)
def static_methods(results: Results) -> tuple[str, ...]:
    """The compared methods whose requested mixture never moved, read off what they asked for."""
    ends = results.mixture.groupby(["run", "domain"])["requested"].agg(["min", "max"])
    span = (ends["max"] - ends["min"]).groupby("run").max().rename("requested")
    moved = runs_of(results).set_index("run")["method"].to_frame().join(span, how="inner")
    largest = moved.groupby("method")["requested"].max()
    return tuple(method for method in results.compare if largest.get(method, np.inf) < 1e-9)


@lru_cache(maxsize=8)
def thresholds(results: Results) -> pd.DataFrame:
    """The three thresholds: ``threshold``, ``method`` that set it, ``loss`` (median over seeds, nats; NaN when not run).

    The oracle is static and sets no threshold: nobody knows it before the search that found it. Shared: do not
    change it.
    """
    final = finals(results).groupby("method")["valid_mean"].agg(median)
    static = [m for m in static_methods(results) if m != ORACLE and np.isfinite(final.get(m, np.nan))]
    best = min(static, key=lambda method: final[method], default="")
    methods = {"natural": baseline(results), "uniform": "uniform", "best_static": best}
    rows = [(name, methods[name], final.get(methods[name], np.nan)) for name in THRESHOLDS]
    frame = pd.DataFrame(rows, columns=["threshold", "method", "loss"])
    frame["loss"] = frame["loss"].where(np.isfinite(frame["loss"]))
    return frame


@lru_cache(maxsize=8)
def strongest_cheap(results: Results) -> str:
    """The strongest cheap baseline: of the compared CHEAP mixers the method with the lowest median final validation loss.

    "" where none was run and finished, and where it is the baseline itself. Methods are held against it and against the baseline.
    """
    mixers = runs_of(results).groupby("method")["mixer"].first()
    final = finals(results).groupby("method")["valid_mean"].agg(median)
    known = [m for m in results.compare if mixers.get(m) in CHEAP and np.isfinite(final.get(m, np.nan))]
    best = min(known, key=lambda method: final[method], default="")
    return "" if best == baseline(results) else best


def held_against(results: Results) -> list[str]:
    """What verdicts and speed-ups stand against: the baseline, then the strongest cheap one where there is one."""
    return [method for method in (baseline(results), strongest_cheap(results)) if method]


def crossings(results: Results, methods: Sequence[str] | None = None) -> pd.DataFrame:
    """One row per (run of ``methods``, threshold): ``steps`` to the threshold, ``inf`` when censored or when the run failed.

    A failed run counts as never reaching a threshold even where its curve had been below it: it left no usable model.
    """
    curves = {run: curve for run, curve in losses(results, "valid", methods).groupby("run")}
    known = list(thresholds(results).itertuples())
    rows = []
    for run in runs_of(results, methods).itertuples():
        for threshold in known:
            if run.status != "finished":
                steps = np.inf if np.isfinite(threshold.loss) else np.nan
            elif run.run not in curves:
                steps = np.nan
            else:
                steps = crossing(curves[run.run]["step"], curves[run.run]["mean"], threshold.loss)
            rows.append((run.run, run.method, run.seed, threshold.threshold, steps))
    return pd.DataFrame(rows, columns=["run", "method", "seed", "threshold", "steps"])


def matched_crossings(results: Results) -> pd.DataFrame:
    """``crossings`` under the matched-horizon rule: the shortest schedule that a method was trained to and that ended at or below
    the threshold, seed by seed; nothing is interpolated.

    That is the compared run and the method's further trainings (``horizons`` in the configuration). NaN where it has none: the
    rule was not run. ``inf``: no schedule ended there. The method that sets a threshold needs no further one: it defines the
    threshold by where the compared schedule ends.
    """
    mine = runs_of(results, further=True).query("status == 'finished'")
    ends = losses(results, "valid", further=True).sort_values("step").groupby("run")["mean"].last()
    mine = mine.assign(loss=mine["run"].map(ends))
    levels, any_further = list(thresholds(results).itertuples()), not mine["compared"].all()
    rows = []
    for run in runs_of(results).itertuples():
        here = mine[(mine["method"] == run.method) & (mine["seed"] == run.seed)]
        for threshold in levels:
            there = here.loc[here["loss"] <= threshold.loss, "steps"]
            steps = float(there.min()) if len(there) else np.inf
            was_run = not here["compared"].all() or (any_further and run.method == threshold.method)
            was_run = was_run and np.isfinite(threshold.loss)
            rows.append((run.run, run.method, run.seed, threshold.threshold, steps if was_run else np.nan))
    return pd.DataFrame(rows, columns=["run", "method", "seed", "threshold", "steps"])


def statuses(runs: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Per method: ``n`` runs and ``statuses``, how they ended in words."""
    counts = runs.groupby("method")["status"].value_counts().unstack(fill_value=0).reindex(methods, fill_value=0)

    def words(row: pd.Series) -> str:
        return ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in row.items() if count) or NOT_RUN

    return pd.DataFrame({"n": counts.sum(axis=1), "statuses": counts.apply(words, axis=1)})


def summary(values: pd.DataFrame, column: str) -> pd.DataFrame:
    """Per method: ``n`` seeds, ``median``, ``low`` and ``high`` of ``column`` (see ``seed_statistics.cell_interval``)."""
    rows = {}
    for method, group in values.groupby("method", sort=False):
        seeds = group[column].to_numpy(dtype=float)
        low, high = cell_interval(seeds)
        rows[method] = (len(seeds), float(median(seeds)), low, high)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["n", "median", "low", "high"])


def stretched(results: Results, rows: pd.DataFrame, keys: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Rows a step of compared runs as means over short stretches of steps: one row per (method, ``keys``, stretch, run).

    Columns are those, ``step`` (the stretch's middle) and ``values``.
    """
    method = runs_of(results).set_index("run")["method"]
    width = max(1, math.ceil(horizon(results) / STRETCHES))
    rows = rows[rows["run"].isin(method.index)]
    rows = rows.assign(stretch=(rows["step"] - 1) // width, method=rows["run"].map(method))
    return rows.groupby(["method", *keys, "stretch", "run"])[["step", *values]].mean().reset_index()
