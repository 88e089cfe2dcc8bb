"""Checkpoints: the newest whole one, or the one before, or none; and one process a folder."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from acodm_core.errors import UserError
from acodm_core.files import exclusive
from acodm_core.lm.run import checkpoint


def state(step: int) -> dict:
    return {"step": step, "weights": torch.arange(200.0) + step, "drawn": np.arange(3) + step}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (10, 20):
        checkpoint.save(tmp_path, step, state(step))
    return tmp_path


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    match how:
        case "truncated":
            path.write_bytes(data[: len(data) // 2])
        case "empty":
            path.write_bytes(b"")
        case "flipped":
            path.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
        case "gone":
            path.unlink()


HOW = ("truncated", "empty", "flipped", "gone")


def test_newest_comes_back_whole(folder: Path) -> None:
    found = checkpoint.load_latest(folder)
    assert found["step"] == 20
    assert torch.equal(found["weights"], state(20)["weights"])
    np.testing.assert_array_equal(found["drawn"], state(20)["drawn"])


def test_nothing_saved(tmp_path: Path) -> None:
    assert checkpoint.load_latest(tmp_path) is None
    assert checkpoint.load_latest(tmp_path / "absent") is None


@pytest.mark.parametrize("how", HOW)
def test_damaged_newest_falls_back_and_says_so(folder: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    damage(folder / "step-00000020.pt", how)
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load_latest(folder)["step"] == 10
    assert "step-00000020.pt" in caplog.text and "damaged" in caplog.text
    assert "step-00000010.pt" not in caplog.text


@pytest.mark.parametrize("how", HOW)
def test_both_damaged_is_none(folder: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    for step in (10, 20):
        damage(folder / f"step-000000{step}.pt", how)
    assert checkpoint.load_latest(folder) is None
    assert len(caplog.records) == 2


def test_damaged_later_ones_do_not_push_out_new_ones(folder: Path) -> None:
    """Both damaged, the run begins again: its first checkpoint is of an earlier step and has to survive."""
    for step in (10, 20):
        damage(folder / f"step-000000{step}.pt", "truncated")
    checkpoint.save(folder, 5, state(5))
    assert checkpoint.load_latest(folder)["step"] == 5


def test_damaged_mark_is_a_damaged_checkpoint(folder: Path) -> None:
    (folder / "step-00000020.sha256").write_bytes(b"\xff\x00\xfe garbage")
    assert checkpoint.load_latest(folder)["step"] == 10


def test_no_mark_no_checkpoint(folder: Path) -> None:
    """Killed between the two files: the step counts for nothing, and saving it again mends it."""
    (folder / "step-00000020.sha256").unlink()
    assert checkpoint.load_latest(folder)["step"] == 10
    checkpoint.save(folder, 20, state(20))
    assert checkpoint.load_latest(folder)["step"] == 20


def test_what_a_kill_left_unmarked_goes_with_the_next_save(folder: Path) -> None:
    """Killed between removing an old mark and its checkpoint, or between writing a checkpoint and its mark."""
    for step in (5, 15):
        (folder / f"step-{step:08d}.pt").write_bytes(b"no mark")
    checkpoint.save(folder, 30, state(30))
    assert sorted(p.stem for p in folder.glob("*.pt")) == ["step-00000020", "step-00000030"]


def test_half_written_files_are_ignored(folder: Path) -> None:
    for name in (".step-00000030.pt.77.part", ".step-00000030.sha256.77.part"):
        (folder / name).write_bytes(b"half")
    assert checkpoint.load_latest(folder)["step"] == 20


def test_a_failed_save_leaves_the_folder_as_it_was(folder: Path) -> None:
    before = sorted(p.name for p in folder.iterdir())
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        checkpoint.save(folder, 30, {"step": 30, "bad": lambda: None})
    assert sorted(p.name for p in folder.iterdir()) == before


def test_the_last_two_are_kept(folder: Path) -> None:
    for step in (30, 40, 50):
        checkpoint.save(folder, step, state(step))
    assert sorted(p.name for p in folder.iterdir()) == [
        f"step-000000{step}.{end}" for step in (40, 50) for end in ("pt", "sha256")
    ]


def test_empty_arrays_big_numbers_and_scalars_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    saved = {
        "rng": rng.bit_generator.state,
        "empty": np.zeros((0, 4), np.float32),
        "flags": np.array([True, False]),
        "scalar": np.float64(0.1),
        "count": np.int64(7),
        "nothing": None,
        "nested": [{"a": 1.5, "b": (1, 2)}],
    }
    checkpoint.save(tmp_path, 1, saved)
    found = checkpoint.load_latest(tmp_path)
    assert found["rng"] == saved["rng"]
    assert found["empty"].shape == (0, 4) and found["empty"].dtype == np.float32
    assert found["flags"].dtype == bool and found["scalar"] == 0.1 and found["nested"] == saved["nested"]


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickled_call_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    checkpoint.save(tmp_path, 1, {"step": 1, "payload": Malicious(trap)})
    with pytest.raises(UserError, match="mkdir"):
        checkpoint.load_latest(tmp_path)
    assert not trap.exists()


HOLD = """
import sys, pathlib
from acodm_core.errors import UserError
from acodm_core.files import exclusive
try:
    with exclusive(pathlib.Path(sys.argv[1]), "training this run"):
        print("held", flush=True)
        if sys.argv[2] == "wait":
            sys.stdin.read()
except UserError as error:
    print(error)
    sys.exit(3)
"""


def hold(folder: Path, mode: str) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLD, str(folder), mode]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_one_process_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "state"
    with exclusive(folder, "training this run"):
        second = hold(folder, "go")
        out, _ = second.communicate(timeout=60)
        assert second.returncode == 3 and "another process" in out and str(folder.parent) in out
    holder = hold(folder, "wait")
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process"), exclusive(folder, "training this run"):
            pass
    finally:
        holder.kill()  # a killed process holds nothing
        holder.wait()
    with exclusive(folder, "training this run"):
        pass
