"""An estimate as a table for people, and as plain values for programs."""

from __future__ import annotations

import dataclasses
from typing import Any

from rich.console import Console
from rich.table import Table

from acodm_core.planning.estimate import Estimate, Row

UNKNOWN = "not timed"
COLUMNS = ("Method", "Model", "After", "Runs", "Tokens", "FLOPs", "Own passes", "Hours", "Disk", "Memory")


def show(estimate: Estimate, console: Console | None = None) -> None:
    """Print the table, its totals, what the seeds can tell apart, and how the numbers were come by."""
    console = console or Console()
    console.width = max(console.width, 132)
    grid = Table(title=f"{estimate.experiment}: what it will take", header_style="bold")
    for i, name in enumerate(COLUMNS):
        grid.add_column(name, justify="left" if i < 3 else "right", no_wrap=i != 2)
    for row in estimate.rows:
        grid.add_row(*cells(row), style="" if row.compared else "dim")
    grid.add_section()
    grid.add_row(*totals(estimate), style="bold")
    console.print(grid)
    for line in sentences(estimate):
        console.print(line, soft_wrap=True, highlight=False)


def cells(row: Row) -> list[str]:
    """A row's cells; hours are those of all its runs, one after another."""
    return [
        row.method,
        f"{row.model} ({amount(row.parameters)})",
        ", ".join(row.after),
        str(row.runs),
        amount(row.tokens),
        f"{row.flops:.3g}",
        f"{row.method_flops / row.model_flops:.2%}",
        hours(row.seconds),
        size(row.disk_bytes),
        size(row.memory_bytes),
    ]


def totals(estimate: Estimate) -> list[str]:
    """The last row: sums, and the largest memory."""
    disk = estimate.total("disk_bytes") + (estimate.corpus_bytes or 0)
    own = estimate.total("method_flops") / estimate.total("model_flops")
    return [
        f"{len(estimate.rows)} methods", "", "", str(estimate.total("runs")), amount(estimate.total("tokens")),
        f"{estimate.total('flops'):.3g}", f"{own:.2%}", hours(estimate.total("seconds")), size(disk),
        size(max(row.memory_bytes for row in estimate.rows)),
    ]  # fmt: skip


def sentences(estimate: Estimate) -> list[str]:
    """What stands below the table."""
    lines = []
    seconds = estimate.total("seconds")
    if seconds is not None and estimate.jobs > 1:
        lines.append(f"With {estimate.jobs} runs at once on this machine: not under {hours(seconds / estimate.jobs)}.")
    if estimate.corpus_bytes is not None:
        lines.append(f"Disk: the corpus has {size(estimate.corpus_bytes)} of it.")
    return [*lines, power(estimate), *estimate.notes]


def power(estimate: Estimate) -> str:
    """The difference that the seeds can detect, in words."""
    test = "by a paired t-test at 5 % with 80 % power"
    if estimate.detectable is None:
        return "One seed: no difference can be told from noise; a ranking asks for five seeds."
    n = estimate.seeds
    if estimate.noise is None:
        return (
            f"{n} seeds find a difference of {estimate.detectable:.2f} standard deviations of the paired differences {test};"
            " in nats with --noise results/NAME of an earlier experiment."
        )
    noise = estimate.noise
    return (
        f"{n} seeds find a difference of {estimate.detectable:.4f} nats in the final test loss {test}, if seeds vary as in"
        f" {noise.folder}: standard deviation {noise.sd:.4f}, median over {noise.methods} methods."
    )


def plain(estimate: Estimate) -> dict[str, Any]:
    """All of it as JSON can hold it."""
    found = dataclasses.asdict(estimate)
    names = ("runs", "tokens", "model_flops", "method_flops", "evaluation_flops", "flops", "seconds", "disk_bytes")
    return found | {"total": {name: estimate.total(name) for name in names}}


def amount(value: float) -> str:
    """A count in three digits: 921k, 1.08M, 49.2B."""
    for unit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.0f}"


def size(count: float) -> str:
    """Bytes in decimal units."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count / 1e3:.3g} kB"


def hours(seconds: float | None) -> str:
    """A duration in hours, short ones in minutes."""
    if seconds is None:
        return UNKNOWN
    return (
        f"{seconds / 60:.2g} min"
        if seconds < 3600
        else f"{seconds / 3600:,.3g} h"
        if seconds < 3.6e6
        else f"{seconds / 3600:,.0f} h"
    )
