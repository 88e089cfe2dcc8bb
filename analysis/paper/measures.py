"""What claims are measured by: named pure functions of the tidy results, each on methods that the results hold.

A measurement is a value with its interval and the number of seeds (or blocks, or repeats) behind it, or the reason why there is
none. Seeds are paired wherever two methods meet. A failed run, and one that never reaches its threshold, counts as infinitely bad.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from acodm_analysis.core.costs import step_seconds
from acodm_analysis.core.evaluated import accuracy, accuracy_gain, score_ratio
from acodm_analysis.core.frames import by_domain, finals, horizon, losses, runs_of
from acodm_analysis.core.measured import EXACT, Measured, over
from acodm_analysis.core.seed_statistics import crossing, enough, mean_interval, median, perplexity, speedups
from acodm_analysis.paper.arithmetic import agent_parameters
from acodm_core.measure.ratio import ratio_of_medians
from acodm_core.results.reader import Results

# What "perplexity" means. The papers average the perplexities of the domains, unweighted; beside that stands exp of the mean loss
# that is the objective loss here. Both are held in nats: the logarithm of that average, or the mean loss itself.
PERPLEXITIES, LOSS = "perplexities", "loss"
_COLUMNS = {PERPLEXITIES: "mean_of_perplexities", LOSS: "mean"}


def _nats(values: pd.Series, mean: str) -> pd.Series:
    return np.log(values) if mean == PERPLEXITIES else values


@lru_cache(maxsize=4)
def _finals(results: Results) -> pd.DataFrame:
    """``finals`` of every method that has runs, compared or not. Shared: do not change it."""
    return finals(results, tuple(results.runs["method"].unique()))


@lru_cache(maxsize=4)
def _curves(results: Results) -> dict[str, pd.DataFrame]:
    """Run -> its validation curve (``step`` and the columns of the metrics), of every method that has runs.

    Shared: do not change them.
    """
    curves = losses(results, "valid", tuple(results.runs["method"].unique()))
    return {run: curve[["step", *_COLUMNS.values()]] for run, curve in curves.groupby("run")}


def _final(results: Results, method: str, split: str, mean: str) -> pd.Series:
    """Seed -> the method's final value on a split (nats); inf: a failed run."""
    rows = _finals(results)
    return _nats(rows[rows["method"] == method].set_index("seed")[f"{split}_{_COLUMNS[mean]}"], mean)


def _steps(results: Results, method: str, threshold: float, mean: str) -> pd.Series:
    """Seed -> the step at which the method reaches ``threshold`` (nats, validation); inf: never, or a failed run."""
    found = {}
    for run in runs_of(results, [method]).itertuples():
        if run.status != "finished":
            found[run.seed] = math.inf
        elif (curve := _curves(results).get(run.run)) is not None:
            found[run.seed] = crossing(curve["step"], _nats(curve[_COLUMNS[mean]], mean), threshold)
    return pd.Series(found, dtype=float)


def _threshold(results: Results, method: str, mean: str) -> float:
    """The median over seeds of the method's final validation value (nats); NaN where it is not finite."""
    final = _final(results, method, "valid", mean)
    threshold = float(median(final)) if len(final) else math.nan
    return threshold if math.isfinite(threshold) else math.nan


def steps_to(results: Results, method: str, to: str, mean: str = PERPLEXITIES) -> Measured:
    """Steps to ``to``'s final perplexity; inf: never."""
    threshold = _threshold(results, to, mean)
    return over(_steps(results, method, threshold, mean), why=f"{method} has no curve, or {to} no final loss")


def fewer_steps(results: Results, method: str, to: str, than: str = "", mean: str = PERPLEXITIES) -> Measured:
    """Steps saved on the way to ``to``'s final perplexity, in percent (-inf: it never gets there): of its whole run, or of what
    ``than`` takes to get there. Where that never does its whole run stands for it, and the saving is a lower bound."""
    threshold = _threshold(results, to, mean)
    if math.isnan(threshold):
        return Measured(why=f"{to} has no final loss")
    steps, whole = _steps(results, method, threshold, mean), float(horizon(results))
    base = _steps(results, than, threshold, mean) if than else pd.Series(whole, steps.index)
    both = pd.DataFrame({"own": steps, "base": base}).dropna()
    both = both[np.isfinite(both).any(axis=1)]  # where neither gets there nothing is saved or lost
    saved = 100 * (1 - both["own"] / both["base"].clip(upper=whole))
    why = f"no seed of {method} with a curve" + (f" that {than} has, too" if than else "")
    return over(saved, why=why, bound=bool(np.isinf(both["base"]).any()))


def lower_perplexity(results: Results, method: str, than: str, mean: str = PERPLEXITIES) -> Measured:
    """How far the final validation perplexity lies below ``than``'s, in percent, seed by seed (-inf: a failed run)."""
    own, other = (_final(results, name, "valid", mean) for name in (method, than))
    with np.errstate(invalid="ignore"):
        gaps = (own - other).dropna().to_numpy()
    if not enough(len(gaps)) or not np.isfinite(gaps).all():
        return over(_percent_below(gaps), why=f"no seed that {method} and {than} share")
    low, high = mean_interval(gaps)
    return Measured(*(float(_percent_below(gap)) for gap in (np.mean(gaps), high, low)), len(gaps))


def _percent_below(gap: ArrayLike) -> np.ndarray:
    return 100 * (1 - perplexity(gap))


def perplexity_gap(results: Results, method: str, than: str, mean: str = PERPLEXITIES) -> Measured:
    """``than``'s test perplexity less the method's, in points, seed by seed."""
    own, other = (perplexity(_final(results, name, "test", mean)) for name in (method, than))
    with np.errstate(invalid="ignore"):
        return over(other - own, why=f"no seed that {method} and {than} share")


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
    return over(shares, why=f"no finished seed that {method} and {than} share")


def final_perplexity(results: Results, method: str, split: str = "valid", mean: str = PERPLEXITIES) -> Measured:
    """The final perplexity on a split."""
    return over(perplexity(_final(results, method, split, mean)), why=f"{method} has no final loss")


def step_time(results: Results, method: str) -> Measured:
    """Seconds a step, the probe's median over blocks, without an interval."""
    models = runs_of(results, [method])["model"]
    value = step_seconds(results).get((method, models.iloc[0]), math.nan) if len(models) else math.nan
    return Measured(
        value, value, value, 1, "probe", "" if math.isfinite(value) else f"the probe has not timed {method}"
    )


def speedup(results: Results, method: str, to: str, currency: str = "seconds", mean: str = PERPLEXITIES) -> Measured:
    """What ``to``'s whole run costs over what the method spends to reach its final perplexity, every run it depends on charged in
    full; -inf: it never gets there.

    ``currency``: ``seconds`` (steps times probed step time) or ``flops``.
    """
    threshold, known, seconds = _threshold(results, to, mean), results.runs.set_index("run"), step_seconds(results)

    def cost(run: pd.Series) -> float:
        if currency == "flops":
            return float(run["model_flops"] + run["method_flops"])
        return float(run["steps"] * seconds.get((run["method"], run["model"]), math.nan))

    steps, spent = _steps(results, method, threshold, mean), []
    whole = median([cost(run) for _, run in runs_of(results, [to]).iterrows()])
    for _, run in runs_of(results, [method]).iterrows():
        part = steps.get(run["seed"], math.nan) / run["steps"]
        ancestors = [known.loc[name] if name in known.index else None for name in json.loads(run["ancestors"] or "[]")]
        upfront = sum(math.nan if one is None else cost(one) for one in ancestors)
        spent.append(cost(run) * part + upfront)
    return over(speedups(whole, spent), why=f"the probe has not timed {method}, {to} or a run they depend on")


def upfront_ratio(results: Results, method: str, to: str) -> Measured:
    """FLOPs of the runs that the method depends on, over those of ``to``, seed by seed."""
    known = results.runs.set_index("run")
    spent = (known["model_flops"] + known["method_flops"]).to_dict()

    def upfront(name: str) -> pd.Series:
        runs = runs_of(results, [name]).set_index("seed")["ancestors"]
        return runs.map(lambda names: sum(spent.get(one, math.nan) for one in json.loads(names or "[]"))).astype(float)

    own, other = upfront(method), upfront(to)
    return over((own / other.where(other > 0)).dropna(), why=f"{method} or {to} depends on no other run")


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
    return over(peaks[method] / peaks[to], "repeats", why=f"the memory of {method} or {to} was not measured")


def _on_their_model(results: Results, rows: pd.DataFrame, *methods: str) -> pd.Series:
    """Which rows of the probe are of these methods on the models that they train."""
    models = runs_of(results, methods).groupby("method")["model"].first()
    return rows["method"].isin(methods) & (rows["model"] == rows["method"].map(models))


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


def scale(results: Results, method: str) -> dict[str, object]:
    """What the claim was measured at: model, parameters, tokens, corpus and hardware of the method's runs."""
    one = runs_of(results, [method]).iloc[0]
    corpus = results.experiment.get("corpus", {}).get("name", one["corpus"])
    return {
        "model": one["model"], "parameters": float(one["parameters"]), "tokens": int(one["tokens"]), "corpus": corpus,
        "hardware": one["hardware"], "precision": one["precision"],
    }  # fmt: skip


def mean_perplexities(results: Results, method: str) -> pd.Series:
    """Step -> the mean over domains of their validation perplexities, median over seeds; a failed seed is the worst throughout."""
    found = losses(results, "valid", [method])
    wide = found.pivot(index="step", columns="run", values="mean_of_perplexities")
    wide[found.loc[found["status"] != "finished", "run"].unique().tolist()] = np.inf
    medians = pd.Series(median(wide), wide.index)
    return medians[np.isfinite(medians)]
