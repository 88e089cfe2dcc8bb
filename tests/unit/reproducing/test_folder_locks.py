"""A Snakemake that is killed leaves nothing behind that stops the next one; one that lives is respected."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from workflow_runs import ROOT, snakemake

from acodm_core.errors import UserError
from acodm_core.reproducing.folder_locks import hold, holder

LOCK = Path(".snakemake/locks/0.output.lock")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    LOCK.parent.mkdir(parents=True)
    LOCK.write_text("a\n")
    return tmp_path


def test_locks_of_the_dead_go_and_locks_of_the_living_stay(here: Path) -> None:
    first = hold([])
    assert not LOCK.exists()
    LOCK.parent.mkdir()
    LOCK.write_text("a\n")
    second = hold([])
    assert LOCK.exists() and holder().startswith(f"{os.getpid()} on ")
    first.close()
    third = hold([])
    assert LOCK.exists(), "the second still lives"
    second.close(), third.close()
    hold([]).close()
    assert not LOCK.exists()


def test_a_training_that_outlived_its_snakemake_is_named(here: Path) -> None:
    lock = here / "results/runs/odm-s0-1/state/lock"
    lock.parent.mkdir(parents=True)
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="odm-s0-1"):
            hold(["odm-s0-1", "odm-s1-2"])
    hold(["odm-s0-1"]).close()


def test_a_killed_snakemake_is_begun_again_by_the_same_command(tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    text.write_text(
        "".join(f'{{"text": "{i} and {i + 1} make {2 * i + 1}, which nobody doubts."}}\n' for i in range(90))
    )
    domains = {"sums": {"from": "files", "paths": [str(text)], "format": "jsonl"}}
    config = tmp_path / "config.yaml"
    overlay = {"experiment": "killed", "compare": ["natural"], "seeds": [0], "downstream": None}
    config.write_text(yaml.safe_dump(overlay | {"corpus": {"name": "killed", "domains": domains}}))
    arguments = ["--configfile", str(config), "--cores", "2", "--rerun-incomplete", "--until", "documents"]
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [*command, *arguments], env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob(".snakemake/locks/*.lock")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob(".snakemake/locks/*.lock")), "the locks that stopped the next one"
    done = snakemake(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list(tmp_path.glob("data/corpora/*/documents/sums.parquet"))) == 1
