"""Made-up finished runs: a manifest for whatever lies in a folder, as a trainer writes it last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acodm_core.files import write_json
from acodm_core.seals import checksums


def finish(folder: Path, **changes: Any) -> None:
    """Write the ``manifest.json`` of a run that left the files which lie in ``folder``."""
    names = [path.name for path in folder.iterdir() if path.is_file() and path.name != "manifest.json"]
    manifest = {"run": folder.name, "status": "finished", "steps": 1, "spec": {}, "corpus": ""}
    write_json(folder / "manifest.json", manifest | {"artefacts": checksums(folder, names)} | changes)
