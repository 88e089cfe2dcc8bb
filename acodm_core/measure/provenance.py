"""Where a number comes from: code, environment and hardware, as they were when it was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acodm_core.measure.code_digest import code_files

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "scipy", "pandas", "pyarrow", "snakemake")


CODE = ("acodm_core", "baselines", "analysis", "workflow", "Snakefile", "pyproject.toml", "constraints.txt")


def code(*modules: str) -> dict[str, Any]:
    """This project's version and, in its git checkout, the commit and the files that differ from it, new ones included.

    Args:
        modules: whose code decided the result; they and what they import of their own package are listed with digests.
    """
    root = _checkout()
    changed = (
        _output("git", "-C", str(root), "status", "--porcelain", "--untracked-files=all", "--", *CODE) if root else None
    )
    return {
        "version": importlib.metadata.version("acodm-bench"),
        "commit": _output("git", "-C", str(root), "rev-parse", "HEAD") if root else None,
        "modified": None if changed is None else bool(changed),
        "changed": [line[3:] for line in (changed or "").splitlines()],
        "modules": code_files(*modules),
    }


def _checkout() -> Path | None:
    """The git checkout that this file is tracked in; None for an installed copy, also inside another project's checkout."""
    here = Path(__file__).resolve()
    if _output("git", "-C", str(here.parent), "ls-files", "--error-unmatch", here.name) is None:
        return None
    top = _output("git", "-C", str(here.parent), "rev-parse", "--show-toplevel")
    return Path(top) if top else None


def environment() -> dict[str, Any]:
    """Versions of Python and of the packages that numbers depend on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {"python": platform.python_version(), "packages": versions, "platform": platform.platform()}


def hardware(device: str) -> dict[str, Any]:
    """The processor, and the accelerator where one is used."""
    found = {"device": device, "cpu": _cpu_name(), "cores": os.cpu_count(), "threads": None, "gpu": None}
    import torch

    found["threads"] = torch.get_num_threads()
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def hardware_name(found: Mapping[str, Any]) -> str:
    """What ``hardware`` found, as tables call it: the GPU, or the processor and its threads."""
    return found["gpu"] or f"{found['cpu']}, {found['threads']} thread(s)"


def peak_memory(device: str) -> dict[str, int]:
    """Peak bytes of this process: of the host, and of the device where it is a GPU."""
    peaks = {"host_bytes": _peak_host_bytes(), "device_bytes": 0}
    if device.startswith("cuda"):
        import torch

        peaks["device_bytes"] = torch.cuda.max_memory_allocated(device)
    return peaks


def _peak_host_bytes() -> int:
    # Linux counts a parent's memory into the ru_maxrss of the process it starts, but not into VmHWM.
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.rstrip()
