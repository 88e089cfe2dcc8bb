"""The ``acodm`` programs: every step of the workflow, by hand. Heavy imports wait until a command needs them."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acodm_core import entry
from acodm_core.contract.programs import check, new_mixer
from acodm_core.data.programs import app as data_app
from acodm_core.downstream.programs import app as downstream_app
from acodm_core.errors import UserError
from acodm_core.lm.kernels.device import prepare
from acodm_core.reference.program import reference
from acodm_core.reproducing.program import reproduce
from acodm_core.results.programs import board, export, rerun, score

if TYPE_CHECKING:
    from acodm_core.study.config import Experiment
    from acodm_core.study.planner import Plan

app = typer.Typer(
    name="acodm",
    help="Train, measure and compare data-mixing schedulers. The same programs run under `snakemake`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 120},
    rich_markup_mode=None,  # plain help: the decorated one imports for longer than all the rest takes
)
app.command()(check)
app.command()(new_mixer)
app.command()(export)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(reproduce)
app.command()(reference)
app.command()(rerun)
app.command()(score)
app.add_typer(data_app, name="data", help="Build a corpus: fetch, documents, tokenizer, tokens, seal.")
app.add_typer(board, name="board")
app.add_typer(downstream_app, name="downstream")

Config = Annotated[
    list[Path], typer.Argument(help="YAML files of the experiment, later over earlier.", show_default=False)
]
CorpusFolder = Annotated[Path, typer.Option("--corpus", help="Folder of the sealed corpus.")]
Runs = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
Inputs = Annotated[
    list[str], typer.Option("--input", help="ROLE=FOLDER of a finished run; repeat for more, and for a swarm.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")]
Threads = Annotated[int, typer.Option(help="CPU threads.", min=1)]


@app.command()
def plan(
    config: Config,
    write: Annotated[
        Path | None,
        typer.Option(help="Write plan.json, the corpus's and all runs' spec.json below here; estimates nothing."),
    ] = None,
    runs: Annotated[bool, typer.Option("--runs", help="List every run by name; estimates nothing.")] = False,
    probe: Annotated[bool, typer.Option(help="Time 20 steps of each model shape on this machine.")] = True,
    rate: Annotated[
        float | None, typer.Option(help="FLOP a second of the device you plan for, in place of the probe.", min=1)
    ] = None,
    noise: Annotated[
        Path | None, typer.Option(help="Earlier results, results/NAME, whose noise card says how far seeds vary.")
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Leave it below results/: the workflow asks schedulers for as much.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the estimate as JSON.")] = False,
) -> None:
    """Check an experiment's configuration, and say what it will take before anything is spent.

    Runs, tokens, FLOPs, hours, disk, memory, and the difference that the chosen seeds can detect.
    """
    from acodm_core.downstream.evaluations import configured

    experiment, planned, _ = configured(config, files_may_lack=not (write or runs))
    if write or runs:
        _list(experiment, planned)
        if write:
            _write_plan(experiment, planned, write)
        return
    from acodm_core.planning import estimate, table

    known = estimate.read_noise(noise) if noise else None
    device = prepare("auto" if experiment.resources.gpus else "cpu", experiment.resources.threads)
    from acodm_core.planning.estimator import Estimator

    found = Estimator(experiment, planned).estimate(probe=probe, rate=rate, device=device, noise=known)
    if save:
        from acodm_core.planning import job_requests

        path = job_requests.save(found, planned, Path("results") / experiment.experiment)
        print(f"Saved to {path}", file=sys.stderr)
    if json:
        import json as codec

        print(codec.dumps(table.plain(found), indent=1))
    else:
        table.show(found)


def _list(experiment: Experiment, planned: Plan) -> None:
    """One line per run, inputs first."""
    for run, spec in planned.runs.items():
        needed = [runs if isinstance(runs, str) else f"{runs[0]} to {runs[-1]}" for runs in spec.inputs.values()]
        needs = f"  after {', '.join(needed)}" if needed else ""
        print(f"{run}  {spec.model_name}  {spec.tokens():,} tokens{needs}")
    print(
        f"{len(planned.runs)} runs, {sum(s.tokens() for s in planned.runs.values()):,} tokens, corpus {experiment.corpus.id}"
    )


def _write_plan(experiment: Experiment, planned: Plan, root: Path) -> None:
    """What the programs that follow read: plan.json and every spec.json."""
    from acodm_core.files import write_json

    results = root / "results" / experiment.experiment
    write_json(results / "plan.json", experiment.model_dump(mode="json"))
    if experiment.downstream:
        write_json(results / "downstream.json", experiment.downstream.model_dump(mode="json"))
    corpus = experiment.corpus.model_dump(mode="json")
    write_json(root / "data" / "corpora" / experiment.corpus.id / "spec.json", corpus)
    for run, spec in planned.runs.items():
        write_json(root / "results" / "runs" / run / "spec.json", spec.model_dump(mode="json"))


@app.command()
def train(
    spec: Annotated[Path, typer.Argument(help="spec.json of the run; its folder becomes the run's.")],
    corpus: CorpusFolder,
    inputs: Inputs = [],  # noqa: B006 - typer reads the default
    device: Device = "cpu",
    threads: Threads = 1,
    shard: Annotated[
        bool, typer.Option(help="Cut the model among the processes (FSDP), for one too large for each GPU.")
    ] = False,
) -> None:
    """Train one run. Killed or stopped, the same command continues it from its last checkpoint.

    On many GPUs: torchrun --standalone --nproc-per-node=N -m acodm_core.cli train ...
    """
    run_spec = _read_spec(spec)
    device = prepare(device, threads)
    from acodm_core.data.corpus import Corpus
    from acodm_core.lm.distributed.ranks import rank, together
    from acodm_core.lm.run.interrupts import Interrupted
    from acodm_core.lm.train import Trainer

    with together(device) as device:
        try:
            Trainer(run_spec, Corpus.open(corpus), spec.parent, _inputs(inputs), device, shard).run()
        except Interrupted as stop:
            if rank() == 0:
                print(stop, file=sys.stderr)
            raise typer.Exit(stop.status) from None


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def on_gpus(
    count: Annotated[int, typer.Argument(help="GPUs.", min=1)],
    command: Annotated[list[str], typer.Argument(help="A program and its arguments.")],
) -> None:
    """Run a program on GPUs of its own: free ones of this machine, as CUDA_VISIBLE_DEVICES; how rules share a machine."""
    from acodm_core.lm.distributed.gpu_locks import become

    become(command, count)


@app.command()
def collect(
    plan: Annotated[Path, typer.Argument(help="plan.json of the experiment.", dir_okay=False)],
    corpus: CorpusFolder,
    runs: Annotated[
        list[Path], typer.Option(help="Folder that holds runs; repeat for those of several machines or sittings.")
    ] = [Path("results/runs")],  # noqa: B006 - typer reads the default
    out: Annotated[Path | None, typer.Option(help="Where the tables go; default: the plan's folder.")] = None,
) -> None:
    """Put an experiment's finished runs together as tidy tables, checking every file; says what the runs differ in."""
    from acodm_core.data.corpus import Corpus
    from acodm_core.results.collect import collect as put_together
    from acodm_core.results.reader import Results, disagreements
    from acodm_core.study.planner import read_experiment

    folder = out or plan.parent
    put_together(*read_experiment(plan), Corpus.open(corpus), runs, folder)
    for words in disagreements(Results(folder).runs):
        print(f"The runs differ in {words}: the report says so", file=sys.stderr)


@app.command()
def probe(
    plan: Annotated[Path, typer.Argument(help="plan.json of the experiment.")],
    corpus: CorpusFolder,
    runs: Runs = Path("results/runs"),
    out: Annotated[Path | None, typer.Option(help="Where probe.parquet and memory.parquet go.")] = None,
    device: Device = "cpu",
    threads: Threads = 1,
    jobs: Annotated[int, typer.Option(help="Memory probes at once (on a CPU).", min=1)] = 1,
) -> None:
    """Time every method's step against the plain step in interleaved blocks, and read peak memories."""
    from acodm_core.study.planner import read_experiment

    experiment, planned = read_experiment(plan)
    device = prepare(device, threads)
    from acodm_core.data.corpus import Corpus
    from acodm_core.lm import overhead as probing
    from acodm_core.results.table_files import write_frame

    folder = out or plan.parent / "probe"
    frame = probing.probe_time(planned, Corpus.open(corpus), runs, experiment.probe, device)
    write_frame(frame, folder / "probe.parquet")
    memory = probing.probe_memory(planned, corpus, runs, experiment.probe, device, jobs)
    write_frame(memory, folder / "memory.parquet")
    print("\n".join(probing.summary(frame)))


@app.command()
def blend(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, results/runs/RUN.")],
    to: Annotated[str, typer.Option(help="weights, doremi, megatron, datasets, torchtitan, or path: step by step.")],
    of: Annotated[str, typer.Option(help="mean: of the whole run; last: what it asked for at the end.")] = "mean",
    name: Annotated[
        list[str], typer.Option(help="DOMAIN=NAME: its path or dataset where the blend is read; repeat for more.")
    ] = [],  # noqa: B006 - typer reads the default
    out: Annotated[Path | None, typer.Option(help="Write a file in place of printing.")] = None,
) -> None:
    """Print a run's mixture for another trainer: Megatron, torchtitan, interleave_datasets, DoReMi.

    How to use it: docs/how-to/mixture-for-another-trainer.md
    """
    from typing import get_args

    from acodm_core.errors import unknown_name
    from acodm_core.files import atomic
    from acodm_core.results import export_mixture as blends

    if of not in get_args(blends.Of):
        raise unknown_name("choice", of, get_args(blends.Of), where="--of")
    if wrong := [pair for pair in name if "=" not in pair]:
        raise UserError(
            f"got {wrong[0]!r}", where="--name", fix="write DOMAIN=NAME, e.g. --name code=data/code_text_document"
        )
    text = blends.blend(run, to, of=of, names=dict(pair.split("=", 1) for pair in name))
    if out is None:
        print(text, end="")
        return
    with atomic(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


@app.command(hidden=True)
def probe_memory(
    spec: Path,
    corpus: CorpusFolder,
    out: Annotated[Path, typer.Option()],
    steps: int = 2,
    inputs: Inputs = [],  # noqa: B006
    device: Device = "cpu",
) -> None:
    """Peak memory of a few training steps, in this process (called by `probe`)."""
    run_spec = _read_spec(spec)
    device = prepare(device, 1)
    from acodm_core.data.corpus import Corpus
    from acodm_core.files import write_json
    from acodm_core.lm.overhead import memory_of

    write_json(out, memory_of(run_spec, Corpus.open(corpus), _inputs(inputs), device, steps))


def _read_spec(path: Path):
    from acodm_core.files import read_json
    from acodm_core.settings.types import checked
    from acodm_core.study.planner import RunSpec

    fix = "plan again: snakemake, or acodm plan --write"
    spec = checked(RunSpec, read_json(path, fix=fix), where=str(path))
    folder = path.resolve().parent.name
    if re.fullmatch(r".+-s\d+-[0-9a-f]{10}", folder) and folder != spec.run:
        raise UserError(f"a spec of the run {spec.run}, in the folder of another", where=str(path), fix=fix)
    return spec


def _inputs(pairs: list[str]) -> dict[str, Path | tuple[Path, ...]]:
    """Role -> folder; all folders of a role that was given more than once."""
    folders: dict[str, tuple[Path, ...]] = {}
    for pair in pairs:
        if "=" not in pair:
            raise UserError(
                f"got {pair!r}", where="--input", fix="write ROLE=FOLDER, e.g. --input actor=results/runs/NAME"
            )
        role, folder = pair.split("=", 1)
        folders[role] = (*folders.get(role, ()), Path(folder))
    return {role: given[0] if len(given) == 1 else given for role, given in folders.items()}


def main() -> None:
    """Entry point of ``acodm``."""
    entry.run("acodm", _program)


def _program() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    app()


if __name__ == "__main__":
    main()
