"""Reported beside reproduced: each published claim, what was measured here and at which scale, and a verdict.

The rule for verdicts. A claim says on which side of *no effect* a quantity lies (fewer steps: above 0 %; a cost in proportion:
below 1); a claim of "at most" names a bound. The measurement has an interval over seeds.

- not run: nothing was measured; the cell says why.
- no verdict: fewer than five seeds (of what varies with them; a count does not).
- not distinguishable: the interval holds no effect (the bound).
- reproduced: the whole interval lies on the claimed side (at or under the bound).
- contradicted: the whole interval lies on the other side (over the bound).

Perplexity is what the papers mean by it, the mean over domains of their perplexities; what exp of the mean loss gives stands beside
it. A claim about one variant of a method is tested on that variant alone.

A verdict is about the direction, at the scale of the row. Beside it stands the size: the reported value is in the interval ("as
reported"), or the measured effect is smaller or larger; nobody expects a percentage from a 1B model to come out at 1M. Each claim
is judged by itself: of forty 95 % intervals, two miss.
"""

from __future__ import annotations

import inspect
import math
from pathlib import Path

import pandas as pd

from acodm_analysis.core.frames import title, uniformly_weighted, weighting
from acodm_analysis.core.measured import EXACT, Measured
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.seed_statistics import NO_VERDICT, enough
from acodm_analysis.core.tables import FAILED, NOT_RUN, amount, between, mid_sentence, number, program, write_table
from acodm_analysis.paper.measures import LOSS, MEASURES, PERPLEXITIES, scale
from acodm_analysis.paper.published import METHOD_ARGUMENTS, Claim, Published, published
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Claims",
    place=10,
    heading="Reported beside reproduced",
    tables=("claims",),
    caption=(
        "Published claims beside what was measured here, at the scale of the row, with a verdict on the direction."
    ),
)

REPRODUCED, CONTRADICTED, SAME = "reproduced", "contradicted", "not distinguishable"
VERDICTS = (REPRODUCED, CONTRADICTED, SAME, NO_VERDICT, NOT_RUN)
AS_REPORTED, SMALLER, LARGER = "as reported", "smaller", "larger"
DIGITS = {"×": 3, "points": 2, "points of perplexity": 2}  # by unit; one digit where a unit is not here


def verdict(found: Measured, claim: Claim) -> str:
    """One of VERDICTS, by the rule above."""
    if math.isnan(found.value):
        return NOT_RUN
    if found.unit != EXACT and not enough(found.n):
        return NO_VERDICT
    if math.isnan(found.low) or math.isnan(found.high):
        return SAME
    edge, low, high = (claim.value if claim.side == "at most" else claim.none), found.low, found.high
    if claim.side == "above":
        edge, low, high = -edge, -high, -low
    if high < edge or (claim.side == "at most" and high == edge):
        return REPRODUCED
    return CONTRADICTED if low > edge else SAME


def size(found: Measured, claim: Claim) -> str:
    """How the measured effect compares with the reported one; "" where either has no size."""
    if claim.side == "at most" or claim.value is None or math.isnan(found.value) or not enough(found.n):
        return ""
    sign = 1 if claim.side == "above" else -1
    low, high = sorted((sign * (found.low - claim.none), sign * (found.high - claim.none)))
    reported = sign * (claim.value - claim.none)
    return SMALLER if high < reported else LARGER if low > reported else AS_REPORTED


def measure(results: Results, claim: Claim, known: Published) -> list[tuple[str, str, str, Measured, Measured]]:
    """One (method, variant, other method, measurement, the same by exp of the mean loss) for each method of ``results`` that stands
    for the claim's; at least one. The last is empty where the claim is about no mean, or about that one.

    The other method is the same variant where it has that one, else the most literal.
    """

    def nothing(why: str) -> list[tuple[str, str, str, Measured, Measured]]:
        return [("", "", "", Measured(why=why), Measured())]

    if claim.measure is None:
        return nothing(claim.unmeasured)
    names = {kind: _named(results, kind) for kind in claim.only}
    for kind, part in claim.only.items():
        if part not in names[kind]:
            return nothing(f"the {kind} is {names[kind]}, not of {part}")
    arguments = {
        key: known.stand_ins(results, name) for key, name in claim.measure.arguments.items() if key in METHOD_ARGUMENTS
    }
    for key, found in arguments.items():
        if not found:
            return nothing(f"no run stands for {known.title(claim.measure.arguments[key])}")
    function, rows = MEASURES[claim.measure.name], []
    mean = inspect.signature(function).parameters.get("mean")
    beside = mean and claim.measure.arguments.get("mean", mean.default) == PERPLEXITIES
    tested = {m: v for m, v in arguments.pop("method").items() if not claim.variants or v in claim.variants}
    if not tested:
        return nothing(f"no run stands for {known.title(claim.of)} ({' or '.join(claim.variants)})")
    for method, variant in tested.items():
        others = {
            key: {v: m for m, v in reversed(found.items())}.get(variant, next(iter(found)))
            for key, found in arguments.items()
        }
        if method not in others.values():
            given = claim.measure.arguments | others | {"method": method}
            by_loss = function(results, **given | {"mean": LOSS}) if beside else Measured()
            rows.append((method, variant, next(iter(others.values()), ""), function(results, **given), by_loss))
    return rows or nothing(f"{known.title(claim.measure.arguments['method'])} has no other method beside it")


def _named(results: Results, kind: str) -> str:
    """The experiment's model or corpus by name."""
    return str(results.experiment["model"] if kind == "model" else results.experiment["corpus"]["name"])


def table(results: Results, known: Published | None = None) -> pd.DataFrame:
    """One row per (claim, method that stands for it): reported, measured, interval, scale and verdict."""
    known = known or published()
    rows = []
    for claim in known.claims:
        findings = claim.findings()
        for method, variant, other, found, by_loss in measure(results, claim, known):
            row = {
                "claim": claim.name, "of": known.title(claim.of), "says": claim.says, "reported": claim.value,
                "printed": claim.printed, "derived": claim.derived, "unit": claim.unit, "side": claim.side,
                "none": claim.none, "setting": claim.setting, "source": claim.source,
                "expression": str(claim.measure or NOT_RUN), "method": method, "variant": variant, "against": other,
                "measured": found.value, "low": found.low, "high": found.high, "bound": found.bound, "n": found.n,
                "counted": found.unit, "verdict": verdict(found, claim), "size": size(found, claim), "why": found.why,
                "by_loss": by_loss.value, "by_loss_low": by_loss.low, "by_loss_high": by_loss.high,
                "by_loss_verdict": verdict(by_loss, claim) if by_loss.n else "",
            }  # fmt: skip
            rows.append(row | (scale(results, method) if method else {}) | {"odd": sum(one.odd for one in findings)})
    frame = pd.DataFrame(rows)
    return frame.astype({"reported": float, "none": float})


def _cell(value: float, unit: str) -> str:
    return number(value, DIGITS.get(unit, 1)) if math.isfinite(value) else "never" if value == -math.inf else FAILED


def reported(row: pd.Series) -> str:
    """The published value with its unit, what the source prints or what it was derived from; a claim of direction says which."""
    if math.isnan(row["reported"]):
        return f"{row['side']} {row['none']:g}"
    bound = "≤ " if row["side"] == "at most" else ""
    about = [f"({name}: {row[name]})" for name in ("printed", "derived") if row[name]]
    return " ".join([f"{bound}{row['reported']:g}", *filter(None, [row["unit"]]), *about])


def measured(row: pd.Series) -> str:
    """The measured value with its interval, or why there is none."""
    if row["verdict"] == NOT_RUN:
        return f"{NOT_RUN}: {row['why']}" if row["why"] else NOT_RUN
    return "≥" * bool(row["bound"]) + between(*(_cell(row[key], row["unit"]) for key in ("measured", "low", "high")))


def by_loss(row: pd.Series) -> str:
    """What exp of the mean loss gives, with its verdict where that is another one."""
    if not row["by_loss_verdict"] or row["verdict"] == NOT_RUN:
        return ""
    cell = between(*(_cell(row[key], row["unit"]) for key in ("by_loss", "by_loss_low", "by_loss_high")))
    return cell if row["by_loss_verdict"] == row["verdict"] else f"{cell}: {row['by_loss_verdict']}"


def _scale(row: pd.Series) -> str:
    if row["verdict"] == NOT_RUN:
        return ""
    return f"{row['model']} ({amount(row['parameters'])}), {amount(row['tokens'])} tokens, {row['corpus']}, {row['hardware']}"


def shown(frame: pd.DataFrame, results: Results) -> pd.DataFrame:
    """The table's cells; a claim is named in its first row only."""
    rows, first = [row for _, row in frame.iterrows()], ~frame["claim"].duplicated()

    def here(row: pd.Series) -> str:
        names = [title(results, name) for name in (row["method"], row["against"]) if name]
        return " against ".join(names)

    return pd.DataFrame(
        {
            "Claim": [
                f"{row['of']}: {mid_sentence(row['says'])}" if one else "" for one, row in zip(first, rows, strict=True)
            ],
            "Reported": [reported(row) if one else "" for one, row in zip(first, rows, strict=True)],
            "Here": [here(row) for row in rows],
            "Measured": [measured(row) for row in rows],
            "By exp of the mean loss": [by_loss(row) for row in rows],
            "n": [f"{row['n']} {row['counted']}" if row["n"] else "" for row in rows],
            "Scale": [_scale(row) for row in rows],
            "Verdict": frame["verdict"],
            "Size": frame["size"],
        }
    )


def counts(frame: pd.DataFrame) -> str:
    """How many rows got which verdict, in words."""
    found = frame["verdict"].value_counts()
    return ", ".join(f"{found.get(name, 0)} {name}" for name in VERDICTS)


def caption(frame: pd.DataFrame, results: Results) -> str:
    """What the table's columns are, and what its rows do not say."""
    words = (
        f"Published claims beside what was measured here: {counts(frame)}. Medians over seeds (paired where two methods meet); in"
        " brackets the 95 % interval, with fewer than five seeds the smallest and largest. Perplexity is what the papers mean by"
        " it, the unweighted mean over domains of their perplexities; beside it stands what exp of the mean loss gives. Intervals"
        " of steps and speed-ups take the threshold as known. Reproduced: the whole interval lies on"
        " the claimed side of no effect, or within the bound; contradicted: on the other side; fewer than five seeds give no"
        " verdict. The verdict is about direction at this scale; size compares with the reported value. One row for each"
        " method here that stands for the paper's."
    )
    ours = frame["variant"].str.startswith("repaired")
    repaired = [title(results, method) for method in dict.fromkeys(frame.loc[ours, "method"])]
    if repaired:
        words += f" Repaired by this benchmark, so not the paper's method to the letter: {', '.join(repaired)}."
    told = (
        ""
        if uniformly_weighted(results)
        else " Some methods are told these weights: read their rows beside `objective`."
    )
    return words + weighting(results) + told


def render(results: Results, out: Path) -> None:
    frame = table(results)
    write_table(frame, shown(frame, results), "claims", out, caption(frame, results))


def show(results: Results) -> None:
    """Print the claims to the terminal."""
    from rich.console import Console
    from rich.table import Table

    frame = table(results)
    grid = Table(title=f"Claims, measured in {results.experiment['experiment']}", header_style="bold", show_lines=True)
    for name in (cells := shown(frame, results)).columns:
        grid.add_column(name)
    for row in cells.values.tolist():
        grid.add_row(*row)
    console = Console()
    console.width = max(console.width, 160)
    console.print(grid)
    console.print(caption(frame, results), style="dim", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    program("claims", __doc__, render, show)
