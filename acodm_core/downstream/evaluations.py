"""Which checkpoints are asked which tasks, and where the answers lie: ``runs/RUN/downstream/TASK-DIGEST``.

An evaluation is a command, and its folder is named by the command's digest: experiments that share a run share its answers,
and what one of them asks does not disturb another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from acodm_core import PROTOCOL
from acodm_core.downstream import lm_eval_names
from acodm_core.errors import UserError, unknown_name
from acodm_core.files import digest, read_json
from acodm_core.settings.types import checked
from acodm_core.settings.yaml_files import assignments
from acodm_core.study.config import DownstreamConfig, Experiment, load_experiment
from acodm_core.study.files_on_disk import grounded
from acodm_core.study.model_trials import check_models
from acodm_core.study.planner import Plan, plan

if TYPE_CHECKING:
    import pandas as pd

_MMLU = re.compile(r"mmlu_([05])shot$")


@dataclass(frozen=True)
class Evaluation:
    """One task on one checkpoint.

    Attributes:
        run: the run that is asked.
        step: the snapshot's step; None: the run's end.
        command: arguments of ``acodm downstream`` that decide the answers.
    """

    run: str
    task: str
    step: int | None
    command: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the folder below ``runs/RUN/downstream``."""
        at = "" if self.step is None else f"-step-{self.step:06d}"
        return f"{self.task}-{digest([PROTOCOL, *self.command])}{at}"

    @property
    def of_mmlu(self) -> bool:
        """Whether it needs MMLU's questions."""
        return self.command[0] == "mmlu"

    @property
    def folder(self) -> Path:
        """Below the folder of all runs; holds ``scores.parquet`` and, written last, ``manifest.json``."""
        return Path(self.run, "downstream", self.name)

    @property
    def arguments(self) -> list[str]:
        """The command with the snapshot, word by word."""
        return [*self.command, *([] if self.step is None else ["--step", str(self.step)])]


def configured(
    files: Iterable[Path], words: Iterable[str] = (), *, files_may_lack: bool = False
) -> tuple[Experiment, Plan, dict[tuple[str, str], Evaluation]]:
    """The experiment that YAML files and ``KEY=VALUE`` words describe, later over earlier; its runs; and what they are asked.

    Everything that can be known to be wrong before a run is refused here, for the workflow and for ``acodm plan`` alike.

    Args:
        files_may_lack: as of ``grounded``.

    Raises:
        UserError: as of ``load_experiment``, ``grounded``, ``plan``, ``evaluations`` and ``check_models``.
    """
    experiment = grounded(load_experiment(*files, assignments(words)), files_may_lack=files_may_lack)
    planned = plan(experiment)
    asked = evaluations(planned, experiment.downstream)
    check_models(planned)
    return experiment, planned, asked


def evaluations(planned: Plan, asked: DownstreamConfig | None) -> dict[tuple[str, str], Evaluation]:
    """(run, folder's name) -> evaluation, in the order of ``planned``; none where nothing is asked.

    Raises:
        UserError: an unknown method, task or subject, or snapshots that the runs do not keep.
    """
    if asked is None:
        return {}
    for i, method in enumerate(asked.methods):
        if method not in planned.compared:
            raise unknown_name("compared method", method, planned.compared, where=f"downstream.methods[{i}]")
    _check_names(asked)
    commands = {task: command(asked, task) for task in asked.tasks}
    found: dict[tuple[str, str], Evaluation] = {}
    for method, runs in planned.compared.items():
        for run in runs if method in asked.methods or not asked.methods else ():
            for step in _steps(planned, run, asked):
                for task, words in commands.items():
                    one = Evaluation(run, task, step, words)
                    found[run, one.name] = one
    return found


def _check_names(asked: DownstreamConfig) -> None:
    for i, task in enumerate(asked.tasks):
        if task != "humaneval" and not _MMLU.match(task):
            lm_eval_names.check_task(task, f"downstream.tasks[{i}]")
    for i, subject in enumerate(asked.subjects):
        if subject not in lm_eval_names.subjects():
            raise unknown_name("subject", subject, lm_eval_names.subjects(), where=f"downstream.subjects[{i}]")


def _steps(planned: Plan, run: str, asked: DownstreamConfig) -> list[int | None]:
    if asked.checkpoints == "final":
        return [None]
    spec = planned.runs[run]
    steps = sorted(spec.evaluation.snapshot_steps(spec.training.steps))
    if not steps:
        raise UserError(
            "these runs keep no snapshots", where="downstream.checkpoints", fix="evaluation: {snapshots: [0, 0.5]}"
        )
    return [*steps, None]


def command(asked: DownstreamConfig, task: str) -> tuple[str, ...]:
    """The arguments of ``acodm downstream`` for a task: the program, and every setting that decides its answers."""
    limit = () if asked.limit is None else ("--limit", str(asked.limit))
    if mmlu := _MMLU.match(task):
        subjects = [word for subject in asked.subjects for word in ("--subject", subject)]
        return ("mmlu", "--shots", mmlu[1], "--source", asked.source, *subjects, *limit)
    if task == "humaneval":
        settings = asked.humaneval.model_dump(exclude={"k"}, exclude_none=True)
        flags = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        return ("humaneval", *flags, *(word for k in asked.humaneval.k for word in ("--k", str(k))), *limit)
    return ("tasks", "--task", task, *limit)


def read_settings(path: Path) -> DownstreamConfig:
    """The settings that a workflow wrote as JSON."""
    return checked(DownstreamConfig, read_json(path), where=str(path))


def gather(planned: Plan, asked: DownstreamConfig, roots: Sequence[Path], out: Path) -> None:
    """Put the scores of every planned evaluation together as one table of SCORES.

    Args:
        roots: folders of runs; an evaluation may be in more than one if its scores are equal.

    Raises:
        UserError: an evaluation that is missing, of another run or step, there twice with different scores, or another table.
    """
    import pandas as pd  # heavy, and every parse of the Snakefile imports this module

    from acodm_core.results.table_files import write_scores

    tables = [_answers(roots, one) for one in evaluations(planned, asked).values()]
    frame = pd.concat(tables, ignore_index=True).astype(object)
    write_scores(frame.where(frame.notna(), None).to_dict("records"), out)


def _answers(roots: Sequence[Path], one: Evaluation) -> pd.DataFrame:
    """The scores of ``one`` in the first of ``roots`` that has them."""
    there = [root / one.folder for root in roots if (root / one.folder / "manifest.json").exists()]
    first, *others = [_scores(folder, one) for folder in there or [roots[0] / one.folder]]
    for folder, found in zip(there[1:], others, strict=True):
        if not found.equals(first):
            raise UserError(
                f"evaluated twice, with different scores: they are not those of {there[0]}",
                where=str(folder),
                fix="remove one of the two",
            )
    return first


def _scores(folder: Path, one: Evaluation) -> pd.DataFrame:
    from acodm_core.results.schemas import SCORES
    from acodm_core.results.table_files import read_frame

    manifest = read_json(folder / "manifest.json")
    told = [manifest.get(key) for key in ("run", "step", "status")]
    if told != [one.run, told[1] if one.step is None else one.step, "finished"]:
        raise UserError(
            f"not the finished evaluation of {one.run}, but of {told[0]} at step {told[1]}",
            where=str(folder / "manifest.json"),
            fix=f"delete {folder} and evaluate again",
        )
    frame = read_frame(folder / "scores.parquet", fix=f"delete {folder} and evaluate again")
    if missing := set(SCORES.names) - set(frame.columns):
        raise UserError(
            f"another table: it has no column {', '.join(sorted(missing))}", where=str(folder / "scores.parquet")
        )
    return frame
