"""What claims are measured by: named pure functions of the tidy results, each on methods that the results hold.

A measurement is a value with its interval and the number of seeds (or blocks, or repeats) behind it, or the reason why there is
none. Seeds are paired wherever two methods meet. A failed run, and one that never reaches its target, counts as infinitely bad.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from acodm_core.study.ratio import ratio_of_medians
from acodm_core.study.results import SCORES, Results, read_parquet

from .cost import step_seconds
from .frames import by_domain, finals, horizon, losses, runs_of
from .plausibility import agent_parameters
from .statistics import (
    MIN_SEEDS,
    crossing,
    mean_interval,
    median,
    perplexity,
    spread,
)

EXACT = "run, exact"  # the unit of what is counted and has no noise


@dataclass(frozen=True)
class Measured:
    """``value`` with its 95 % interval (under five seeds: smallest and largest), ``n`` of ``unit``; or ``why`` there is none."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    unit: str = "seeds"
    why: str = ""


def _over(values: ArrayLike, unit: str = "seeds", *, why: str) -> Measured:
    """The median over ``values`` with its interval; ``why`` where there are none."""
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if not len(values):
        return Measured(why=why)
    return Measured(float(median(values)), *spread(values), len(values), unit)


@lru_cache(maxsize=4)
def _finals(results: Results) -> pd.DataFrame:
    """``finals`` of every method that has runs, compared or not. Shared: do not change it."""
    return finals(results, tuple(results.runs["method"].unique()))


@lru_cache(maxsize=4)
def _curves(results: Results) -> dict[str, pd.DataFrame]:
    """Run -> its validation curve (``step``, ``mean``), of every method that has runs. Shared: do not change them."""
    curves = losses(results, "valid", tuple(results.runs["method"].unique()))
    return {run: curve[["step", "mean"]] for run, curve in curves.groupby("run")}


def _final(results: Results, method: str, column: str) -> pd.Series:
    """Seed -> the method's value in a column of ``finals``."""
    rows = _finals(results)
    return rows[rows["method"] == method].set_index("seed")[column]


def _steps(results: Results, method: str, goal: float) -> pd.Series:
    """Seed -> the step at which the method reaches ``goal`` (nats, validation); inf: never, or a failed run."""
    found = {}
    for run in runs_of(results, [method]).itertuples():
        if run.status != "finished":
            found[run.seed] = math.inf
        elif run.run in (curves := _curves(results)):
            found[run.seed] = crossing(curves[run.run]["step"], curves[run.run]["mean"], goal)
    return pd.Series(found, dtype=float)


def _goal(results: Results, method: str) -> float:
    """The median over seeds of the method's final validation loss (nats); NaN where it is not finite."""
    final = _final(results, method, "valid_mean")
    goal = float(median(final)) if len(final) else math.nan
    return goal if math.isfinite(goal) else math.nan


def steps_to(results: Results, method: str, to: str) -> Measured:
    """Steps to ``to``'s final loss; inf: never."""
    return _over(_steps(results, method, _goal(results, to)), why=f"{method} has no curve, or {to} no final loss")


def fewer_steps(results: Results, method: str, to: str, than: str = "") -> Measured:
    """Steps saved on the way to ``to``'s final loss, in percent: of its whole run, or of what ``than`` takes to get there."""
    goal = _goal(results, to)
    if math.isnan(goal):
        return Measured(why=f"{to} has no final loss")
    steps = _steps(results, method, goal)
    base = _steps(results, than, goal) if than else pd.Series(float(horizon(results)), steps.index)
    with np.errstate(invalid="ignore"):
        ratio = (steps / base).dropna()  # inf / inf: neither gets there, and nothing is saved or lost
    return _over(
        100 * (1 - ratio), why=f"no seed of {method} with a curve" + (f" that {than} has, too" if than else "")
    )


def lower_perplexity(results: Results, method: str, than: str) -> Measured:
    """How far the final validation perplexity lies below ``than``'s, in percent, seed by seed."""
    gaps = _differences(results, "valid_mean", method, than)
    if len(gaps) < MIN_SEEDS or not np.isfinite(gaps).all():
        return _over(_percent_below(gaps), why=f"no seed that {method} and {than} share")
    low, high = mean_interval(gaps)
    return Measured(*(float(_percent_below(gap)) for gap in (np.mean(gaps), high, low)), len(gaps))


def _percent_below(gap: ArrayLike) -> np.ndarray:
    return 100 * (1 - perplexity(gap))


def _differences(results: Results, column: str, method: str, than: str) -> np.ndarray:
    """One difference a shared seed in a column of ``finals``, ``method`` − ``than``."""
    own, other = (_final(results, name, column) for name in (method, than))
    with np.errstate(invalid="ignore"):
        return (own - other).dropna().to_numpy()


def perplexity_gap(results: Results, method: str, than: str) -> Measured:
    """``than``'s test perplexity less the method's, in points, seed by seed."""
    own, other = (_final(results, name, "test_mean").map(math.exp) for name in (method, than))
    with np.errstate(invalid="ignore"):
        return _over(other - own, why=f"no seed that {method} and {than} share")


def domains_won(results: Results, method: str, than: str) -> Measured:
    """The share of domains (percent) in which the method's test loss is below ``than``'s, seed by seed."""
    last = by_domain(results, "test").groupby("run").last()
    runs = runs_of(results, [method, than]).query("status == 'finished'").set_index("run")
    of = {name: rows.reset_index().set_index("seed")["run"] for name, rows in runs.groupby("method")}
    shares = []
    for seed, run in of.get(method, pd.Series(dtype=str)).items():
        other = of.get(than, pd.Series(dtype=str)).get(seed)
        if run in last.index and other in last.index:
            shares.append(100 * float((last.loc[run] < last.loc[other]).mean()))
    return _over(shares, why=f"no finished seed that {method} and {than} share")


def final_perplexity(results: Results, method: str) -> Measured:
    """The final validation perplexity, exp of the mean loss."""
    return _over(perplexity(_final(results, method, "valid_mean")), why=f"{method} has no final loss")


def step_time(results: Results, method: str) -> Measured:
    """Seconds a step, the probe's median over blocks, without an interval."""
    models = runs_of(results, [method])["model"]
    value = step_seconds(results).get((method, models.iloc[0]), math.nan) if len(models) else math.nan
    return Measured(
        value, value, value, 1, "probe", "" if math.isfinite(value) else f"the probe has not timed {method}"
    )


def speedup(results: Results, method: str, to: str, currency: str = "seconds") -> Measured:
    """What ``to``'s whole run costs over what the method spends to reach its final loss, every run it depends on charged in full.

    ``currency``: ``seconds`` (steps times probed step time) or ``flops``.
    """
    goal, known, seconds = _goal(results, to), results.runs.set_index("run"), step_seconds(results)

    def cost(run: pd.Series) -> float:
        if currency == "flops":
            return float(run["model_flops"] + run["method_flops"])
        return float(run["steps"] * seconds.get((run["method"], run["model"]), math.nan))

    steps, values = _steps(results, method, goal), []
    whole = median([cost(run) for _, run in runs_of(results, [to]).iterrows()])
    for _, run in runs_of(results, [method]).iterrows():
        part = steps.get(run["seed"], math.nan) / run["steps"]
        ancestors = [known.loc[name] if name in known.index else None for name in json.loads(run["ancestors"] or "[]")]
        upfront = sum(math.nan if one is None else cost(one) for one in ancestors)
        values.append(whole / (cost(run) * part + upfront))
    return _over(values, why=f"the probe has not timed {method}, {to} or a run they depend on")


def upfront_ratio(results: Results, method: str, to: str) -> Measured:
    """FLOPs of the runs that the method depends on, over those of ``to``, seed by seed."""
    known = results.runs.set_index("run")
    spent = (known["model_flops"] + known["method_flops"]).to_dict()

    def upfront(name: str) -> pd.Series:
        runs = runs_of(results, [name]).set_index("seed")["ancestors"]
        return runs.map(lambda names: sum(spent.get(one, math.nan) for one in json.loads(names or "[]"))).astype(float)

    own, other = upfront(method), upfront(to)
    return _over((own / other.where(other > 0)).dropna(), why=f"{method} or {to} depends on no other run")


def agent_size(results: Results, method: str, decimals: int = 6) -> Measured:
    """Millions of parameters of the method's agent: actor, critic and their copies, of the size of the actor that a run left.

    0 for a method without an actor. The critic has the actor's blocks, and reads the mixture beside the state. ``decimals``: as
    many as the figure has that it stands beside.
    """
    runs = runs_of(results, [method])["run"].tolist()
    shapes = results.actor(runs[0]) if runs else None
    if shapes is None:
        return Measured(why=f"the folder of {method}'s run is not beside these results")
    layers = [shape for name, shape in shapes.items() if name.startswith("actor.") and len(shape) == 2]
    if not layers:
        return Measured(0.0, 0.0, 0.0, 1, EXACT)
    # Of two dimensions are the Linear layers: the first reads the state, the last writes the mixture, wide blocks between.
    (state,), domains = shapes["state.mean"], min(shape[0] for shape in layers)
    found = agent_parameters(state, domains, max(shape[0] for shape in layers), len(layers) - 1)
    found = round(found / 1e6, decimals)
    return Measured(found, found, found, 1, EXACT)


def time_ratio(results: Results, method: str, to: str) -> Measured:
    """A step with the method over a step with ``to``: ratio of medians over the probe's blocks, each of which timed both."""
    rows = results.probe.query("arm == 'method' and part == 'step'")
    rows = rows[_on_their_model(results, rows, method, to)]
    blocks = rows.groupby(["block", "method"])["seconds"].median().unstack("method").reindex(columns=[method, to])
    pairs = blocks.dropna().to_numpy()
    if not len(pairs):
        return Measured(why=f"the probe has not timed {method} beside {to}")
    return Measured(*ratio_of_medians(*pairs.T), len(pairs), "blocks")


def memory_ratio(results: Results, method: str, to: str) -> Measured:
    """Peak memory with the method over that with ``to``, on the device, or the host where there is no device."""
    rows = results.memory.query("arm == 'method'")
    rows = rows[_on_their_model(results, rows, method, to)]
    kind = "device_bytes" if (rows["device_bytes"] > 0).all() else "host_bytes"
    peaks = rows.pivot_table(index="repeat", columns="method", values=kind).reindex(columns=[method, to]).dropna()
    return _over(peaks[method] / peaks[to], "repeats", why=f"the memory of {method} or {to} was not measured")


def _on_their_model(results: Results, rows: pd.DataFrame, *methods: str) -> pd.Series:
    """Which rows of the probe are of these methods on the models that they train."""
    models = runs_of(results, methods).groupby("method")["model"].first()
    return rows["method"].isin(methods) & (rows["model"] == rows["method"].map(models))


@lru_cache(maxsize=4)
def downstream(results: Results) -> pd.DataFrame:
    """The downstream scores (columns of SCORES); empty where nothing was evaluated. Shared: do not change it."""
    path = results.folder / "downstream.parquet"
    return read_parquet(path) if path.exists() else pd.DataFrame(columns=SCORES.names)


def scores(results: Results, method: str, task: str, shots: int, metric: str) -> pd.DataFrame:
    """One row a seed: the last checkpoint's ``score`` on the task as a whole, its ``standard_error`` and ``chance``.

    Where only subjects were scored, each weighs by its questions.
    """
    rows = downstream(results)
    rows = rows[(rows["task"] == task) & (rows["shots"] == shots) & (rows["metric"] == metric)]
    rows = rows.merge(runs_of(results, [method])[["run", "seed"]], on="run").dropna(subset="value")
    found = {}
    for seed, mine in rows.groupby("seed"):
        mine = mine[mine["step"] == mine["step"].max()]
        whole = mine[mine["subject"] == ""]
        mine = whole if len(whole) else mine
        weights = (mine["n"] / mine["n"].sum()).to_numpy(dtype=float)
        error = math.sqrt(float(((weights * mine["standard_error"]) ** 2).sum()))
        found[seed] = (float(weights @ mine["value"]), error, float(weights @ mine["chance"]))
    return pd.DataFrame.from_dict(found, orient="index", columns=["score", "standard_error", "chance"]).astype(float)


def _scored(values: pd.Series, errors: pd.Series, why: str) -> Measured:
    """The mean over seeds. All seeds answer the same questions, so the error over these does not shrink with the seeds."""
    if values.empty:
        return Measured(why=why)
    between = float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0
    half = 1.96 * math.sqrt(float((errors**2).mean()) + between)
    return Measured(float(values.mean()), float(values.mean() - half), float(values.mean() + half), len(values))


def accuracy(results: Results, method: str, task: str, shots: int, metric: str = "accuracy") -> Measured:
    """The task's score, in percent, with an interval over its questions and the seeds."""
    own = 100 * scores(results, method, task, shots, metric)
    return _scored(own["score"], own["standard_error"], f"{task} was not evaluated for {method}")


def accuracy_gain(
    results: Results, method: str, than: str, task: str, shots: int, metric: str = "accuracy"
) -> Measured:
    """The task's score less ``than``'s, in points, with an interval over its questions (as if independent) and the seeds."""
    own, other = (100 * scores(results, name, task, shots, metric) for name in (method, than))
    errors = np.hypot(own["standard_error"], other["standard_error"]).dropna()
    gain = (own["score"] - other["score"]).dropna()
    return _scored(gain, errors, f"{task} was not evaluated for {method} and {than}")


def score_ratio(results: Results, method: str, than: str, task: str, shots: int, metric: str = "accuracy") -> Measured:
    """The task's score over ``than``'s (ratio of means over seeds); the interval by the logarithm's standard error."""
    own, other = (scores(results, name, task, shots, metric) for name in (method, than))
    both = own.join(other.add_suffix("_other"), how="inner")
    if both.empty:
        return Measured(why=f"{task} was not evaluated for {method} and {than}")
    mean = both.mean()
    if mean["score"] <= 0 or mean["score_other"] <= 0:
        return Measured(why=f"{method} or {than} solved nothing in {task}: there is no ratio")
    logs = [_log_variance(both["score"], both["standard_error"])]
    logs.append(_log_variance(both["score_other"], both["standard_error_other"]))
    ratio, factor = mean["score"] / mean["score_other"], math.exp(1.96 * math.sqrt(sum(logs)))
    return Measured(float(ratio), float(ratio / factor), float(ratio * factor), len(both))


def _log_variance(values: pd.Series, errors: pd.Series) -> float:
    """The variance of the logarithm of the mean score, to first order."""
    between = float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0
    return (float((errors**2).mean()) + between) / float(values.mean()) ** 2


MEASURES: dict[str, Callable[..., Measured]] = {
    function.__name__: function
    for function in (
        fewer_steps,
        lower_perplexity,
        perplexity_gap,
        domains_won,
        speedup,
        upfront_ratio,
        agent_size,
        time_ratio,
        memory_ratio,
        accuracy,
        accuracy_gain,
        score_ratio,
    )
}
