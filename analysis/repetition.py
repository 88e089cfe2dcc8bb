"""How often a method repeated its data: per domain the tokens it asked for and drew, and the epochs that makes.

Beside it how far the drawn mixture was from the requested one: half the sum of absolute differences of the shares, over
the whole run and as the mean over single steps (a small batch cannot follow a mixture step by step).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from acodm_core.study.results import Results

from .frames import runs_of, title
from .tables import NOT_RUN, number, program, write_table

EPOCHS_FLAG = 4  # protocol, section 8: above this repetition costs quality


def table(results: Results) -> pd.DataFrame:
    """One row a (method, domain), medians over seeds: tokens asked and drawn, epochs, flag; the two distances a method."""
    runs = runs_of(results).set_index("run")
    mixture = results.mixture[results.mixture["run"].isin(runs.index)]
    a_step = (runs["tokens"] / runs["steps"].where(runs["steps"] > 0)).rename("a_step")
    sums = mixture.groupby(["run", "domain"])[["requested", "drawn"]].sum().reset_index().join(a_step, on="run")
    sums["asked_tokens"], sums["drawn_tokens"] = sums["requested"] * sums["a_step"], sums["drawn"] * sums["a_step"]
    steps = mixture.groupby("run")["step"].nunique()
    gap = mixture.assign(gap=(mixture["requested"] - mixture["drawn"]).abs() / 2)
    per_step = gap.groupby("run")["gap"].sum() / steps
    overall = sums.assign(gap=(sums["requested"] - sums["drawn"]).abs() / 2).groupby("run")["gap"].sum() / steps
    sums["method"] = sums["run"].map(runs["method"])
    frame = sums.groupby(["method", "domain"])[["asked_tokens", "drawn_tokens"]].median()
    index = pd.MultiIndex.from_product([results.compare, results.domains], names=["method", "domain"])
    frame = frame.reindex(index).reset_index()
    train = dict(zip(results.domains, results.experiment["corpus"]["train_tokens"], strict=True))
    frame["train_tokens"] = frame["domain"].map(train)
    frame["epochs"] = frame["drawn_tokens"] / frame["train_tokens"]
    frame["flag"] = frame["epochs"] > EPOCHS_FLAG
    for name, values in (("distance_step", per_step), ("distance_run", overall)):
        frame[name] = frame["method"].map(values.groupby(runs["method"].reindex(values.index)).median())
    frame.insert(1, "title", [title(results, method) for method in frame["method"]])
    return frame


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells: epochs, one row a domain and one column a method ("!" above four), then the distances."""
    methods = frame["method"].unique()
    domains = frame["domain"].unique().tolist()
    train = frame.drop_duplicates("domain").set_index("domain")["train_tokens"]
    ways = ["drawn − requested, a step", "drawn − requested, whole run"]
    cells = {"Domain": domains + ways, "Training tokens": [number(train[d], 0) for d in domains] + ["", ""]}
    for method in methods:
        mine = frame[frame["method"] == method].set_index("domain")
        column = [number(mine.loc[d, "epochs"], 2) + " !" * bool(mine.loc[d, "flag"]) for d in domains]
        ends = [mine["distance_step"].iloc[0], mine["distance_run"].iloc[0]]
        column += [NOT_RUN if pd.isna(value) else f"{number(100 * value, 2)} %" for value in ends]
        cells[mine["title"].iloc[0]] = column
    return pd.DataFrame(cells)


def render(results: Results, out: Path) -> None:
    frame = table(results)
    caption = (
        f"Epochs of each domain (tokens drawn over training tokens), medians over seeds; ! above {EPOCHS_FLAG}. Last rows:"
        " half the absolute difference between drawn and requested shares, as the mean over steps and over the whole run."
    )
    write_table(frame, shown(frame), "repetition", out, caption)


if __name__ == "__main__":
    program("repetition", __doc__, render)
