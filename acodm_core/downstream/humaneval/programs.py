"""``acodm downstream humaneval-score``: samples of programs, from wherever they are, scored in the sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Ks = Annotated[list[int], typer.Option("--k", help="pass@k for this k; repeat for more.", min=1)]
EVERY_K = [1, 10]


def humaneval_score(
    samples: Annotated[Path, typer.Argument(help="JSON lines with task_id and completion.", metavar="SAMPLES")],
    out: Annotated[Path, typer.Option(help="Folder of results.jsonl and summary.json; the same one continues.")],
    k: Ks = EVERY_K,
    workers: Annotated[int | None, typer.Option(help="Samples at once; default: one a core.", min=1)] = None,
    cpu_seconds: Annotated[int, typer.Option(help="Processor time a sample may use.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
) -> None:
    """Run samples of HumanEval in the sandbox and print pass@k.

    Runs only where the sandbox works (docs/sandbox.md). Stopped, the same command goes on with what is left.
    """
    from acodm_core.downstream.humaneval.score import score as run
    from acodm_core.downstream.sandbox.sandbox import Limits
    from acodm_core.files import read_json

    scores = run(samples, out, ks=tuple(k), workers=workers, limits=Limits(cpu_seconds=cpu_seconds), seed=seed)
    for row in scores:
        interval = f"95 % interval {row['low']:.3f} to {row['high']:.3f}, standard error {row['standard_error']:.3f}"
        typer.echo(f"{row['metric']}  {row['value']:.3f}  ({interval}, {row['n']} problems)")
    given = {row["metric"] for row in scores}
    for missing in (f"pass@{wanted}" for wanted in k if f"pass@{wanted}" not in given):
        typer.echo(f"{missing}  not given: a problem has fewer samples")
    summary = read_json(out / "summary.json")
    typer.echo(", ".join(f"{count} {reason}" for reason, count in summary["reasons"].items()))
    if summary["problems"] < summary["problems_known"]:
        typer.echo(f"Only {summary['problems']} of {summary['problems_known']} problems have samples.")
