"""Test perplexity by domain: the paper's published means over the Pile, and this benchmark's domains; never in one axes."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from acodm_analysis.core import style
from acodm_analysis.core.frames import by_domain, finals, mean_name, strongest_cheap, title
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.seed_statistics import median, perplexity
from acodm_analysis.core.tables import NOT_RUN, program, write_csv
from acodm_analysis.paper.published import published
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="The paper",
    place=30,
    heading="Test perplexity by domain, published and here",
    figure="paper_domains_figure",
    data=("paper_domains_figure",),
    caption=(
        "Test perplexity: published means over the Pile's domains, and our domains. The two scales cannot be compared."
    ),
)

MEAN = "mean over domains"


def table(results: Results) -> pd.DataFrame:
    """One row per (method that stands for a row of the paper, domain or the mean): median test ``perplexity``; NaN: not run."""
    table = published().tables["domains"]
    names = [name for name in next(iter(table.rows.values())) if name != "others"]
    methods = [method for name in names for method in published().stand_ins(results, name)]
    methods += [method for method in [strongest_cheap(results)] if method]
    last = by_domain(results, "test").groupby("run").last()
    rows = []
    for method in dict.fromkeys(methods):
        runs = finals(results, [method])
        mine = last.reindex(runs["run"])
        mine[(runs["status"] != "finished").to_numpy()] = np.inf
        values = {domain: perplexity(losses) for domain, losses in mine.items()}
        values |= {
            MEAN: runs["test_mean_of_perplexities"],
            f"exp of the {mean_name(results)}": perplexity(runs["test_mean"]),
        }
        for domain, seeds in values.items():
            value = float(median(seeds)) if len(runs) else math.nan
            rows.append({"method": method, "title": title(results, method), "domain": domain, "perplexity": value})
    return pd.DataFrame(rows, columns=["method", "title", "domain", "perplexity"])


def draw(frame: pd.DataFrame) -> Figure:
    """Left: the published means over the Pile's domains; right: our domains, a dot a method."""
    style.use()
    known, table = published(), published().tables["domains"]
    name, means = next(iter(table.rows.items()))
    domains = frame["domain"].unique().tolist()
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(style.WIDTH, 1.0 + 0.27 * max(len(domains), 6)), width_ratios=[1, 1.7]
    )
    figure.subplots_adjust(wspace=0.65)
    colours = style.colours([*means, *(method for method in frame["method"].unique() if method not in means)])
    for y, (method, value) in enumerate(means.items()):
        bar = left.barh(y, float(value), height=0.55, color=colours[method], alpha=0.7)
        left.text(float(value) + 0.15, y, value, va="center", fontsize=7, color=style.INK)
        style.tag(list(bar), method, f"{known.row(method)}: {value}")
    left.set_yticks(range(len(means)), [known.row(method) for method in means])
    left.set_ylim(len(means) - 0.5, -0.5)
    left.set_xlim(0, 1.15 * max(float(value) for value in means.values()))
    left.set_title(f"Published: {name}")
    if not np.isfinite(frame["perplexity"]).any():
        style.plain(right, f"Here: {NOT_RUN}")
        return figure
    shapes = style.markers(frame["method"].unique())
    offsets = dict(zip(shapes, np.linspace(-0.25, 0.25, len(shapes)) if len(shapes) > 1 else [0.0], strict=True))
    for method, rows in frame.groupby("method", sort=False):
        places = [domains.index(domain) + offsets[method] for domain in rows["domain"]]
        dots = right.plot(rows["perplexity"], places, shapes[method], color=colours[method], ms=4.2, alpha=0.85)
        dots[0].set_label(rows["title"].iloc[0])
        style.tag(dots, method, rows["title"].iloc[0])
    for i in range(0, len(domains), 2):
        right.axhspan(i - 0.5, i + 0.5, color="#f6f6f6", lw=0, zorder=0)
    right.axhline(len(domains) - 2.5, color=style.FAINT, lw=0.7)  # below it two means
    right.set_xscale("log")
    right.xaxis.set_minor_formatter(NullFormatter())
    shown = frame.loc[np.isfinite(frame["perplexity"]), "perplexity"]
    right.set_xticks(_round_ticks(shown.min(), shown.max()))
    right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    right.set_yticks(range(len(domains)), domains)
    right.set_ylim(len(domains) - 0.5, -0.5)
    right.set_title("Here")
    for ax in (left, right):
        ax.set_xlabel("Test perplexity")
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
    figure.legend(
        *right.get_legend_handles_labels(), loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=4, handletextpad=0.2
    )
    return figure


def _round_ticks(low: float, high: float) -> list[float]:
    """Ticks of a short logarithmic axis: one, two and five times a power of ten, and others between where it is shorter yet."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [
        step * 10.0**power for power in powers for step in ((1, 2, 5) if high > 5 * low else (1, 1.5, 2, 3, 4, 5, 7))
    ]
    return [tick for tick in ticks if 0.8 * low <= tick <= 1.25 * high]


def render(results: Results, out: Path) -> None:
    frame = table(results)
    write_csv(frame, out / "paper_domains_figure.csv")
    style.save(draw(frame), "paper_domains_figure", out)


if __name__ == "__main__":
    program("paper.domains", __doc__, render)
