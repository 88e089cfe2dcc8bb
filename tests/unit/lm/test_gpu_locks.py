"""Jobs that share a machine get devices of their own; no GPU is needed to see that."""

import os
import subprocess
import sys

import pytest

from acodm_core.errors import UserError
from acodm_core.lm.distributed.gpu_locks import take, visible

FOUR = ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]


def holder(folder, count: int) -> tuple[subprocess.Popen, list[str]]:
    """A process that became another program while it held devices, and which."""
    program = (
        "import os, sys; from pathlib import Path; from acodm_core.lm.distributed.gpu_locks import take\n"
        f"print(*take({count}, {FOUR}, Path({str(folder)!r})), flush=True)\n"
        "os.execvp('sleep', ['sleep', '60'])"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().split()


def test_what_a_job_holds_no_other_gets_until_it_ends(tmp_path):
    process, theirs = holder(tmp_path, 3)
    try:
        assert theirs == FOUR[:3]
        with pytest.raises(UserError, match="2 GPUs are asked for, and of the 4 here 1 are free"):
            take(2, FOUR, tmp_path)
        assert take(1, FOUR, tmp_path) == ["GPU-d"], "the refused job left it free"
    finally:
        process.kill()
        process.wait()
    assert take(2, FOUR, tmp_path) == FOUR[:2]


def test_the_devices_are_those_that_a_batch_system_listed():
    assert visible({"CUDA_VISIBLE_DEVICES": "0, GPU-b"}) == ["0", "GPU-b"]
    assert visible({"CUDA_VISIBLE_DEVICES": ""}) == []


@pytest.mark.parametrize(
    ("seen", "given", "locked"), [("GPU-a,GPU-b", "GPU-a", True), ("3", "3", False), ("", "", False)]
)
def test_the_program_sees_its_devices_alone_and_a_batch_systems_choice_is_left_alone(seen, given, locked, tmp_path):
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": seen, "TMPDIR": str(tmp_path)}
    command = [
        sys.executable,
        "-m",
        "acodm_core.cli",
        "on-gpus",
        "1",
        "sh",
        "-c",
        "echo [$CUDA_VISIBLE_DEVICES] $0",
        "--flag",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == f"[{given}] --flag\n", done.stderr
    assert bool([*tmp_path.rglob("*.lock")]) == locked
