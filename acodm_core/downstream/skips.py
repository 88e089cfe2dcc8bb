"""An evaluation that has nothing to ask is a row with its reason, so that a table has no holes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acodm_core import PROTOCOL
from acodm_core.downstream.manifests import MANIFEST
from acodm_core.files import write_json
from acodm_core.results.finished_run import read_manifest
from acodm_core.results.tables import write_scores


def row(task: str, reason: str, shots: int | None = None) -> dict[str, Any]:
    """Of SCORES, without run and step."""
    return {"task": task, "shots": shots, "status": "skipped", "reason": reason}


def without_model(run: Path, out: Path, tasks: dict[str, int | None], step: int | None) -> str:
    """Why ``run`` has no model to ask, written as ``out``: scores.parquet and manifest.json; "" where it has one.

    Args:
        tasks: what it was to be asked -> shots.
        step: of its snapshot; None: its end.

    Raises:
        UserError: no run there.
    """
    manifest = read_manifest(run)
    if manifest["status"] == "finished":
        return ""
    reason = f"the run ended as {manifest['status'].replace('_', ' ')} at step {manifest['steps']}"
    step = manifest["steps"] if step is None else step
    common = {"run": manifest["run"], "step": step}
    write_scores([common | row(task, reason, shots) for task, shots in tasks.items()], out / "scores.parquet")
    told = {"protocol": PROTOCOL, "status": "finished", **common, "skipped": dict.fromkeys(tasks, reason)}
    write_json(out / MANIFEST, told)
    return reason
