"""Runs with the same seed, compared: differences of the final test loss and the verdict on their mean.

Runs with the same seed share their initialisation and their documents, so each seed gives one difference. The interval and the
verdict are the paired t-test's, the verdict corrected by Holm over the methods; with fewer than five seeds there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from acodm_analysis.core.frames import baseline, finals, held_against, title
from acodm_analysis.core.seed_statistics import (
    NO_VERDICT,
    difference_interval,
    enough,
    holm,
    improvement,
    interquartile_mean,
    paired_p,
)
from acodm_analysis.core.tables import NOT_RUN
from acodm_core.results.reader import Results

LOWER, HIGHER, SAME, FAILED = "lower loss", "higher loss", "not distinguishable", "failed runs"


def differences(results: Results, base: str = "", methods: Sequence[str] | None = None) -> pd.DataFrame:
    """One row per (method, seed) that ``base`` also has: ``difference`` = method − base in test loss (nats); inf: a run failed.

    ``base`` is the experiment's baseline and ``methods`` the compared ones unless they are given.
    """
    base, methods = base or baseline(results), results.compare if methods is None else methods
    final = finals(results, [*dict.fromkeys([*methods, base])]).rename(columns={"test_mean": "value"})
    own = final[final["method"] == base].set_index("seed")["value"]
    others = final[(final["method"] != base) & final["seed"].isin(own.index)]
    values = others["value"].to_numpy()
    to = own.reindex(others["seed"]).to_numpy()
    with np.errstate(invalid="ignore"):
        gap = np.where(np.isinf(values), np.inf, values - to)
    return others[["method", "seed"]].assign(value=values, baseline=to, difference=gap).reset_index(drop=True)


def table(results: Results, base: str = "", methods: Sequence[str] | None = None) -> pd.DataFrame:
    """One row per method but the base (see ``differences``): n pairs, mean difference with interval, p, Holm's p, verdict."""
    pairs = differences(results, base, methods)
    rows = []
    for method in results.compare if methods is None else methods:
        if method == (base or baseline(results)):
            continue
        mine = pairs[(pairs["method"] == method) & pairs["difference"].notna()]
        gaps = mine["difference"].to_numpy()
        row = {"method": method, "title": title(results, method), "n": len(gaps)}
        row |= dict.fromkeys(("difference", "difference_low", "difference_high", "iqm", "improvement"), float("nan"))
        if len(gaps):
            row["difference"], row["iqm"] = float(np.mean(gaps)), interquartile_mean(gaps)
            row["difference_low"], row["difference_high"] = difference_interval(gaps)
            row["improvement"] = improvement(mine["value"], mine["baseline"])
        row["p"] = paired_p(gaps)
        rows.append(row)
    frame = pd.DataFrame(rows, columns=_COLUMNS[:-2])
    frame["holm"] = holm(frame["p"])
    frame["verdict"] = [_verdict(row) for row in frame.itertuples()]
    return frame


_COLUMNS = ["method", "title", "n", "difference", "difference_low", "difference_high", "iqm", "improvement", "p"]
_COLUMNS += ["holm", "verdict"]


def _verdict(row) -> str:
    if not row.n:
        return NOT_RUN
    if math.isinf(row.difference):
        return FAILED
    if not enough(row.n):
        return f"n = {row.n}: {NO_VERDICT}"
    if not row.holm < 0.05:
        return SAME
    return LOWER if row.difference < 0 else HIGHER


def tables(results: Results) -> pd.DataFrame:
    """``table`` against each of ``held_against``, one below the other; ``against`` is the method that it is against."""
    frames = [table(results, base).assign(against=base) for base in held_against(results)]
    frame = pd.concat(frames, ignore_index=True)
    frame.insert(2, "against", frame.pop("against"))
    return frame


def p_cell(value: float) -> str:
    """A p value to three decimals; "none" where it is unknown."""
    return "none" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"
