"""``acodm reproduce``: an experiment from its archives to its report, by Snakemake, with a display that can be followed."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from acodm_core.entry import Stopped
from acodm_core.errors import UserError, unknown_name

PRESETS = Path("workflow/config")


def reproduce(
    context: typer.Context,
    preset: Annotated[
        str, typer.Argument(help="Name of a preset, workflow/config/NAME.yaml, or a YAML file.")
    ] = "quick",
) -> None:
    """Run an experiment to its report, show how far it is, and print its main table. Killed, the same command goes on.

    What follows goes to Snakemake: acodm reproduce quick --cores 1
    """
    config = find_preset(preset)
    from acodm_core.study.config import load_experiment

    experiment = load_experiment(config)
    _run(config, context.args)
    results = f"results/{experiment.experiment}"
    program = [sys.executable, "-m", "acodm_analysis.comparison", results, f"{results}/rendered", "--print"]
    if status := subprocess.run(program).returncode:
        raise typer.Exit(status)
    print(f"Report: {results}/report.html")


def find_preset(name: str) -> Path:
    """The configuration that ``name`` means: a preset's, or a file of the user's.

    Raises:
        UserError: there is none, or this is not the project's folder.
    """
    if not Path("Snakefile").is_file():
        raise UserError("no Snakefile here", where=str(Path.cwd()), fix="run this in the project's folder")
    if name.endswith((".yaml", ".yml")) and Path(name).is_file():
        return Path(name)
    presets = {path.stem: path for path in PRESETS.rglob("*.yaml")}
    if name not in presets:
        raise unknown_name("preset", name, presets, where="PRESET")
    return presets[name]


def _run(config: Path, arguments: list[str]) -> None:
    from rich.console import Console
    from snakemake.cli import main
    from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

    from acodm_core.reproducing import display

    screen = display.LogHandler.screen = display.Screen(_work(config), Console(stderr=True, highlight=False))
    LoggerPluginRegistry().register_plugin("snakemake_logger_plugin_acodm", display)
    logging.getLogger("snakemake").propagate = False  # its messages go to the screen alone

    def stop(*_: object) -> None:
        screen.stopped = True
        raise KeyboardInterrupt  # on which Snakemake waits for its jobs, which the terminal has told, too

    before = signal.signal(signal.SIGINT, stop)
    screen.begin()
    try:
        main(["--configfile", str(config), "--logger", "acodm", "--rerun-incomplete", *arguments])
    except SystemExit as end:
        status = end.code
    finally:
        screen.close()
        signal.signal(signal.SIGINT, before)
    if screen.stopped:
        raise Stopped
    if status and not screen.failed and not screen.said:
        raise typer.Exit(status)  # the Snakefile has said why
    if status:
        raise _failure(screen)


def _work(config: Path):
    from acodm_core.planning.estimate import jobs
    from acodm_core.reproducing.remaining_work import Work
    from acodm_core.study.config import load_experiment
    from acodm_core.study.files_on_disk import grounded
    from acodm_core.study.planner import plan

    experiment = grounded(load_experiment(config))
    slots = 1 if experiment.resources.gpus else jobs(experiment)
    return Work(experiment, plan(experiment), slots, os.cpu_count() or 1)


def _failure(screen) -> UserError:
    """What ended the run, in a line or two; the jobs' own messages were shown when they came."""
    from acodm_core.reproducing.folder_locks import holder

    if screen.failed:
        names = ", ".join(name for name, _ in screen.failed[:3])
        more = f" and {len(screen.failed) - 3} more" if len(screen.failed) > 3 else ""
        return UserError(
            f"{len(screen.failed)} of {sum(screen.work.totals.values())} jobs failed: {names}{more}",
            fix="mend what the messages above say, and run the same command: what is finished is kept",
        )
    said = "\n".join(screen.said).strip()
    if "cannot be locked" in said:
        return UserError(f"another Snakemake works in this folder: process {holder()}", fix="wait for it, or stop it")
    return UserError(said, fix="its own log is the newest file in .snakemake/log")
