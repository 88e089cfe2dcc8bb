"""What runs cost: whole, alone up to a threshold, and all in, in steps, tokens, FLOPs, seconds and joules.

Alone: the target run up to the step where it reaches the threshold. All in: that, plus every run it depends on, each in
full and charged once. FLOPs count the model's passes and the method's own, evenly over the steps. Seconds are steps times
the probe's step time for that method and model, so a busy machine changes nothing. Joules are what the device's own meter
counted while the run trained.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache

import numpy as np
import pandas as pd

from acodm_analysis.core.frames import FIXED, crossings, matched_crossings, runs_of
from acodm_core.results.reader import Results

CURRENCIES = ("steps", "tokens", "flops", "seconds", "joules")


def step_seconds(results: Results) -> dict[tuple[str, str], float]:
    """(method, model) -> median seconds of a step with the method, from the probe."""
    probe = results.probe
    rows = probe[(probe["arm"] == "method") & (probe["part"] == "step")]
    return rows.groupby(["method", "model"])["seconds"].median().to_dict()


def phases(results: Results, *, further: bool = False) -> pd.DataFrame:
    """One row per (compared run, phase): the run itself and each run it depends on, once, in full. ``further``: see ``runs_of``.

    Columns: run, method, seed, phase (``target`` or the ancestor's method), model and CURRENCIES; NaN where a run, its probe or
    its meter is missing.
    """
    known, seconds = results.runs.set_index("run"), step_seconds(results)
    rows = []
    for run in runs_of(results, further=further).itertuples():
        for name in dict.fromkeys([run.run, *json.loads(run.ancestors or "[]")]):
            row = {"run": run.run, "method": run.method, "seed": run.seed, "phase": name, "model": ""}
            row |= dict.fromkeys(CURRENCIES, float("nan"))
            if name in known.index:
                one = known.loc[name]
                row |= {"phase": "target" if name == run.run else one["method"], "model": one["model"]}
                row |= {"steps": float(one["steps"]), "tokens": float(one["tokens"])}
                row["flops"] = float(one["model_flops"] + one["method_flops"])
                row["seconds"] = one["steps"] * seconds.get((one["method"], one["model"]), float("nan"))
                row["joules"] = float(one.get("joules", float("nan")))
            rows.append(row)
    return pd.DataFrame(rows, columns=["run", "method", "seed", "phase", "model", *CURRENCIES])


@lru_cache(maxsize=8)
def whole_runs(results: Results, *, further: bool = False) -> pd.DataFrame:
    """One row per compared run and, for each currency C, ``C_run`` (the whole run) and ``C_upfront`` (its ancestors, in full).

    ``further``: see ``runs_of``. Shared: do not change it.
    """
    table = phases(results, further=further)
    frame = runs_of(results, further=further)[["run", "method", "seed"]].set_index("run")
    own = table[table["phase"] == "target"].set_index("run")
    # A sum that holds an unknown phase is unknown, not smaller.
    upfront = table[table["phase"] != "target"].groupby("run")[list(CURRENCIES)].agg(lambda c: c.sum(skipna=False))
    for name in CURRENCIES:
        frame[f"{name}_run"] = own[name].reindex(frame.index)
        frame[f"{name}_upfront"] = upfront[name].reindex(frame.index).where(frame.index.isin(upfront.index), 0.0)
    return frame.reset_index()


def per_run(results: Results, threshold: str = "natural", rule: str = FIXED) -> pd.DataFrame:
    """One row per compared run: ``steps`` to ``threshold`` under the horizon ``rule``, the columns of ``whole_runs`` and, for each
    currency C, ``C_alone`` and ``C_all_in`` (to the threshold; ``inf`` when it is never reached)."""
    found = crossings(results) if rule == FIXED else matched_crossings(results)
    frame = whole_runs(results).copy()
    frame.insert(3, "steps", frame["run"].map(found[found["threshold"] == threshold].set_index("run")["steps"]))
    part = frame["steps"] / frame["steps_run"]
    for name in CURRENCIES:
        frame[f"{name}_alone"] = frame[f"{name}_run"] * part
        frame[f"{name}_all_in"] = frame[f"{name}_alone"] + frame[f"{name}_upfront"]
    return frame


def reference(runs: pd.DataFrame, method: str, currency: str) -> tuple[float, bool]:
    """What ``method`` spends to the threshold, as speed-ups are counted against it (median over seeds), and whether that is
    a lower bound.

    It is one where the median seed gets there with its last step at the earliest: then the whole run stands for it, and every
    speed-up over it is at least what is printed.
    """
    mine = runs[runs["method"] == method]
    if mine.empty:
        return float("nan"), False
    value, whole = (float(np.median(mine[f"{currency}_{way}"])) for way in ("alone", "run"))
    bound = bool(censored(value, whole))
    return whole if bound else value, bound


def censored(cost: np.ndarray | float, whole: np.ndarray | float) -> np.ndarray | bool:
    """Whether a cost to the threshold is not below that of the ``whole`` run: the run got there with its last step, or never."""
    return np.asarray(cost) >= np.asarray(whole) * (1 - 1e-9)


def break_even(upfront: float, saved: float) -> float:
    """Target runs after which a phase that cost ``upfront`` has paid for itself at ``saved`` a run; ``inf``: never."""
    if math.isnan(upfront) or math.isnan(saved):
        return float("nan")
    if upfront == 0:
        return 0.0
    return float(math.ceil(upfront / saved)) if saved > 0 else float("inf")
