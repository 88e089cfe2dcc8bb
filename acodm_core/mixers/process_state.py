"""What all code of a process shares: a mixer that changes it changes what others compute, or where they write."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import numpy as np

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def state() -> dict[str, Any]:
    """All that is shared as it is now, by its name in a message. Some microseconds."""
    streams = (sys.stdout, sys.stderr)
    found = {
        "the process: it forked": os.getpid(),
        "the working folder": _working_folder(),
        "what numpy does about errors": np.geterr(),
        "what signals do": [signal.getsignal(number) for number in _SIGNALS],
        "the standard streams": [(id(stream), getattr(stream, "closed", False)) for stream in streams],
    }
    if torch := sys.modules.get("torch"):
        found |= {
            "whether torch keeps gradients": torch.is_grad_enabled(),
            "torch's default type": torch.get_default_dtype(),
            "torch's default device": torch.get_default_device(),
            "torch's threads": torch.get_num_threads(),
            "how torch multiplies": torch.get_float32_matmul_precision(),
            "whether torch is deterministic": torch.are_deterministic_algorithms_enabled(),
        }
    return found


def changed(before: dict[str, Any]) -> str:
    """The name of the first thing that is not as it was ``before``; nothing where all is."""
    now = state()
    return next((name for name, value in before.items() if now[name] != value), "")


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "deleted"
