"""When an evaluation need not be run again: the manifest, written last, says what it is of."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acodm_core import PROTOCOL
from acodm_core.files import read_json, write_json

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
