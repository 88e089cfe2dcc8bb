"""``acodm downstream``: what a trained model can do, by hand. The workflow calls the same commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acodm_core.downstream.humaneval.programs import humaneval, humaneval_sample, humaneval_score
from acodm_core.downstream.mmlu.programs import mmlu, questions
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
    Threads,
    TooLongOption,
    checked_too_long,
    nothing_to_ask,
)
from acodm_core.downstream.progress import print_scores, progress
from acodm_core.lm.kernels.device import prepare

ASK, HUMANEVAL, AROUND = "Ask a finished run", "HumanEval in two steps", "Before and after"  # panels of the help

app = typer.Typer(
    help="What a trained model can do: MMLU, HumanEval, other tasks of lm-eval, without a hub.\n\n"
    "For example: acodm downstream mmlu results/runs/RUN --corpus data/corpora/CORPUS --out OUT. Those that ask a run write "
    "OUT/scores.parquet (value, n, standard error and chance, one row per metric) and, last, OUT/manifest.json; stopped, the same "
    "command goes on, and finished, it only prints. For all runs of an experiment: a section `downstream` "
    "(docs/how-to/downstream.md).",
    no_args_is_help=True,
)

app.command(rich_help_panel=ASK)(mmlu)


@app.command(rich_help_panel=ASK)
def tasks(
    run: Run,
    corpus: CorpusFolder,
    out: Out,
    task: Annotated[list[str], typer.Option(help="Name of an lm-eval task or group; repeat for more.")],
    shots: Annotated[int | None, typer.Option(help="Few-shot examples; default: as the task says.", min=0)] = None,
    include: Annotated[Path | None, typer.Option(help="Folder of task files (lm-eval's YAML) of your own.")] = None,
    too_long: TooLongOption = "fit",
    step: Step = None,
    limit: Limit = None,
    device: Device = "cpu",
    threads: Threads = 1,
    batch: Batch = 16,
) -> None:
    """Any lm-eval task by its name. One that cannot run here (its data are on the hub, say) is a row with its reason."""
    if nothing_to_ask(run, out, dict.fromkeys(task, shots), step):
        return
    device = prepare(device, threads)
    from acodm_core.data.corpus import Corpus
    from acodm_core.downstream import lm_eval_task
    from acodm_core.downstream.checkpoint import Checkpoint

    checkpoint = Checkpoint.load(run, Corpus.open(corpus), device=device, step=step)
    manifest = lm_eval_task.evaluate(
        checkpoint,
        task,
        out,
        shots=shots,
        too_long=checked_too_long(too_long),
        include=include,
        limit=limit,
        batch=batch,
        progress=lambda name, became: typer.echo(f"{name}: {became}", err=True),
    )
    print_scores(out / "scores.parquet")
    for name, reason in manifest["skipped"].items():
        typer.echo(f"{name} skipped: {reason}")


app.command(rich_help_panel=ASK)(humaneval)
app.command(rich_help_panel=HUMANEVAL)(humaneval_sample)
app.command(rich_help_panel=HUMANEVAL)(humaneval_score)


@app.command(rich_help_panel=AROUND)
def export(
    run: Run,
    corpus: CorpusFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder to make; must not exist.")],
    step: Step = None,
) -> None:
    """Write a run's model as a Hugging Face folder: config.json, model.safetensors, tokenizer.

    Then: AutoModelForCausalLM.from_pretrained(OUT), AutoTokenizer.from_pretrained(OUT), lm_eval --model_args pretrained=OUT.
    """
    from acodm_core.data.corpus import Corpus
    from acodm_core.downstream import checkpoint

    checkpoint.export(checkpoint.Checkpoint.load(run, Corpus.open(corpus), step=step), out)
    typer.echo(out)


app.command(rich_help_panel=AROUND)(questions)


@app.command(rich_help_panel=AROUND)
def contamination(
    corpus: CorpusFolder,
    out: Out,
    source: From = "packages",
    archives: Archives = Path("data/archives"),
) -> None:
    """Count the questions of MMLU and HumanEval that share a run of 13 words with the training text, domain by domain.

    Writes OUT/contamination.parquet (one row per question and domain, with an example) and OUT/contamination.json.
    """
    from acodm_core.data.corpus import Corpus
    from acodm_core.downstream import contamination as counting
    from acodm_core.downstream.mmlu.questions import find_source

    sealed = Corpus.open(corpus)
    asked = find_source(source, archives)
    found = [*counting.mmlu_questions(asked), *counting.humaneval_questions()]
    with progress("contamination", total=len(sealed.domains), unit="documents") as advance:
        overlaps = counting.overlaps(found, sealed, advance)
    summary = counting.report(found, overlaps, sealed, out, source=asked.identity)
    for benchmark, counts in summary["benchmarks"].items():
        typer.echo(
            f"{benchmark}: {counts['met']} of {counts['questions']:,} questions share {summary['run_words']} words in a row "
            f"with the training text ({counts['too_short']:,} are too short to tell)"
        )
        for domain, n in counts["domains"].items():
            if n:
                typer.echo(f"  {domain}: {n}")


@app.command(rich_help_panel=AROUND)
def collect(
    plan: Annotated[Path, typer.Argument(help="plan.json of the experiment.")],
    settings: Annotated[Path, typer.Argument(help="downstream.json of the experiment: what its runs were asked.")],
    runs: Annotated[
        list[Path], typer.Option(help="Folder that holds runs; repeat for those of several machines or sittings.")
    ] = [Path("results/runs")],  # noqa: B006 - typer reads the default
    contamination: Annotated[
        Path | None, typer.Option(help="contamination.json of the corpus, to compare with.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the table goes; default: the plan's folder.")] = None,
) -> None:
    """Put the scores of an experiment's runs together: downstream.parquet, and with it contamination.json."""
    from acodm_core.downstream.evaluations import gather, read_settings
    from acodm_core.files import read_json, write_json
    from acodm_core.study.planner import read_experiment

    _, planned = read_experiment(plan)
    out = out or plan.parent
    if contamination is not None:
        write_json(out / "contamination.json", read_json(contamination))
    gather(planned, read_settings(settings), runs, out / "downstream.parquet")
