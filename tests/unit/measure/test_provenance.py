"""What a run says about itself."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from acodm_core.measure import provenance

IGNORED = shutil.ignore_patterns("__pycache__")
IDENTITY = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
CHILD = "from acodm_core.measure.provenance import peak_memory; print(peak_memory('cpu')['host_bytes'])"


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


@pytest.fixture
def checkout(tmp_path):
    """A git checkout of the library, with one commit."""
    shutil.copytree(Path(provenance.__file__).parents[1], tmp_path / "acodm_core", ignore=IGNORED)
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "odm.py").write_text("RATE = 1\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run(["git", *IDENTITY, *command], cwd=tmp_path, check=True)
    return tmp_path


def code_in(folder: Path) -> dict:
    program = "import json; from acodm_core.measure import provenance; print(json.dumps(provenance.code()))"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", program], cwd="/", env=environment, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_a_checkout_without_changes_is_its_commit(checkout):
    found = code_in(checkout)
    assert len(found["commit"]) == 40 and found["modified"] is False and found["changed"] == []


def test_a_mixer_that_git_does_not_know_is_a_change(checkout):
    (checkout / "baselines" / "mine.py").write_text("RATE = 2\n")
    found = code_in(checkout)
    assert found["modified"] is True and found["changed"] == ["baselines/mine.py"]


def test_a_changed_file_is_a_change(checkout):
    (checkout / "baselines" / "odm.py").write_text("RATE = 2\n")
    assert code_in(checkout)["changed"] == ["baselines/odm.py"]


def test_what_is_no_code_is_no_change(checkout):
    (checkout / "notes.txt").write_text("later\n")
    assert code_in(checkout)["modified"] is False


def test_a_copy_inside_another_checkout_has_no_commit_of_it(checkout):
    """An environment inside a user's own project: that project's commit says nothing about this code."""
    subprocess.run(["git", *IDENTITY, "rm", "-rq", "--cached", "acodm_core"], cwd=checkout, check=True)
    subprocess.run(["git", *IDENTITY, "commit", "-qm", "no library"], cwd=checkout, check=True)
    found = code_in(checkout)
    assert found["commit"] is None and found["modified"] is None
