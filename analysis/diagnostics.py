"""What the agents do: the scalars that mixers record after each step, and how far what was drawn is from what was asked for.

Lines are medians over seeds of means over short stretches of steps, bands run from the smallest to the largest seed. The
distance between two mixtures is their total variation, half the sum of absolute differences of the shares (0 to 1).
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from acodm_analysis.core import panels, style
from acodm_analysis.core.frames import runs_of, stretched, title
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.tables import program, write_csv
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Mixture dynamics",
    place=30,
    heading="What the agent does",
    figure="diagnostics",
    data=("diagnostics",),
    caption=(
        "What the mixers record after a step, medians over seeds of means over short stretches; last, the"
        " distance (total variation) of the drawn from the requested mixture, of the step and of all steps so"
        " far."
    ),
)

# In the order of the panels; what is not here has a panel of its own after these, under its own name.
LABELS = {
    "reward": "Reward",
    "reward_std": "Reward, spread over domains",
    "q": "Q value",
    "td_error": "TD error",
    "objective": "Actor's objective",
    "actor_grad_norm": "Gradient norm, actor",
    "critic_grad_norm": "Gradient norm, critic",
    "entropy": "Entropy of the mixture (nats)",
    "from_uniform": "Distance from uniform",
    "moved": "Distance from last step",
    "certainty": "Certainty of the rewards",
}
DRAWN = {"drawn_step": "Drawn − requested, each step", "drawn_so_far": "Drawn − requested, so far"}

APART = 4  # times the median method's size from where a method leaves a panel's axes, which then says so


def table(results: Results) -> pd.DataFrame:
    """One row per (name, method, stretch): middle ``step``; ``value`` (median over seeds), ``low``, ``high``.

    Only methods whose mixer recorded something; for those also DRAWN, from the mixture table.
    """
    recorded = results.diagnostics[results.diagnostics["run"].isin(runs_of(results)["run"])]
    drawn = _drawn(results.mixture[results.mixture["run"].isin(recorded["run"].unique())])
    rows = pd.concat([recorded, drawn], ignore_index=True)
    seeds = stretched(results, rows, ["name"], ["value"]).groupby(["method", "name", "stretch"])
    frame = seeds["value"].agg(value="median", low="min", high="max").join(seeds["step"].median()).reset_index()
    others = sorted(set(frame["name"]) - set(LABELS) - set(DRAWN))
    order = {"name": [*LABELS, *others, *DRAWN], "method": results.compare}
    frame = frame.sort_values(
        ["name", "method", "stretch"], key=lambda c: c.map(order[c.name].index) if c.name in order else c
    )
    frame.insert(0, "title", [title(results, method) for method in frame["method"]])
    return frame[["name", "method", "title", "step", "value", "low", "high"]].reset_index(drop=True)


def _drawn(mixture: pd.DataFrame) -> pd.DataFrame:
    """Rows (run, step, name, value): distance of the drawn from the requested mixture, of the step and of all steps so far."""
    mixture = mixture.sort_values(["run", "domain", "step"])
    gap = mixture["drawn"] - mixture["requested"]
    ahead = gap.groupby([mixture["run"], mixture["domain"]]).cumsum() / mixture["step"]
    found = pd.DataFrame({"drawn_step": gap.abs() / 2, "drawn_so_far": ahead.abs() / 2})
    found = found.groupby([mixture["run"], mixture["step"]]).sum()
    return found.reset_index().melt(["run", "step"], var_name="name", value_name="value")


def label(name: str) -> str:
    """The words above a panel."""
    return (LABELS | DRAWN).get(name) or name.replace("_", " ").capitalize()


def draw(frame: pd.DataFrame, colours: dict[str, str]) -> Figure:
    """A panel a scalar, a line a method in its colour."""
    if frame.empty:
        return style.said("No compared method recorded what it does.")
    names, methods = frame["name"].unique().tolist(), frame["method"].unique().tolist()
    dashes, bands = style.dashes(methods), style.banded(methods)
    figure, axes = panels.grid([label(name) for name in names], 3)
    for ax, name in zip(axes, names, strict=True):
        for method in methods:
            rows = frame[(frame["name"] == name) & (frame["method"] == method)]
            if len(rows):
                look = {"color": colours[method], "ls": dashes[method], "lw": 1.4}
                panels.line(ax, rows, "value", method, (label(name), "{:.3g}".format), band=bands, **look)
        mine = frame[frame["name"] == name]
        sizes = mine.groupby("method", sort=False)["value"].agg(lambda values: values.abs().max())
        far = sizes[
            sizes > APART * sizes.sort_values().iloc[(len(sizes) - 1) // 2]
        ]  # of two, the smaller sets the scale
        bottom, top = _limits(mine[~mine["method"].isin(far.index)])
        ax.set_ylim(bottom, top + (top - bottom) * 0.15 * len(far))  # the notes stand above the lines
        ax.yaxis.set_major_locator(plt.MaxNLocator(4))
        ax.ticklabel_format(axis="y", scilimits=(-3, 4), useMathText=True)
        for i, (method, size) in enumerate(far.items()):
            note = ax.text(
                0.98, 0.95 - 0.12 * i, f"off the axis: to {size:.2g}", transform=ax.transAxes, ha="right", va="top"
            )
            note.set(fontsize=6, color=style.legible(colours[method]))
            style.tag(note, method)
    titles = frame.drop_duplicates("method").set_index("method")["title"]
    handles = [plt.Line2D([], [], color=colours[m], ls=dashes[m], lw=1.6) for m in methods]
    panels.legend(figure, handles, titles[methods].tolist())
    return figure


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """Room for the medians, and for as much of the bands as lies within half their range beyond them."""
    low, high = rows["value"].min(), rows["value"].max()
    reach = float(high - low or rows["high"].max() - rows["low"].min() or 1.0)
    bottom, top = max(rows["low"].min(), low - reach / 2), min(rows["high"].max(), high + reach / 2)
    return bottom - 0.05 * reach, top + 0.05 * reach


def render(results: Results, out: Path) -> None:
    frame = table(results)
    write_csv(frame, out / "diagnostics.csv")
    style.save(draw(frame, style.colours(results.compare)), "diagnostics", out)


if __name__ == "__main__":
    program("diagnostics", __doc__, render)
