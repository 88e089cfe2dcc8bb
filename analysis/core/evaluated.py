"""What claims about downstream tasks are measured by: accuracies, their differences and ratios, with errors over the questions."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pandas as pd

from acodm_analysis.core.frames import runs_of
from acodm_analysis.core.measured import Measured
from acodm_core.results.reader import Results
from acodm_core.results.schemas import SCORES
from acodm_core.results.table_files import read_frame
from acodm_core.seals import was_written

CONTAMINATION = "contamination.json"  # beside the scores: which questions the training text holds


@lru_cache(maxsize=4)
def downstream(results: Results) -> pd.DataFrame:
    """The downstream scores (columns of SCORES); empty where nothing was evaluated. Shared: do not change it."""
    path = results.folder / "downstream.parquet"
    fix = "collect the scores again: acodm downstream collect"
    return read_frame(path, fix=fix) if was_written(path) else pd.DataFrame(columns=SCORES.names)


def scores(results: Results, method: str, task: str, shots: int, metric: str) -> pd.DataFrame:
    """One row per seed: the last checkpoint's ``score`` on the task as a whole, its ``standard_error`` and ``chance``.

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
