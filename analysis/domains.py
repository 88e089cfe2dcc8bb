"""Who gains and who pays: every domain's test perplexity, and its loss against uniform's seed by seed.

The table holds perplexities exp(loss), medians over seeds. The figure holds paired differences in nats a token, where
1 % of perplexity is about 0.01: a method that is better in the mean may be worse for a domain.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from acodm_core.study.results import Results

from . import style
from .frames import baseline, by_domain, mean_kind, mean_name, runs_of, title, weighting
from .statistics import median, perplexity, weighted
from .tables import number, program, write_csv, write_table


def reference(results: Results) -> str:
    """Uniform where it was compared, else the baseline."""
    return "uniform" if "uniform" in results.compare else baseline(results)


def seeds(results: Results) -> pd.DataFrame:
    """One row a (method, seed, domain): final test ``loss`` (nats; inf: the run failed), with their mean as one more domain."""
    runs = runs_of(results).set_index("run")
    wide = by_domain(results, "test").groupby("run").last().reindex(runs.index)
    wide[mean_name(results)] = weighted(wide[results.domains], list(results.target_weights.values()))
    wide[runs["status"] != "finished"] = np.inf
    tidy = wide.rename_axis(columns="domain").stack().rename("loss").reset_index()
    return tidy.assign(method=tidy["run"].map(runs["method"]), seed=tidy["run"].map(runs["seed"])).drop(columns="run")


def table(results: Results) -> pd.DataFrame:
    """One row a (method, domain), medians over seeds: ``loss``, ``perplexity`` and the paired ``difference`` to the reference.

    ``low`` and ``high`` are the smallest and largest difference. NaN: not run; inf: failed.
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
    index = pd.MultiIndex.from_product(
        [results.compare, [*results.domains, mean_name(results)]], names=["method", "domain"]
    )
    frame = frame.reindex(index).reset_index()
    frame["natural"] = frame["domain"].map(results.natural_weights)
    frame.insert(1, "title", [title(results, method) for method in frame["method"]])
    return frame


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells: one row a domain, one column a method; the mean's is exp(mean loss)."""
    domains = frame["domain"].unique().tolist()
    natural = frame.drop_duplicates("domain").set_index("domain")["natural"]
    cells = {"Domain": domains}
    cells["Natural share (%)"] = ["" if pd.isna(natural[d]) else number(100 * natural[d], 1) for d in domains]
    for method in frame["method"].unique():
        mine = frame[frame["method"] == method].set_index("domain")
        cells[mine["title"].iloc[0]] = [number(mine.loc[d, "perplexity"], 2) for d in domains]
    return pd.DataFrame(cells)


def draw(frame: pd.DataFrame, base: str) -> Figure:
    """One row a domain, the largest natural share on top, the mean last; a dot a method, a line over its seeds."""
    if not np.isfinite(frame["difference"]).any():
        return style.said("No test losses: not run.")
    style.use()
    shares = frame.drop_duplicates("domain").set_index("domain")["natural"]
    domains = shares.sort_values(ascending=False, kind="stable", na_position="last").index.tolist()
    methods = frame["method"].unique().tolist()
    colours, shapes = style.colours(methods), style.markers(methods)
    dots = [method for method in methods if method != base]
    figure, ax = plt.subplots(figsize=(style.WIDTH, 0.9 + 0.36 * len(domains)))
    offsets = np.linspace(-0.28, 0.28, len(dots)) if len(dots) > 1 else [0.0]
    titles = frame.drop_duplicates("method").set_index("method")["title"]
    handles = []
    for method, offset in zip(dots, offsets, strict=True):
        rows = frame[frame["method"] == method].set_index("domain").loc[domains]
        colour, y = colours[method], np.arange(len(domains)) + offset
        name, failed = titles[method], np.isinf(rows["difference"]).any()
        handles.append(plt.Line2D([], [], ls="", marker=shapes[method], color=colour, ms=4.5))
        handles[-1].set_label(
            f"{name} (failed)" if failed else name if rows["difference"].notna().any() else f"{name} (not run)"
        )
        for place, row in zip(y, rows.itertuples(), strict=True):
            if not np.isfinite(row.difference):
                continue
            span = ax.plot(
                [row.low, min(row.high, 1e3) if np.isfinite(row.high) else row.difference], [place] * 2, color=colour
            )
            span[0].set(lw=1.1, alpha=0.45)
            dot = ax.plot(row.difference, place, shapes[method], color=colour, ms=4.2)
            tip = f"{name}, {row.Index}: {row.difference:+.4f} nats, perplexity {row.perplexity:.2f}"
            style.tag([*span, *dot], method, tip)
    for i in range(0, len(domains), 2):
        ax.axhspan(i - 0.5, i + 0.5, color="#f6f6f6", lw=0, zorder=0)
    ax.axhline(len(domains) - 1.5, color=style.FAINT, lw=0.7)
    ax.axvline(0, color=style.INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
    names = [d if pd.isna(shares[d]) else f"{d}  {100 * shares[d]:.1f} %" for d in domains]
    ax.set_yticks(range(len(domains)), names)
    ax.set_ylim(len(domains) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(f"Test loss − {titles[base]}'s (nats a token; left is better)")
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=5, handletextpad=0.2, columnspacing=1.2)
    return figure


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
