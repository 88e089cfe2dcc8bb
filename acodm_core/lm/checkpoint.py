"""Checkpoints for resuming a run: whole or absent, verified before use, the last two kept."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acodm_core.errors import UserError
from acodm_core.files import atomic, sha256

log = logging.getLogger(__name__)
# What a mixer's state may hold beside tensors and plain values; everything else in a checkpoint is refused.
_ALLOWED = [
    np._core.multiarray._reconstruct,
    np._core.multiarray.scalar,
    np.ndarray,
    np.dtype,
    bytes,  # how an empty array is pickled
    *(type(np.dtype(t)) for t in (np.float64, np.float32, np.int64, np.int32, np.bool_, np.uint32, np.uint64)),
]


def save(folder: Path, step: int, state: dict[str, Any], *, keep: int = 2) -> None:
    """Write ``state`` as the checkpoint of ``step``; its hash, written last, is what makes it count."""
    path = folder / f"step-{step:08d}.pt"
    with atomic(path) as temporary:
        torch.save(state, temporary)
        checksum = sha256(temporary)
    with atomic(path.with_suffix(".sha256")) as temporary:
        temporary.write_text(checksum + "\n")
    marks = sorted(folder.glob("step-*.sha256"))
    own = marks.index(path.with_suffix(".sha256"))
    for mark in marks[: max(0, own + 1 - keep)] + marks[own + 1 :]:  # a later one is damaged: we began before it
        mark.unlink()
        mark.with_suffix(".pt").unlink(missing_ok=True)


def load_latest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint whose bytes are what was written, or None. A damaged one is named and passed over."""
    for left in folder.glob(".*.part"):  # of a process that was killed while it wrote
        left.unlink()
    for mark in sorted(folder.glob("step-*.sha256"), reverse=True):
        path = mark.with_suffix(".pt")
        if not path.exists() or sha256(path) != mark.read_text().strip():
            log.warning(
                "%s is damaged (its SHA-256 differs from the one written): falling back to the one before", path
            )
            continue
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(path, weights_only=True)
    return None


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the run's folder for this process; UserError if another process trains there (an orphan of a killed workflow)."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                "another process is training this run",
                where=str(folder.parent),
                fix="wait for it, or stop it, and try again",
            ) from None
        yield
