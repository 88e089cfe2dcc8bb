"""GPUs for jobs that share a machine: each takes free ones for itself, by locks that end with the process that holds them.

Where a batch system has already given the job its devices, in CUDA_VISIBLE_DEVICES, and as many as it needs, nothing is left to do.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from acodm_core.errors import UserError


def visible(environment: Mapping[str, str]) -> list[str]:
    """The devices this process may use: what CUDA_VISIBLE_DEVICES lists, else the UUIDs that the NVIDIA driver reports."""
    if (listed := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in listed.split(",") if name.strip()]
    try:
        command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


def take(count: int, devices: Sequence[str], folder: Path) -> list[str]:
    """``count`` of ``devices`` that no other job holds, locked until this process, or what it becomes, ends.

    Args:
        folder: where the locks are; jobs that share devices share it.

    Raises:
        UserError: fewer are free.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken: list[str] = []
    held: list[int] = []
    for device in devices:
        if len(taken) == count:
            break
        lock = os.open(folder / f"{device.replace('/', '_')}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        os.set_inheritable(lock, True)  # the program that replaces this one keeps it
        taken.append(device)
        held.append(lock)
    if len(taken) < count:
        for lock in held:
            os.close(lock)
        raise UserError(
            f"{count} GPUs are asked for, and of the {len(devices)} here {len(taken)} are free",
            where="resources.gpus",
            fix=f"snakemake --resources gpu={len(devices)}, or wait for the other workflow on this machine",
        )
    return taken


def become(command: Sequence[str], count: int) -> None:
    """Replace this process by ``command`` with ``count`` GPUs of its own; with all it sees where nobody lists them."""
    devices = visible(os.environ)
    given = "CUDA_VISIBLE_DEVICES" in os.environ and len(devices) == count  # numbers mean other devices in another job
    if devices and not given:
        folder = Path(tempfile.gettempdir()) / f"acodm-gpus-{os.getuid()}"
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(take(count, devices, folder))
    os.execvp(command[0], command)
