"""Who gains and who pays: every domain's test perplexity, and its loss against uniform's seed by seed.

The table holds perplexities exp(loss), medians over seeds. The figure holds paired differences in nats per token, where
1 % of perplexity is about 0.01: a method that is better in the mean may be worse for a domain. Blue is better, bold means
that every seed agrees on the sign, where there are seeds enough.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from acodm_analysis.core import panels, style
from acodm_analysis.core.frames import baseline, by_domain, mean_kind, mean_name, runs_of, title, weighting
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.seed_statistics import enough, median, perplexity, weighted
from acodm_analysis.core.tables import number, program, write_csv, write_table
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Quality by domain",
    heading="Every domain",
    figure="domains",
    tables=("domains_perplexity",),
    data=("domains",),
    caption=(
        "Final test loss of each domain against the reference, seed by seed: the median difference, blue where it"
        " is lower, bold where every seed agrees on the sign. Percentages are natural weights."
    ),
)


def reference(results: Results) -> str:
    """Uniform where it was compared, else the baseline."""
    return "uniform" if "uniform" in results.compare else baseline(results)


def seeds(results: Results) -> pd.DataFrame:
    """One row per (method, seed, domain): final test ``loss`` (nats; inf: the run failed), with their mean as one more domain."""
    runs = runs_of(results).set_index("run")
    wide = by_domain(results, "test").groupby("run").last().reindex(runs.index)
    wide[mean_name(results)] = weighted(wide[results.domains], list(results.objective_weights.values()))
    wide[runs["status"] != "finished"] = np.inf
    tidy = wide.rename_axis(columns="domain").stack().rename("loss").reset_index()
    return tidy.assign(method=tidy["run"].map(runs["method"]), seed=tidy["run"].map(runs["seed"])).drop(columns="run")


def table(results: Results) -> pd.DataFrame:
    """One row per (method, domain), medians over seeds: ``loss``, ``perplexity`` and the paired ``difference`` to the reference.

    ``low`` and ``high`` are the smallest and largest of ``n`` differences. NaN: not run; inf: failed.
    """
    rows = seeds(results)
    base = rows[rows["method"] == reference(results)].set_index(["seed", "domain"])["loss"]
    other = base.reindex(pd.MultiIndex.from_frame(rows[["seed", "domain"]])).to_numpy()
    loss = rows["loss"].to_numpy()
    with np.errstate(invalid="ignore"):
        rows["difference"] = np.where(np.isinf(loss), np.inf, loss - other)
    groups = rows.groupby(["method", "domain"])
    frame = groups["loss"].agg(lambda s: float(median(s))).to_frame()
    frame["perplexity"] = perplexity(frame["loss"])
    frame["difference"] = groups["difference"].agg(lambda s: float(median(s)))
    frame["low"], frame["high"] = groups["difference"].min(), groups["difference"].max()
    frame["n"] = groups["difference"].count()
    index = pd.MultiIndex.from_product(
        [results.compare, [*results.domains, mean_name(results)]], names=["method", "domain"]
    )
    frame = frame.reindex(index).reset_index()
    frame["natural"] = frame["domain"].map(results.natural_weights)
    frame.insert(1, "title", [title(results, method) for method in frame["method"]])
    return frame


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells: one row per domain, one column per method; the mean's is exp(mean loss)."""
    domains = frame["domain"].unique().tolist()
    natural = frame.drop_duplicates("domain").set_index("domain")["natural"]
    cells = {"Domain": domains}
    cells["Natural share (%)"] = ["" if pd.isna(natural[d]) else number(100 * natural[d], 1) for d in domains]
    for method in frame["method"].unique():
        mine = frame[frame["method"] == method].set_index("domain")
        cells[mine["title"].iloc[0]] = [number(mine.loc[d, "perplexity"], 2) for d in domains]
    return pd.DataFrame(cells)


def draw(frame: pd.DataFrame, base: str) -> Figure:
    """One row per method, one column per domain, the largest natural share first and the mean last; a cell a difference."""
    if not np.isfinite(frame["difference"]).any():
        return style.said("No test losses: not run.")
    shares = frame.drop_duplicates("domain").set_index("domain")["natural"]
    domains = shares.sort_values(ascending=False, kind="stable", na_position="last").index.tolist()
    titles = frame.drop_duplicates("method").set_index("method")["title"]
    rows = {method: title for method, title in titles.items() if method != base}
    names = {d: d if pd.isna(shares[d]) else f"{d}, {100 * shares[d]:.1f} %" for d in domains}
    cells = frame[frame["method"].isin(rows)]
    # A few domains that a method gave up would turn all others white: colours are full from the ninth tenth on.
    sizes = cells["difference"].abs()
    full = float(sizes[np.isfinite(sizes)].quantile(0.9)) or 1.0
    cells = cells.assign(
        column=cells["domain"].map(names),
        colour=[_colour(value, full) for value in cells["difference"]],
        text=[_text(value) for value in cells["difference"]],
        bold=cells["n"].map(enough) & ((cells["low"] > 0) | (cells["high"] < 0)),
        tip=[_tip(row) for row in cells.itertuples()],
    )
    style.use()
    figure, ax = plt.subplots(figsize=(style.WIDTH, 0.9 + 0.22 * len(rows)))
    panels.heat(ax, cells, rows, list(names.values()))
    ax.axvline(len(domains) - 1.5, color=style.FAINT, lw=0.9)
    bold = "; bold: on every seed" if cells["n"].map(enough).any() else ""
    ax.set_xlabel(f"Test loss − {titles[base]}'s, nats per token: blue is lower{bold}")
    return figure


def _colour(value: float, full: float) -> tuple[float, ...]:
    """Blue below, white at and red above zero, full at ``full``; grey where there is no difference to show."""
    if not np.isfinite(value):
        return to_rgba("#e8e8e8")
    return plt.get_cmap("RdBu_r")(0.5 + 0.42 * float(np.clip(value / full, -1, 1)))


def _text(value: float) -> str:
    """A difference that fits its cell: three decimals, two from 1 on, and no sign before a zero."""
    if not np.isfinite(value):
        return number(value)
    return number(value, 3 if abs(value) < 0.9995 else 2, signed=True) if abs(value) >= 0.0005 else "0"


def _tip(row) -> str:
    if not np.isfinite(row.difference):
        return f"{row.title}, {row.domain}: {number(row.difference)}"
    ends = " to ".join(number(value, 4, signed=True) for value in (row.low, row.high))
    return (
        f"{row.title}, {row.domain}: {number(row.difference, 4, signed=True)} ({ends}), perplexity {row.perplexity:.2f}"
    )


def render(results: Results, out: Path) -> None:
    frame = table(results)
    caption = (
        "Test perplexity exp(loss) of each domain, medians over seeds; the last row is exp of the"
        f" {mean_kind(results)} mean loss. Natural share: the domain's part of the training tokens. Figure: against"
        f" {title(results, reference(results))}.{weighting(results)}"
    )
    write_table(frame, shown(frame), "domains_perplexity", out, caption)
    write_csv(frame, out / "domains.csv")
    style.save(draw(frame, reference(results)), "domains", out)


if __name__ == "__main__":
    program("domains", __doc__, render)
