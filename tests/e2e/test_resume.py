"""A run that is killed again and again ends in the same bytes as one that is left alone.

Every run is a process of its own that runs ``acodm train``. Most are forked from a server that has imported torch, so that a
start costs a tenth of a second instead of five; one run goes through the installed program.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from acodm_core.files import read_json, write_json
from acodm_core.study.planner import RunSpec, plan

TABLES = ("metrics.parquet", "mixture.parquet", "diagnostics.parquet", "weights.safetensors")
STEPS, EVERY = 63, 6
SERVER = """
import os, sys
import acodm_core.lm.train, acodm_core.data.corpus, transformers.models.gpt_neox.modeling_gpt_neox
from acodm_core import cli
print("ready", flush=True)
for line in sys.stdin:
    arguments = line.split()
    pid = os.fork()
    if pid == 0:
        sys.argv = ["acodm", *arguments[1:]]
        log = os.open(arguments[0], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1), os.dup2(log, 2)
        os.close(0)
        cli.main()
        os._exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Process:
    """A training process that can be waited for and killed."""

    def __init__(self, server: subprocess.Popen) -> None:
        self.server = server
        self.pid = int(server.stdout.readline())

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        return int(self.server.stdout.readline())


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.stdin.close()
    process.wait(timeout=20)


@pytest.fixture(scope="module")
def specs(experiment_of) -> dict[str, RunSpec]:
    methods = {"acodm": {"options": {"min_pool": 4, "warmup": 0.1}}}
    compare = ["uniform", "odm", "acodm", "acodm_proxy"]
    recipe = {"steps": STEPS, "checkpoint_every": EVERY}
    planned = plan(experiment_of(methods=methods, compare=compare, training=recipe, evaluation={"every": 9}))
    return {spec.method: spec for spec in planned.runs.values()}


class Bench:
    """Runs of the module's specs in folders below ``root``."""

    def __init__(self, server: subprocess.Popen, corpus_folder: Path, root: Path) -> None:
        self.server, self.corpus_folder, self.root = server, corpus_folder, root
        self.whole: dict[str, Path] = {}

    def folder(self, spec: RunSpec, name: str) -> Path:
        folder = self.root / name / spec.run
        write_json(folder / "spec.json", spec.model_dump(mode="json"))
        return folder

    def command(self, folder: Path) -> list[str]:
        inputs = [f"--input=actor={self.whole['acodm_proxy_run']}"] if "acodm_proxy-" in folder.name else []
        return ["train", str(folder / "spec.json"), f"--corpus={self.corpus_folder}", "--threads=1", *inputs]

    def start(self, folder: Path) -> Process:
        print(folder / "log", *self.command(folder), file=self.server.stdin, flush=True)
        return Process(self.server)

    def undisturbed(self, spec: RunSpec) -> Path:
        if spec.method not in self.whole:
            folder = self.folder(spec, "whole")
            assert self.start(folder).wait() == 0, (folder / "log").read_text()
            self.whole[spec.method] = folder
        return self.whole[spec.method]


@pytest.fixture(scope="module")
def bench(server: subprocess.Popen, corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(server, corpus_folder, tmp_path_factory.mktemp("runs"))


def marks(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "state").glob("step-*.sha256"))


def newest(folder: Path) -> int:
    """Step of the newest checkpoint; 0 for none."""
    return int(marks(folder)[-1].split("-")[1].split(".")[0]) if marks(folder) else 0


def wait_for(condition, process: Process, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the run does not get there"
        time.sleep(0.001)


def assert_same_bytes(folder: Path, whole: Path) -> None:
    for name in TABLES:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), f"{name} differs"


def check_whole(folder: Path) -> None:
    """The undisturbed run is not empty: every step and every evaluation is there."""
    metrics, mixture = (pd.read_parquet(folder / f"{n}.parquet") for n in ("metrics", "mixture"))
    assert set(mixture.step) == set(range(1, STEPS + 1))
    assert set(metrics[metrics.split == "valid"].step) == set(range(0, STEPS + 1, 9))
    assert set(metrics[metrics.split == "test"].step) == {STEPS}
    manifest = read_json(folder / "manifest.json")
    assert manifest["status"] == "finished" and manifest["steps"] == STEPS


@pytest.mark.parametrize("method", ["uniform", "odm", "acodm", "acodm_proxy"])
def test_killed_at_random_moments(method: str, specs: dict[str, RunSpec], bench: Bench) -> None:
    spec = specs[method]
    for role in spec.inputs:
        assert role == "actor"
        bench.undisturbed(specs["acodm_proxy_run"])
    whole = bench.undisturbed(spec)
    check_whole(whole)
    folder, rng = bench.folder(spec, "killed"), random.Random(method)
    for _ in range(3):
        process = bench.start(folder)
        before = marks(folder)
        # After one more checkpoint, somewhere within the next tenth of a second or two checkpoints, whichever is shorter.
        wait_for(lambda before=before: marks(folder) != before, process)
        moment, latest = time.monotonic() + rng.uniform(0, 0.1), newest(folder) + 2 * EVERY
        wait_for(lambda moment=moment, latest=latest: time.monotonic() > moment or newest(folder) >= latest, process)
        process.kill(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed: make it longer"
        assert not (folder / "manifest.json").exists()
    assert bench.start(folder).wait() == 0
    assert "continuing from step" in (folder / "log").read_text()
    assert_same_bytes(folder, whole)


def test_killed_while_it_writes_a_checkpoint_and_evaluates(specs: dict[str, RunSpec], bench: Bench) -> None:
    spec = specs["uniform"]
    whole, folder = bench.undisturbed(spec), bench.folder(spec, "writing")
    state = folder / "state"

    def half_written() -> bool:
        return any(state.glob(".step-*.part"))

    caught = 0
    for moment in (
        half_written,
        half_written,
        (state / "journal.jsonl").exists,
    ):  # the last: while it loads and evaluates
        process = bench.start(folder)
        wait_for(moment, process)
        process.kill(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        caught += half_written()
        for leftover in state.glob(".step-*.part"):
            leftover.unlink()
    assert caught, "no kill left a half-written checkpoint behind"
    assert bench.start(folder).wait() == 0
    assert_same_bytes(folder, whole)


def test_damaged_newest_checkpoint_is_passed_over(specs: dict[str, RunSpec], bench: Bench) -> None:
    spec = specs["odm"]
    whole, folder = bench.undisturbed(spec), bench.folder(spec, "damaged")
    process = bench.start(folder)
    wait_for(lambda: len(marks(folder)) == 2, process)
    process.kill(signal.SIGKILL)
    process.wait()
    damaged = folder / "state" / marks(folder)[-1].replace(".sha256", ".pt")
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    assert bench.start(folder).wait() == 0
    assert "is damaged" in (folder / "log").read_text()
    assert_same_bytes(folder, whole)


def test_sigterm_saves_and_exits_143(specs: dict[str, RunSpec], bench: Bench) -> None:
    spec = specs["acodm"]
    whole, folder = bench.undisturbed(spec), bench.folder(spec, "terminated")
    stops = [0]
    journal = folder / "state" / "journal.jsonl"
    for checkpoints in (0, 2):  # at once, before any checkpoint is due; then later
        process = bench.start(folder)
        goal = stops[-1] + checkpoints * EVERY
        wait_for(lambda goal=goal: journal.exists() and newest(folder) >= goal, process)
        process.kill(signal.SIGTERM)
        assert process.wait() == 143
        stops.append(newest(folder))
        assert stops[-1] and f"stopped at step {stops[-1]} of {STEPS}" in (folder / "log").read_text()
        assert not (folder / "manifest.json").exists()
    assert 0 < stops[1] < EVERY < stops[2] < STEPS, "a checkpoint was written when it was asked for"
    assert bench.start(folder).wait() == 0
    assert f"continuing from step {stops[-1]}" in (folder / "log").read_text()
    assert_same_bytes(folder, whole)


def test_the_installed_program_is_killed_and_continued(specs: dict[str, RunSpec], bench: Bench) -> None:
    """The same with nothing between the test and ``acodm train``; a process of another kind continues what it began."""
    spec = specs["acodm"]
    whole, folder = bench.undisturbed(spec), bench.folder(spec, "program")
    program = shutil.which("acodm", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [program, *bench.command(folder)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(marks(folder)) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert bench.start(folder).wait() == 0
    assert "continuing from step" in (folder / "log").read_text()
    assert_same_bytes(folder, whole)


@pytest.mark.parametrize("method", ["uniform", "acodm"])
def test_divergence_is_a_result(method: str, experiment_of, bench: Bench) -> None:
    """A learning rate that no model survives ends in a status and whole tables, not in a traceback."""
    models = {"tiny": {"lr": 1e30}}
    recipe = {"steps": 30, "warmup": 0.0, "schedule": "constant"}
    methods = {"acodm": {"options": {"min_pool": 2, "warmup": 0.0}}}
    experiment = experiment_of(models=models, training=recipe, compare=[method], baseline=method, methods=methods)
    (spec,) = plan(experiment).runs.values()
    folder = bench.folder(spec, "diverged")
    assert bench.start(folder).wait() == 0, (folder / "log").read_text()
    manifest = read_json(folder / "manifest.json")
    assert manifest["status"] == "diverged" and 0 <= manifest["steps"] < 30
    assert len(pd.read_parquet(folder / "mixture.parquet").step.unique()) == manifest["steps"]
    assert set(manifest["artefacts"]) >= set(TABLES)
    assert "test" not in set(pd.read_parquet(folder / "metrics.parquet").split), "no test score of a broken model"
    json.dumps(manifest, allow_nan=False)
