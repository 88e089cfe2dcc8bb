"""Any lm-eval task by its name, on a checkpoint. A task that cannot run here is a row with its reason, never a silence."""

from __future__ import annotations

import importlib.metadata
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lm_eval.tasks import TaskManager

from acodm_core.downstream import manifests
from acodm_core.downstream.checkpoint import Checkpoint
from acodm_core.downstream.compat import calmed
from acodm_core.downstream.harness import Answers, Model, TooLong, ask, new_tokens
from acodm_core.downstream.lm_eval_names import unknown_task
from acodm_core.errors import UserError
from acodm_core.files import digest, read_json, write_json
from acodm_core.results.table_files import write_scores

Progress = Callable[[str, str], None]  # called with a task's name and what became of it


@calmed()
def evaluate(
    checkpoint: Checkpoint,
    names: Sequence[str],
    out: Path,
    *,
    shots: int | None = None,
    too_long: TooLong = "fit",
    include: Path | None = None,
    limit: int | None = None,
    batch: int = 16,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write ``out``: scores.parquet and, last, manifest.json, which is returned.

    A task that was measured with these weights and settings is not asked again; one that was skipped is tried again.

    Args:
        names: tasks, groups or tags of lm-eval.
        shots: few-shot examples; None: as the task says.
        include: a folder of task files of one's own.

    Raises:
        UserError: lm-eval has no task of that name.
    """
    identity = {
        "tasks": list(names),
        "checkpoint": checkpoint.digest,
        "context": checkpoint.context,
        "shots": shots,
        "too_long": too_long,
        "limit": limit,
        "lm_eval": importlib.metadata.version("lm-eval"),
    }
    done = manifests.finished(out, identity)
    if done is not None and not done["skipped"]:
        return done
    kept = out / f"parts-{digest({k: v for k, v in identity.items() if k != 'tasks'})}"
    manager = _manager(names, include)
    model = Model(checkpoint, batch=batch)
    rows: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for name in names:
        path = kept / f"{name}.json"
        if not path.exists():
            try:
                write_json(path, {"rows": _measure(manager, name, model, shots, too_long, limit)})
            except _Skip as why:
                skipped[name] = str(why)
                rows.append({"task": name, "shots": shots, "status": "skipped", "reason": str(why)})
        if path.exists():
            rows += read_json(path)["rows"]
        if progress:
            progress(name, skipped.get(name, "measured"))
    write_scores([{"run": checkpoint.run, "step": checkpoint.step, **row} for row in rows], out / "scores.parquet")
    return manifests.write(out, checkpoint, identity, skipped=skipped)


class _Skip(Exception):
    """A task cannot run here."""


def _manager(names: Sequence[str], include: Path | None) -> TaskManager:
    """lm-eval's index of tasks; its own 14,000 names are only read (for ten seconds) where one of them is wanted."""
    if include is not None:
        if not include.is_dir():
            raise UserError("not a folder", where=str(include))
        own = TaskManager(include_path=str(include), include_defaults=False)
        if set(names) <= set(own.all_tasks):
            return own
    manager = TaskManager(include_path=None if include is None else str(include))
    for name in names:
        if name not in manager.all_tasks:
            raise unknown_task(name, manager.all_tasks)
    return manager


def _measure(
    manager: TaskManager, name: str, model: Model, shots: int | None, too_long: TooLong, limit: int | None
) -> list[dict[str, Any]]:
    """Rows of one name: of the task, or of all tasks of the group and then the group's."""
    try:
        tasks = manager.load(name)["tasks"]
    except Exception as error:  # task files run code of their own: no hub, no such package, no such file
        raise _Skip(_reason(error)) from error
    if not tasks:
        raise _Skip("lm-eval found no task of that name to run")
    for task in tasks.values():
        if why := _obstacle(task, model):
            raise _Skip(why)
    rows = []
    for leaf, task in tasks.items():
        asked = (task.config.num_fewshot or 0) if shots is None else shots
        try:
            answers = ask(model, task, shots=asked, too_long=too_long, limit=limit)
        except UserError:
            raise
        except Exception as error:  # again code of the task's own: it must not take the other tasks with it
            raise _Skip(f"it failed: {_reason(error)}") from error
        subject = "" if leaf == name else leaf
        rows += [{"task": name, "subject": subject, "shots": asked, **row} for row in _rows(answers, task)]
    return rows if name in tasks else rows + _together(rows)


def _rows(answers: Answers, task: Any) -> list[dict[str, Any]]:
    rows = []
    for metric, value in answers.metrics.items():
        value_N = np.array([sample.get(metric, math.nan) for sample in answers.samples], dtype=object)
        chance = math.nan
        if task.OUTPUT_TYPE == "multiple_choice" and metric in ("acc", "acc_norm", "acc_bytes"):
            chance = float(np.mean([1 / len(task.doc_to_choice(sample["doc"])) for sample in answers.samples]))
        rows.append({"metric": metric, "value": value, "n": len(value_N), "chance": chance})
        rows[-1]["standard_error"] = _error_of_mean(value_N, value)
    if answers.prompts:
        for metric, value in (
            ("shots_kept", np.mean([prompt.shots for prompt in answers.prompts])),
            ("cut_share", np.mean([prompt.cut for prompt in answers.prompts])),
        ):
            rows.append({"metric": metric, "value": float(value), "n": len(answers.prompts)})
    return rows


def _error_of_mean(value_N: np.ndarray, value: float) -> float:
    """The standard error, where the score is the mean of its questions' values; NaN where it is something else."""
    try:
        number_N = value_N.astype(np.float64)
    except (TypeError, ValueError):
        return math.nan
    if len(number_N) < 2 or not np.isclose(number_N.mean(), value):
        return math.nan
    return float(number_N.std(ddof=1) / math.sqrt(len(number_N)))


def _together(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A group's scores: the mean over all questions of its tasks."""
    together = []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        mine = [row for row in rows if row["metric"] == metric]
        n_T, value_T, error_T, chance_T = (
            np.array([row.get(key, math.nan) for row in mine], np.float64)
            for key in ("n", "value", "standard_error", "chance")
        )
        mixture_T = n_T / n_T.sum()
        together.append(
            mine[0]
            | {
                "subject": "",
                "n": int(n_T.sum()),
                "value": float(mixture_T @ value_T),
                "standard_error": float(np.sqrt(mixture_T**2 @ error_T**2)),
                "chance": float(mixture_T @ chance_T),
            }
        )
    return together


def _obstacle(task: Any, model: Model) -> str:
    """Why a loaded task cannot run here, or nothing."""
    if getattr(task, "UNSAFE_CODE", False):
        return "it runs code that the model wrote, outside a sandbox"
    if getattr(task, "MULTIMODAL", False):
        return "it shows more than text"
    if task.OUTPUT_TYPE == "generate_until":
        wanted = new_tokens(task.config.generation_kwargs or {})
        if wanted >= model.max_length:
            return f"it wants {wanted} tokens written, the model's whole context is {model.max_length}"
    return ""


def _reason(error: Exception) -> str:
    """One line: the kind of error and what it says."""
    text = " ".join(str(error).split())[:300]
    offline = isinstance(error, ConnectionError) or re.search(r"(?i)offline|couldn.t (reach|connect)|hub", text)
    return f"{'its data are on the Hugging Face hub, out of reach here: ' if offline else ''}{type(error).__name__}: {text}"
