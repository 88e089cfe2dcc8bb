"""What a run says about itself."""

import subprocess
import sys

import numpy as np

from acodm_core.study import provenance

CHILD = "from acodm_core.study.provenance import peak_memory; print(peak_memory('cpu')['host_bytes'])"


def test_peak_memory_is_the_process_own_and_not_its_parents():
    """A probe's children would otherwise all report the size of the process that started them."""
    ballast = np.ones(60_000_000)  # 480 MB
    child = int(subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True).stdout)
    assert ballast.nbytes < provenance.peak_memory("cpu")["host_bytes"]
    assert child < 200_000_000


def test_peak_memory_counts_what_was_freed_again():
    before = provenance.peak_memory("cpu")["host_bytes"]
    ballast = np.ones(int((before + 100_000_000) / 8))
    del ballast
    assert provenance.peak_memory("cpu")["host_bytes"] > before + 50_000_000


def test_versions_and_hardware_are_named():
    assert provenance.environment()["packages"]["torch"]
    found = provenance.hardware("cpu")
    assert found["cpu"] and found["threads"] >= 1 and found["gpu"] is None
