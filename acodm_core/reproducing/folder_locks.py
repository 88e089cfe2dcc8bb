"""Who works in this folder: a Snakemake that was killed leaves locks behind, and nobody should have to remove them by hand."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from acodm_core.errors import UserError

SNAKEMAKE = Path(".snakemake")
HELD = "held"  # below it: a file that the kernel frees when its holders end, however they end
LOCKS = "locks"  # below it: Snakemake's own, which outlive a process that is killed


def hold(runs: Iterable[str]) -> IO[str]:
    """Hold this folder as one of the Snakemakes that work here, until the file that is returned is closed.

    The first to come removes the locks that killed ones left. Where others are alive Snakemake's locks stay, and decide.

    Args:
        runs: names of the runs of the plan.

    Raises:
        UserError: one of them is still trained by a process whose Snakemake was killed.
    """
    SNAKEMAKE.mkdir(exist_ok=True)
    file = open(SNAKEMAKE / HELD, "a+", encoding="utf-8")  # noqa: SIM115 - open for as long as the process lives
    if _locked(file, fcntl.LOCK_EX):
        shutil.rmtree(SNAKEMAKE / LOCKS, ignore_errors=True)
        if trained := [run for run in runs if _is_trained(Path("results/runs", run))]:
            shown = ", ".join(trained[:3]) + (f" and {len(trained) - 3} more" if len(trained) > 3 else "")
            raise UserError(
                f"still trained by processes of a Snakemake that was killed: {shown}",
                where="results/runs",
                fix="wait for them, or stop them (`pgrep -f 'acodm train'`), and run the same command again",
            )
        file.truncate(0)
    fcntl.flock(file, fcntl.LOCK_SH)
    file.write(f"{os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


def holder() -> str:
    """The process that came last to this folder, ``PID on HOST``."""
    return (SNAKEMAKE / HELD).read_text(encoding="utf-8").splitlines()[-1]


def _locked(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_trained(folder: Path) -> bool:
    """Whether a process trains in this run's folder now."""
    try:
        with open(folder / "state" / "lock", encoding="utf-8") as file:
            return not _locked(file, fcntl.LOCK_SH)
    except OSError:  # nobody ever did
        return False
