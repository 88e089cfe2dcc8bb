"""What programs do before they compute."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource
import torch
from acodm_core.lm.kernels.device import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
keep_freed_memory()
faults()
print(faults())
"""


def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    given_back, kept = map(int, done.stdout.split())
    assert given_back > 20 * 16_000  # pages of 4 kB in 64 MB: 16,384
    assert kept < 1000
