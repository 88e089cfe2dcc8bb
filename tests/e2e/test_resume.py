"""What may befall a run: every trouble ends in a status or a message, and what continues it ends in the same bytes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from killable_runs import Bench, assert_same_bytes, checkpoints, log

from acodm_core.errors import UserError
from acodm_core.files import exclusive, read_json, sha256, xxh3
from acodm_core.lm.train import Trainer
from acodm_core.study.planner import RunSpec, plan

STEPS, EVERY = 63, 6


@pytest.fixture(scope="module")
def specs(experiment_of) -> dict[str, RunSpec]:
    methods = {"acodm": {"options": {"min_transitions": 4, "warmup": 0.1}}}
    compare = ["uniform", "odm", "acodm", "acodm_proxy"]
    recipe = {"steps": STEPS, "checkpoint_every": EVERY}
    planned = plan(experiment_of(methods=methods, compare=compare, training=recipe, evaluation={"every": 9}))
    return {spec.method: spec for spec in planned.runs.values()}


@pytest.fixture(scope="module")
def begun(specs: dict[str, RunSpec], bench: Bench) -> Path:
    """A run of ``odm`` that was killed after its third checkpoint; to be copied."""
    folder = bench.folder(specs["odm"], "begun")
    life = bench.start(folder)
    life.wait_for(lambda: checkpoints(folder)[-1:] >= [3 * EVERY])
    life.kill(signal.SIGKILL)
    assert life.wait() == -signal.SIGKILL
    return folder


@pytest.fixture
def copy(begun: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / begun.name))


def refused(bench: Bench, folder: Path, *words: str, **fate) -> None:
    """The next life ends with a message that has these words, and with nothing else."""
    before = len(log(folder))
    assert bench.start(folder, **fate).wait() == 1
    message = log(folder)[before:]
    assert "acodm: " in message and "  -> " in message and "Traceback" not in message, message
    assert all(word in message for word in words), message
    assert not (folder / "manifest.json").exists()


def test_a_stage_is_killed_and_finds_its_input_again(specs: dict[str, RunSpec], bench: Bench) -> None:
    spec = specs["acodm_proxy"]
    inputs = {"actor": bench.undisturbed(specs["acodm_proxy_run"])}
    whole, folder = bench.undisturbed(spec, inputs), bench.folder(spec, "killed")
    second = read_json(whole / "count.json")["checkpoint"] * 3 // 2 // (STEPS // EVERY + 1)  # in the second of a life
    for _ in range(2):
        assert bench.start(folder, inputs, place="checkpoint", event=second).wait() == -signal.SIGKILL
    assert bench.start(folder, inputs).wait() == 0
    assert "continuing from step" in log(folder)
    assert_same_bytes(folder, whole)


def test_killed_with_a_checkpoint_half_on_disk(specs: dict[str, RunSpec], bench: Bench) -> None:
    whole, folder = bench.undisturbed(specs["uniform"]), bench.folder(specs["uniform"], "writing")

    def half_written() -> bool:
        return any((folder / "state").glob(".step-*.part"))

    caught = 0
    for _ in range(3):
        life = bench.start(folder)
        life.wait_for(half_written)
        life.kill(signal.SIGKILL)
        assert life.wait() == -signal.SIGKILL
        caught += half_written()
    assert caught, "no kill left a half-written checkpoint behind"
    assert bench.start(folder).wait() == 0
    assert_same_bytes(folder, whole)


def test_damaged_newest_checkpoint_is_passed_over(specs: dict[str, RunSpec], bench: Bench, copy: Path) -> None:
    *_, older, newest = checkpoints(copy)  # a kill before the clearing up leaves three
    damaged = copy / "state" / f"step-{newest:08d}.pt"
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    assert bench.start(copy).wait() == 0
    assert "is damaged" in log(copy) and f"continuing from step {older}" in log(copy)
    assert_same_bytes(copy, bench.undisturbed(specs["odm"]))


def test_both_checkpoints_damaged_begins_again(specs: dict[str, RunSpec], bench: Bench, copy: Path) -> None:
    for path in (copy / "state").glob("*.pt"):
        path.write_bytes(path.read_bytes()[:-1000])
    assert bench.start(copy).wait() == 0
    assert "beginning again" in log(copy) and "continuing from step" not in log(copy)
    assert_same_bytes(copy, bench.undisturbed(specs["odm"]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_that_asks_to_stop_saves_a_checkpoint(
    number: signal.Signals, specs: dict[str, RunSpec], bench: Bench
) -> None:
    spec = specs["acodm"]
    whole, folder = bench.undisturbed(spec), bench.folder(spec, number.name)
    stops, journal = [0], folder / "state" / "journal.jsonl"
    for more in (0, 2):  # at once, before any checkpoint is due; then later
        life = bench.start(folder)
        goal = [stops[-1] + more * EVERY] if more else []
        life.wait_for(lambda goal=goal: journal.exists() and checkpoints(folder)[-1:] >= goal)
        life.kill(number)
        assert life.wait() == 128 + number
        stops.append(checkpoints(folder)[-1])
        assert f"stopped at step {stops[-1]} of {STEPS}" in log(folder) and "Traceback" not in log(folder)
        assert not (folder / "manifest.json").exists()
    assert 0 < stops[1] < EVERY < stops[2] < STEPS, "a checkpoint was written when it was asked for"
    assert bench.start(folder).wait() == 0
    assert f"continuing from step {stops[-1]}" in log(folder)
    assert_same_bytes(folder, whole)


def test_the_installed_program_is_killed_and_continued(specs: dict[str, RunSpec], bench: Bench) -> None:
    """The same with nothing between the test and ``acodm train``; a process of another kind continues what it began."""
    spec = specs["acodm"]
    whole, folder = bench.undisturbed(spec), bench.folder(spec, "program")
    program = shutil.which("acodm", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([program, *bench.command(folder)], env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    try:
        while len(checkpoints(folder)) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        process.kill()
        _, said = process.communicate()
    last = re.search(rf"acodm: {spec.run}: ended suddenly after step (\d+) of {STEPS}", said.decode())
    assert checkpoints(folder)[-1] <= int(last[1]) + 1
    assert bench.start(folder).wait() == 0
    assert "continuing from step" in log(folder)
    assert_same_bytes(folder, whole)


@pytest.mark.parametrize("what", ["checkpoint", "journal", "weights"])
def test_a_full_disk_ends_in_a_message_and_costs_nothing(
    what: str, specs: dict[str, RunSpec], bench: Bench, copy: Path
) -> None:
    state, room = copy / "state", {"checkpoint": 200_000, "journal": 0, "weights": 60_000}[what]
    if what == "weights":  # the one thing that is left to write
        assert bench.start(copy, place="end", event=1).wait() == -signal.SIGKILL
    kept = {path.name: sha256(path) for path in state.glob("step-*")}
    assert room < max(path.stat().st_size for path in state.glob("step-*.pt"))
    refused(
        bench, copy, "cannot be written", "File too large", file_bytes=room or (state / "journal.jsonl").stat().st_size
    )
    assert {path.name: sha256(path) for path in state.glob("step-*")} == kept, "the checkpoints are as they were"
    assert not list(copy.rglob(".*.part"))
    assert bench.start(copy).wait() == 0
    assert_same_bytes(copy, bench.undisturbed(specs["odm"]))


@pytest.mark.parametrize("begins", [True, False], ids=["begun", "fresh"])
def test_a_read_only_folder_ends_in_a_message(
    begins: bool, specs: dict[str, RunSpec], bench: Bench, copy: Path
) -> None:
    if not begins:
        shutil.rmtree(copy / "state")
    locked = [copy, *(path for path in copy.rglob("*") if path.name != "log")]
    modes = {path: path.stat().st_mode for path in locked}
    for path in locked:
        path.chmod(modes[path] & ~0o222)
    refused(bench, copy, "cannot be written: Permission denied", str(copy), meek=True)
    for path in locked:
        path.chmod(modes[path])
    assert bench.start(copy).wait() == 0
    assert_same_bytes(copy, bench.undisturbed(specs["odm"]))


def test_a_second_process_is_refused_and_touches_nothing(bench: Bench, copy: Path) -> None:
    with exclusive(copy / "state", "training this run"):
        half = copy / "state" / ".step-00000099.pt.1.part"  # what the first is writing
        half.write_bytes(b"half")
        before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != "log"}
        refused(bench, copy, "another process is training this run")
        assert {path: path.read_bytes() for path in before} == before


def damaged_journal(copy: Path) -> None:
    (copy / "state" / "journal.jsonl").write_bytes(b"")


def another_spec(copy: Path) -> None:
    spec = read_json(copy / "spec.json")
    (copy / "spec.json").write_text(json.dumps(spec | {"seed": 5}))


def rewritten(change):
    """The newest checkpoint with its content changed and its mark made to fit, as another version would have left it."""

    def change_checkpoint(copy: Path) -> None:
        path = copy / "state" / f"step-{checkpoints(copy)[-1]:08d}.pt"
        state = torch.load(path, weights_only=False)
        change(state)
        torch.save(state, path)
        path.with_suffix(".sha256").write_text(sha256(path) + "\n")

    return change_checkpoint


MISFITS = {
    "of another format": (rewritten(lambda s: s.update(format=0)), "format 0"),
    "without a key": (rewritten(lambda s: s.pop("signal_flops")), "no 'signal_flops'"),
    "of another mixer": (rewritten(lambda s: s["mixer"].update(new_=1)), "new_"),
    "of another model": (rewritten(lambda s: s["model"].popitem()), "Missing key"),
    "of another optimiser": (rewritten(lambda s: s["optimiser"]["param_groups"].pop()), "parameter group"),
    "with a foreign object": (rewritten(lambda s: s.update(when=pd.Timestamp(0))), "it holds a pandas"),
    "of another spec": (another_spec, "spec.json"),
    "without its journal": (damaged_journal, "journal.jsonl"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_checkpoint_that_does_not_fit_is_refused_in_words(name: str, corpus, copy: Path) -> None:
    change, word = MISFITS[name]
    change(copy)
    spec = RunSpec.model_validate(read_json(copy / "spec.json"))
    with pytest.raises(UserError, match=word) as refusal:
        Trainer(spec, corpus, copy).run()
    assert "remove" in refusal.value.fix and str(copy / "state") in str(refusal.value)


def test_a_checkpoint_from_before_formats_were_numbered_is_continued(
    specs: dict[str, RunSpec], bench: Bench, copy: Path
) -> None:
    rewritten(lambda state: (state.pop("format"), state.pop("spec")))(copy)
    assert bench.start(copy).wait() == 0
    assert_same_bytes(copy, bench.undisturbed(specs["odm"]))


@pytest.mark.parametrize("method", ["uniform", "acodm"])
def test_divergence_is_a_result(method: str, experiment_of, bench: Bench) -> None:
    """A learning rate that no model survives ends in a status, whole tables and evidence, not in a traceback."""
    models = {"tiny": {"lr": 100.0}}
    recipe = {"steps": 30, "warmup": 0.0, "schedule": "constant", "weight_decay": 100.0, "checkpoint_every": 1}
    methods = {"acodm": {"options": {"min_transitions": 2, "warmup": 0.0}}}
    experiment = experiment_of(models=models, training=recipe, compare=[method], baseline=method, methods=methods)
    (spec,) = plan(experiment).runs.values()
    folder = bench.folder(spec, "diverged")
    assert bench.start(folder).wait() == 0, log(folder)
    manifest = read_json(folder / "manifest.json")
    taken = manifest["steps"]
    assert manifest["status"] == "diverged" and 0 <= taken < 30
    assert len(pd.read_parquet(folder / "mixture.parquet").step.unique()) == taken
    assert {"metrics.parquet", "weights.safetensors"} <= set(manifest["artefacts"])
    assert "test" not in set(pd.read_parquet(folder / "metrics.parquet").split), "no test score of a broken model"
    json.dumps(manifest, allow_nan=False)
    evidence = manifest["diverged"]
    assert evidence["step"] == taken + 1 and re.search("nan|inf", json.dumps(evidence)), "what was not a number"
    assert sum(evidence["sequences"]) == spec.training.batch and sum(evidence["requested"]) == pytest.approx(1)
    assert checkpoints(folder)[-1:] == [taken][: bool(taken)], (
        "the last state that was a number is there to be looked at"
    )


def test_snapshots_are_the_same_after_kills(experiment_of, bench: Bench) -> None:
    experiment = experiment_of(
        training={"steps": 20, "checkpoint_every": 4}, evaluation={"every": 5, "snapshots": [0, 0.5]}
    )
    (spec,) = plan(experiment).runs.values()
    whole, folder = bench.undisturbed(spec), bench.folder(spec, "killed")
    names = ["snapshots/step-000000.safetensors", "snapshots/step-000010.safetensors"]
    for event in (20, 400):
        assert bench.start(folder, place="snapshot", event=event).wait() == -signal.SIGKILL
    assert bench.start(folder).wait() == 0
    assert_same_bytes(folder, whole)
    artefacts = read_json(folder / "manifest.json")["artefacts"]
    assert [name for name in artefacts if name.startswith("snapshots")] == names
    hashes = {xxh3(where / name) for where in (folder, whole) for name in names}
    assert hashes == {artefacts[name] for name in names} and len(hashes) == 2
