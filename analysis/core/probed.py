"""What the probe measured of each method: step time and peak memory, as ratios to a plain step of the same model.

The ratio is median(step with the method) / median(plain step); its 95 % interval resamples whole blocks, so that a
drift of the machine, which both arms of a block share, cancels. Memory is the ratio of median peaks of processes of their own.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from acodm_analysis.core.frames import runs_of, title
from acodm_core.measure.ratio import ratio_of_medians
from acodm_core.results.reader import Results


def table(results: Results) -> pd.DataFrame:
    """One row per compared method, on the model it trains: step seconds, ratio with interval, memory ratios; NaN: not run."""
    models = runs_of(results).groupby("method")["model"].first()
    return pd.DataFrame([_row(results, method, models.get(method)) for method in results.compare])


def _row(results: Results, method: str, model: str | None) -> dict:
    row = {"method": method, "title": title(results, method), "model": model or ""}
    probe = results.probe
    rows = probe[(probe["method"] == method) & (probe["model"] == model) & (probe["part"] == "step")]
    arms = (
        rows.groupby(["block", "arm"])["seconds"].median().unstack("arm").reindex(columns=["method", "plain"]).dropna()
    )
    nothing = float("nan")
    row |= {"blocks": len(arms), "plain_seconds": nothing, "step_seconds": nothing}
    row |= dict.fromkeys(("time_ratio", "time_ratio_low", "time_ratio_high"), nothing)
    if len(arms):
        pairs = arms.to_numpy()
        row["step_seconds"], row["plain_seconds"] = np.median(pairs, axis=0)
        row["time_ratio"], row["time_ratio_low"], row["time_ratio_high"] = ratio_of_medians(*pairs.T)
    memory = results.memory[(results.memory["method"] == method) & (results.memory["model"] == model)]
    for kind in ("device", "host"):
        peaks = memory.groupby("arm")[f"{kind}_bytes"].median().reindex(["method", "plain"]).astype(float)
        # A CPU run has no device memory: 0 / 0 is not a ratio of one.
        row[f"{kind}_bytes"] = peaks["method"]
        row[f"{kind}_memory_ratio"] = peaks["method"] / peaks["plain"] if peaks["plain"] > 0 else nothing
    return row
