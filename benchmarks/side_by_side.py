"""What benchmarks that compare ways of doing the same thing share: waiting for the device, and memory of a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys

import torch

from acodm_core.measure import provenance


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak_of_fresh_process(program: str, *of: str) -> int:
    """Peak bytes, device's or else host's, of ``program`` run again with this process's arguments and ``--memory-of`` ``of``."""
    done = subprocess.run([sys.executable, program, *sys.argv[1:], "--memory-of", *of], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"memory of {' '.join(of)}:\n{done.stderr}")
    peaks = json.loads(done.stdout.splitlines()[-1])
    return peaks["device_bytes"] or peaks["host_bytes"]


def print_peak(device: str) -> None:
    """In the fresh process, at its end."""
    print(json.dumps(provenance.peak_memory(device)))
