"""What published figures say about each other: arithmetic on the claims alone, before anything is measured here."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from acodm_analysis.core.outputs import Output
from acodm_analysis.core.tables import mid_sentence, program, write_table
from acodm_analysis.paper.published import Published, published
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Claims",
    place=20,
    heading="What published figures say about each other",
    tables=("plausibility",),
    caption="Arithmetic on published figures alone: whether a number fits the others, and what is possible.",
)


def table(known: Published | None = None) -> pd.DataFrame:
    """One row per finding: the claim, what was reported, ``odd`` and the arithmetic; a claim without one is left out."""
    known = known or published()
    rows = [
        (
            claim.name,
            known.title(claim.of),
            claim.says,
            claim.value,
            claim.unit,
            claim.source,
            finding.odd,
            finding.text,
        )
        for claim in known.claims
        for finding in claim.findings()
    ]
    return pd.DataFrame(rows, columns=["claim", "of", "says", "reported", "unit", "source", "odd", "arithmetic"])


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The cells; a claim is named in its first row only."""
    first = ~frame["claim"].duplicated()
    return pd.DataFrame(
        {
            "Claim": [
                f"{row.of}: {mid_sentence(row.says)}" if one else ""
                for one, row in zip(first, frame.itertuples(), strict=True)
            ],
            "Source": frame["source"].where(first, ""),
            "Arithmetic on published figures": frame["arithmetic"],
            "": ["odd" if odd else "fits" for odd in frame["odd"]],
        }
    )


def render(results: Results, out: Path) -> None:
    arithmetic = table()
    words = (
        f"What published figures say about each other: {arithmetic['odd'].sum()} of {len(arithmetic)} findings are odd. Odd is no"
        " proof of a mistake. Standard errors are binomial, of two scores as if their questions were independent."
    )
    write_table(arithmetic, shown(arithmetic), "plausibility", out, words)


if __name__ == "__main__":
    program("plausibility", __doc__, render)
