"""Checkpoints for resuming a run: whole or absent, verified before use, the last two kept."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acodm_core.errors import UserError
from acodm_core.files import atomic, sha256
from acodm_core.lm.distributed.ranks import rank
from acodm_core.lm.distributed.sharding import whole_state

FORMAT = 1  # of what a checkpoint holds and means
log = logging.getLogger(__name__)
# What a mixer's state may hold beside tensors and plain values; everything else in a checkpoint is refused.
_ALLOWED = [
    np.empty(0).__reduce__()[0],  # what makes an array again, and what a scalar: numpy has no public name for either
    np.float64().__reduce__()[0],
    np.ndarray,
    np.dtype,
    bytes,  # how an empty array is pickled
    *(type(np.dtype(t)) for t in (np.float64, np.float32, np.int64, np.int32, np.bool_, np.uint32, np.uint64)),
]


def save(folder: Path, step: int, state: dict[str, Any], *, keep: int = 2) -> None:
    """Write ``state`` as the checkpoint of ``step``; its hash, written last, is what makes it count.

    Every rank calls it, because ``state`` may hold parts of tensors; the first one writes them whole.
    """
    state = whole_state(state)
    if rank() > 0:
        return
    path = folder / f"step-{step:08d}.pt"
    with atomic(path) as temporary:
        with open(temporary, "wb") as file:  # torch names no cause when it cannot write to a file that it opened itself
            torch.save({"format": FORMAT, **state}, file)
        checksum = sha256(temporary)
    with atomic(path.with_suffix(".sha256")) as temporary:
        temporary.write_text(checksum + "\n", encoding="ascii")
    marked = sorted(mark.stem for mark in folder.glob("step-*.sha256"))
    end = marked.index(path.stem) + 1  # a later one is damaged: we began before it
    kept = marked[max(0, end - keep) : end]
    for old in sorted(folder.glob("step-*"), reverse=True):  # the mark before its checkpoint
        if old.stem not in kept:
            old.unlink()


def load_latest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint whose bytes are what was written, or None. A damaged one is named and passed over.

    Raises:
        UserError: it was written by a version of this program that kept something else.
    """
    marks = sorted(folder.glob("step-*.sha256"), reverse=True)
    for mark in marks:
        path = mark.with_suffix(".pt")
        if not path.exists() or sha256(path) != mark.read_text(encoding="ascii", errors="replace").strip():
            way = "beginning again" if mark == marks[-1] else "falling back to the one before"
            log.warning("%s is damaged (its SHA-256 differs from the one written): %s", path, way)
            continue
        with readable_mismatch(folder), torch.serialization.safe_globals(_ALLOWED):
            state = torch.load(path, weights_only=True, map_location="cpu")  # of every rank, not of the first one's GPU
            if (found := state.pop("format", FORMAT)) != FORMAT:
                raise ValueError(f"it has format {found}, this program {FORMAT}")
            return state
    return None


@contextmanager
def readable_mismatch(folder: Path) -> Iterator[None]:
    """A UserError in place of what goes wrong where the checkpoint in ``folder`` does not fit the program or the run."""
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(
            f"the checkpoint does not fit: another version of the program wrote it, or another run ({_reason(error)})",
            where=str(folder),
            fix="continue with that version, or remove this folder to begin the run again",
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    if isinstance(error, pickle.UnpicklingError) and (refused := re.search(r"GLOBAL (\S+)", str(error))):
        return f"it holds a {refused[1]}, which is not loaded"
    return " ".join(str(error).split())[:200]
