"""What an evaluation says of itself: its manifest, written last, says what it is of and so when it need not be run again.

An evaluation that has nothing to ask is a row with its reason, so that a table has no holes.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acodm_core import PROTOCOL
from acodm_core.files import read_json, write_json
from acodm_core.results.finished_run import read_manifest
from acodm_core.results.table_files import write_scores

if TYPE_CHECKING:
    from acodm_core.downstream.checkpoint import Checkpoint

MANIFEST = "manifest.json"
_PACKAGES = ("lm-eval", "transformers", "torch", "tokenizers", "datasets")


def finished(out: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest in ``out`` if it is of the evaluation that ``identity`` names: same weights, same questions, same settings."""
    path = out / MANIFEST
    manifest = read_json(path) if path.exists() else {}
    return manifest if manifest.get("identity") == identity else None


def write(out: Path, checkpoint: Checkpoint, identity: dict[str, Any], **counts: Any) -> dict[str, Any]:
    """Write and return the manifest of a finished evaluation."""
    manifest = {
        "protocol": PROTOCOL,
        "status": "finished",
        "run": checkpoint.run,
        "step": checkpoint.step,
        "identity": identity,
        **counts,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    write_json(out / MANIFEST, manifest)
    return manifest


def skipped_row(task: str, reason: str, shots: int | None = None) -> dict[str, Any]:
    """Of SCORES, without run and step."""
    return {"task": task, "shots": shots, "status": "skipped", "reason": reason}


def write_without_model(run: Path, out: Path, tasks: dict[str, int | None], step: int | None) -> str:
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
    write_scores([common | skipped_row(task, reason, shots) for task, shots in tasks.items()], out / "scores.parquet")
    told = {"protocol": PROTOCOL, "status": "finished", **common, "skipped": dict.fromkeys(tasks, reason)}
    write_json(out / MANIFEST, told)
    return reason
