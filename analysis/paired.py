"""Is a method different from the baseline, and from the strongest cheap one? Differences of the final test loss, and a verdict.

Runs with the same seed share their initialisation and their documents, so each seed gives one difference. The interval and the
verdict are the paired t-test's, the verdict corrected by Holm over the methods; with fewer than five seeds there is none.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from acodm_analysis.core.frames import held_against, title, weighting
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.pairs import p_cell, tables
from acodm_analysis.core.seed_statistics import (
    no_verdict,
)
from acodm_analysis.core.tables import NOT_RUN, few, number, program, with_interval, write_table
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Efficiency",
    place=40,
    heading="Difference to the baseline",
    tables=("paired",),
    caption="Differences of the test loss to the baselines on the same seeds, with their intervals and verdicts.",
)


def shown(frame: pd.DataFrame, results: Results) -> pd.DataFrame:
    """The cells of ``tables``."""
    rows = [row for _, row in frame.iterrows()]
    return pd.DataFrame(
        {
            "Method": frame["title"],
            "Against": [title(results, row["against"]) for row in rows],
            "Pairs": [str(row["n"]) if row["n"] else NOT_RUN for row in rows],
            "Difference (nats)": [with_interval(row, "difference", 4, signed=True) for row in rows],
            "Interquartile mean": [few(row["n"], number(row["iqm"], 4, signed=True)) for row in rows],
            "P(improvement)": [few(row["n"], number(row["improvement"], 2)) for row in rows],
            "p (Holm)": [few(row["n"], p_cell(row["holm"])) for row in rows],
            "Verdict": frame["verdict"],
        }
    )


def caption(results: Results) -> str:
    """What the table's numbers are."""
    return (
        f"Final mean test loss against {' and against '.join(title(results, base) for base in held_against(results))}"
        " (the baseline, and the better of uniform and objective weights), seed by seed (negative is better): mean"
        " difference; in brackets the 95 % t interval, or with fewer than five seeds the smallest and largest difference."
        " P(improvement): over all pairs of seeds. p: paired t-test, Holm's correction over the methods."
        + f" {no_verdict(len(results.experiment.get('seeds', [])))}".rstrip()
        + weighting(results)
    )


def render(results: Results, out: Path) -> None:
    frame = tables(results)
    write_table(frame, shown(frame, results), "paired", out, caption(results))


if __name__ == "__main__":
    program("paired", __doc__, render)
