"""``acodm export``, ``rerun`` and ``score``: programs that end in the analysis, which the library does not know.

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
    _analyse("pages.export", experiment, str(out))


def score(
    records: Annotated[Path, typer.Argument(help="JSON lines of another trainer's runs (docs/how-to/score.md).")],
    out: Annotated[Path, typer.Option(help="Results folder to write, as results/NAME.")],
    beside: Annotated[
        Path | None, typer.Option(help="Results of the same corpus, evaluation and budget, shown in the same tables.")
    ] = None,
) -> None:
    """Score runs of any other trainer under the same rules: tables, figures and report then take the folder."""
    from acodm_core.results.external_runs import score as write_scored
    from acodm_core.results.tables import Results

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
    _analyse("pages.rerun", experiment, str(out), f"--threshold={threshold}", *chosen)


def _analyse(program: str, experiment: str, *arguments: str) -> None:
    """Run a program of the analysis on an experiment's results: the library does not know it, so as a process of its own."""
    folder = Path(experiment) if Path(experiment).is_dir() else Path("results") / experiment
    command = [sys.executable, "-m", f"acodm_analysis.{program}", str(folder), *arguments]
    raise typer.Exit(subprocess.run(command).returncode)
