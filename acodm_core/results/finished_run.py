"""A finished run's folder as others read it: by its manifest, which was written last and holds the checksum of every file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acodm_core.errors import UserError
from acodm_core.files import read_json
from acodm_core.seals import verify

MANIFEST = "manifest.json"
KEYS = ("run", "status", "spec", "corpus", "artefacts")  # what no manifest of a run goes without


def read_manifest(folder: Path, *keys: str) -> dict[str, Any]:
    """What the run in ``folder`` wrote about itself; its files are not looked at.

    Args:
        keys: what it must have beside KEYS.

    Raises:
        UserError: no run came to an end there, or the manifest is damaged or another file.
    """
    path = Path(folder) / MANIFEST
    manifest = read_json(path, fix=mend(folder))
    if missing := sorted({*KEYS, *keys} - set(manifest)):
        raise UserError(f"not the manifest of a run: it has no {', '.join(missing)}", where=str(path), fix=mend(folder))
    return manifest


def require(folder: Path, *names: str) -> dict[str, Any]:
    """The manifest of the run in ``folder`` after its files ``names`` were checked; all but snapshots where none is named.

    Raises:
        UserError: as ``read_manifest``; or a file is missing, or is not as the run left it.
    """
    manifest = read_manifest(folder)
    artefacts = manifest["artefacts"]
    chosen = names or tuple(name for name in artefacts if not name.startswith("snapshots/"))
    verify(Path(folder), artefacts, *chosen, fix=mend(folder))
    return manifest


def mend(folder: Path) -> str:
    """What to do about a damaged file of a finished run: its last checkpoint makes all but snapshots again."""
    folder = Path(folder)
    return f"delete {folder / MANIFEST} and train again; for a snapshot delete {folder / 'state'}, too"
