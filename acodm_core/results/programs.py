"""``acodm export``, ``rerun``, ``score`` and ``board``: programs that end in the analysis, which the library does not know.

Each starts a program of ``acodm_analysis`` as a process of its own; heavy imports wait until a command needs them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer


def export(
    experiment: Annotated[str, typer.Argument(help="Name of an experiment below results/, or its folder.")],
    out: Annotated[Path, typer.Option(help="Folder for the paper's files; made when it is missing.")],
) -> None:
    """Write what a paper takes from an experiment: tables, vector figures, protocol text, BibTeX."""
    _analyse("pages.export", str(_folder(experiment)), str(out))


def score(
    records: Annotated[Path, typer.Argument(help="JSON lines of another trainer's runs (docs/how-to/score.md).")],
    out: Annotated[Path, typer.Option(help="Results folder to write, as results/NAME.")],
    beside: Annotated[
        Path | None, typer.Option(help="Results of the same corpus, evaluation and budget, shown in the same tables.")
    ] = None,
) -> None:
    """Score runs of any other trainer under the same rules: tables, figures and report then take the folder."""
    from acodm_core.results.external_runs import score as write_scored
    from acodm_core.results.reader import Results

    write_scored(records, out, Results(beside) if beside else None)
    _analyse("comparison", str(out), str(out / "rendered"), "--print")


def rerun(
    experiment: Annotated[str, typer.Argument(help="Name of a finished experiment below results/, or its folder.")],
    out: Annotated[Path, typer.Option(help="YAML to write, to be laid over the experiment's configuration.")],
    threshold: Annotated[
        str, typer.Option(help="Whose final loss is crossed: natural, uniform or best_static.")
    ] = "natural",
    part: Annotated[
        list[float], typer.Option(help="Where schedules end, as a share of the crossing's step; repeat for more.")
    ] = [1.0],  # noqa: B006 - typer reads the default
    method: Annotated[list[str], typer.Option(help="Only these methods; default: all compared; repeat.")] = [],  # noqa: B006
) -> None:
    """Plan the runs that matched horizon and equal compute need: schedules that end at the crossing, longer baselines."""
    chosen = [*(f"--part={one}" for one in part), *(f"--method={one}" for one in method)]
    _analyse("pages.rerun", str(_folder(experiment)), str(out), f"--threshold={threshold}", *chosen)


board = typer.Typer(help="Results of record in board/, and the pages that are made of them.", no_args_is_help=True)


@board.command()
def add(
    experiment: Annotated[str, typer.Argument(help="Name of a rendered experiment below results/, or its folder.")],
) -> None:
    """Record an experiment: board/NAME.parquet, NAME.json and NAME.svg. Then: acodm board pages."""
    _analyse("pages.board", "add", str(_folder(experiment)))


@board.command()
def pages() -> None:
    """Make the README's table and the pages docs/results/NAME.md of what is recorded."""
    _analyse("pages.board", "pages", ".")


def _folder(experiment: str) -> Path:
    return Path(experiment) if Path(experiment).is_dir() else Path("results") / experiment


def _analyse(program: str, *arguments: str) -> None:
    """Run a program of the analysis: the library does not know it, so as a process of its own."""
    raise typer.Exit(subprocess.run([sys.executable, "-m", f"acodm_analysis.{program}", *arguments]).returncode)
