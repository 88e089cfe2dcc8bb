"""What the commands of ``acodm downstream`` show: how far they are, and what came out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def progress(title: str, *, total: int, unit: str) -> Iterator[Callable[[str, int], None]]:
    """A bar over parts (subjects, domains) with what was done a second; a plain line now and then where there is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(file=sys.stderr, highlight=False)
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    columns += [TimeRemainingColumn(), TextColumn("{task.fields[note]}")]
    began = spoke = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total, note="")
        done: dict[str, int] = {}

        def advance(part: str, n: int) -> None:
            nonlocal spoke
            done[part] = n
            rate = sum(done.values()) / (time.monotonic() - began)
            note = f"{part}  {rate:,.0f} {unit}/s"
            bar.update(task, completed=len(done), note=note)
            if not console.is_terminal and time.monotonic() - spoke > 10:
                spoke = time.monotonic()
                console.print(f"{title}: {len(done)}/{total}  {note}", soft_wrap=True)

        yield advance


def print_scores(path: Path) -> None:
    """Every task as a whole: value, standard error, and what they can tell."""
    from rich.console import Console
    from rich.table import Table

    from acodm_core.downstream.scores import detectable_difference, is_chance
    from acodm_core.results.table_files import read_frame

    table = Table(
        "task", "shots", "metric", "value", "± s.e.", "n", "chance", "detectable difference", "against chance"
    )
    frame = read_frame(path, fix=f"delete {path.parent} and evaluate again")
    for row in frame[(frame["subject"] == "") & (frame["status"] == "measured")].to_dict("records"):
        known = row["standard_error"] == row["standard_error"] and row["standard_error"] > 0
        chance = is_chance(row)
        table.add_row(
            row["task"],
            f"{row['shots']:.0f}",
            row["metric"],
            f"{row['value']:.4f}",
            f"{row['standard_error']:.4f}" if known else "",
            f"{row['n']:,.0f}",
            f"{row['chance']:.2f}" if row["chance"] == row["chance"] else "",
            f"{detectable_difference(row['standard_error']):.4f}" if known else "",
            "" if chance is None else "not distinguishable" if chance else "differs",
        )
    Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(table)
