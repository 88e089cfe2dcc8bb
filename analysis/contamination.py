"""Questions in the training text: how many of each benchmark's questions share a run of words with a training document."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from acodm_analysis.core.evaluated import CONTAMINATION
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.tables import number, program, write_table
from acodm_core.files import read_json
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Downstream",
    place=20,
    heading="Questions in the training text",
    tables=("contamination",),
    needs=("contamination",),
    caption="Test questions that share a run of words with the training text, domain by domain.",
)


def table(found: dict) -> pd.DataFrame:
    """One row per (benchmark, domain), "" for any: how many of its ``questions`` were ``met`` in the training text."""
    rows = []
    for benchmark, counts in found["benchmarks"].items():
        common = {"benchmark": benchmark, "questions": counts["questions"], "too_short": counts["too_short"]}
        rows += [
            common | {"domain": domain, "met": n} for domain, n in {"": counts["met"], **counts["domains"]}.items()
        ]
    return pd.DataFrame(rows, columns=["benchmark", "domain", "met", "questions", "too_short"])


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per benchmark: its questions, those too short to tell, those met in any domain, and where."""

    def where(group: pd.DataFrame) -> str:
        met = group[(group["domain"] != "") & (group["met"] > 0)].sort_values("met", ascending=False, kind="stable")
        return ", ".join(f"{row.domain} {row.met}" for row in met.itertuples()) or "none"

    groups = {name: group for name, group in frame.groupby("benchmark", sort=False)}
    whole = frame[frame["domain"] == ""]
    return pd.DataFrame(
        {
            "Benchmark": list(groups),
            "Questions": [number(n, 0) for n in whole["questions"]],
            "Too short to tell": [number(n, 0) for n in whole["too_short"]],
            "Met in the training text": [number(n, 0) for n in whole["met"]],
            "By domain": [where(group) for group in groups.values()],
        }
    )


def render(results: Results, out: Path) -> None:
    found = read_json(results.folder / CONTAMINATION)
    frame = table(found)
    caption = (
        f"Questions that share {found['run_words']} words in a row (lower case, no punctuation) with a training document, in"
        " any domain and by domain; a question that stands in several domains counts in each."
    )
    write_table(frame, shown(frame), "contamination", out, caption)


if __name__ == "__main__":
    program("contamination", __doc__, render)
