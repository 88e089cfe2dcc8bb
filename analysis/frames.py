"""The tidy frames that several outputs share: one row a run, from ``Results``; nothing here draws or formats."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from acodm_core.study.results import Results

from .statistics import crossing, generator, median, perplexity, spread, weighted

MEANS = ("mean", "natural", "worst")  # over domains: unweighted, weighted by natural share, the worst domain's
TARGETS = ("natural", "uniform", "best_static")


def baseline(results: Results) -> str:
    """The method that defines the target and that differences are taken to."""
    return results.experiment.get("baseline", "natural")


def title(results: Results, method: str) -> str:
    return results.experiment.get("titles", {}).get(method, method)


def horizon(results: Results) -> int:
    """Optimiser steps of every compared run."""
    return int(results.experiment["steps"])


def compared_runs(results: Results) -> pd.DataFrame:
    """The rows of ``runs`` that are compared, in the configuration's order of methods, then by seed."""
    runs = results.runs[results.runs["compared"].astype(bool) & results.runs["method"].isin(results.compare)]
    place = runs["method"].map({method: i for i, method in enumerate(results.compare)})
    return runs.assign(_place=place).sort_values(["_place", "seed"]).drop(columns="_place").reset_index(drop=True)


@lru_cache(maxsize=8)
def by_domain(results: Results, split: str, metric: str = "loss") -> pd.DataFrame:
    """One row a (run, step), one column a domain; NaN where a domain was not evaluated. Shared: do not change it."""
    metrics = results.metrics
    rows = metrics[
        (metrics["metric"] == metric) & (metrics["split"] == split) & metrics["domain"].isin(results.domains)
    ]
    wide = rows.pivot(index=["run", "step"], columns="domain", values="value")
    return wide.reindex(columns=results.domains).sort_index()


def losses(results: Results, split: str) -> pd.DataFrame:
    """One row a (run, step): ``mean``, ``natural``, ``worst`` loss over domains (nats) and the mean of perplexities.

    A row with a missing domain is NaN throughout: a mean over fewer domains is another quantity.
    """
    wide = by_domain(results, split)
    values = wide.to_numpy(dtype=float)
    weights = [results.natural_weights[domain] for domain in results.domains]
    frame = pd.DataFrame(index=wide.index)
    frame["mean"] = values.mean(axis=1)
    frame["natural"] = weighted(values, weights) if len(values) else []
    frame["worst"] = values.max(axis=1)
    frame["mean_of_perplexities"] = perplexity(values).mean(axis=1)
    columns = ["run", "method", "seed", "status"]
    return compared_runs(results)[columns].merge(frame.reset_index(), on="run", how="inner")


def finals(results: Results) -> pd.DataFrame:
    """One row a compared run: its last validation and its test values, ``inf`` for a run that failed, NaN if missing.

    Columns ``valid_mean``, ``valid_natural``, ``valid_worst``, ``valid_mean_of_perplexities``, the same for ``test_``,
    and ``test_bits_per_byte`` (unweighted over domains).
    """
    frame = compared_runs(results)[["run", "method", "seed", "status"]].set_index("run")
    for split in ("valid", "test"):
        table = losses(results, split).sort_values("step").groupby("run").last()
        for name in (*MEANS, "mean_of_perplexities"):
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
    moved = compared_runs(results).set_index("run")["method"].to_frame().join(span, how="inner")
    largest = moved.groupby("method")["requested"].max()
    return tuple(method for method in results.compare if largest.get(method, np.inf) < 1e-9)


def targets(results: Results) -> pd.DataFrame:
    """The three targets: ``target``, ``method`` that set it, ``loss`` (median over seeds, nats; NaN when not run)."""
    final = finals(results).groupby("method")["valid_mean"].agg(median)
    static = [method for method in static_methods(results) if np.isfinite(final.get(method, np.nan))]
    best = min(static, key=lambda method: final[method], default="")
    methods = {"natural": baseline(results), "uniform": "uniform", "best_static": best}
    rows = [(name, methods[name], final.get(methods[name], np.nan)) for name in TARGETS]
    frame = pd.DataFrame(rows, columns=["target", "method", "loss"])
    frame["loss"] = frame["loss"].where(np.isfinite(frame["loss"]))
    return frame


def crossings(results: Results) -> pd.DataFrame:
    """One row a (compared run, target): ``steps`` to the target, ``inf`` when censored or when the run failed.

    A failed run counts as never reaching a target even where its curve had been below it: it left no usable model.
    """
    curves = {run: curve for run, curve in losses(results, "valid").groupby("run")}
    goals = list(targets(results).itertuples())
    rows = []
    for run in compared_runs(results).itertuples():
        for target in goals:
            if run.status != "finished":
                steps = np.inf if np.isfinite(target.loss) else np.nan
            elif run.run not in curves:
                steps = np.nan
            else:
                steps = crossing(curves[run.run]["step"], curves[run.run]["mean"], target.loss)
            rows.append((run.run, run.method, run.seed, target.target, steps))
    return pd.DataFrame(rows, columns=["run", "method", "seed", "target", "steps"])


def summary(values: pd.DataFrame, column: str) -> pd.DataFrame:
    """Per method: ``n`` seeds, ``median``, ``low`` and ``high`` of ``column`` (see ``statistics.spread``)."""
    rows = {}
    for method, group in values.groupby("method", sort=False):
        seeds = group[column].to_numpy(dtype=float)
        low, high = spread(seeds, generator(column, method))
        rows[method] = (len(seeds), float(median(seeds)), low, high)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["n", "median", "low", "high"])
