"""A run that is killed twenty times ends in the same bytes as one that is left alone, whatever state its mixer keeps."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pandas as pd
import pytest
from killable_runs import Bench, assert_same_bytes, checkpoints, log

from acodm_core.files import read_json
from acodm_core.study.planner import RunSpec, plan

STEPS, EVERY, VALID_EVERY = 96, 4, 6
KINDS = {  # of state that a mixer keeps
    "uniform": {},  # none
    "odm": {},  # a bandit's
    "acodm": {"min_transitions": 4, "warmup": 0.1},  # actor, critic, their targets and optimisers, replay, noise
    "ado": {"refit": 0.05},  # the whole history of losses, and laws fitted to it
}


@pytest.fixture(scope="module")
def specs(experiment_of) -> dict[str, RunSpec]:
    methods = {
        method: {"mixer": "acodm_core.acodm" if method == "acodm" else method, "options": o}
        for method, o in KINDS.items()
    }
    recipe = {"steps": STEPS, "checkpoint_every": EVERY}
    planned = plan(
        experiment_of(methods=methods, compare=list(KINDS), training=recipe, evaluation={"every": VALID_EVERY})
    )
    return {spec.method: spec for spec in planned.runs.values()}


def check_whole(folder: Path) -> None:
    """The undisturbed run is not empty: every step and every evaluation is there."""
    metrics, mixture = (pd.read_parquet(folder / f"{n}.parquet") for n in ("metrics", "mixture"))
    assert set(mixture.step) == set(range(1, STEPS + 1))
    assert set(metrics[metrics.split == "valid"].step) == set(range(0, STEPS + 1, VALID_EVERY))
    assert set(metrics[metrics.split == "test"].step) == {STEPS}
    manifest = read_json(folder / "manifest.json")
    assert manifest["status"] == "finished" and manifest["steps"] == STEPS


def fates(rng: random.Random, passed: dict[str, int], cpu_seconds: float) -> list[dict[str, float | str]]:
    """Twenty ways to die. Those at the run's end come last: the first of them lets it get there."""

    def at(place: str, most: float) -> dict[str, float | str]:
        return {"place": place, "event": rng.randint(1, max(1, int(most)))}

    saves, evaluations = STEPS // EVERY + 1, STEPS // VALID_EVERY + 2
    before = [at("checkpoint", 2 * passed["checkpoint"] / saves) for _ in range(6)]
    before += [at("evaluation", 2 * passed["evaluation"] / evaluations) for _ in range(3)]
    before += [{"seconds": rng.uniform(0.02, 0.08) * cpu_seconds} for _ in range(6)]
    rng.shuffle(before)
    return [*before, at("start", passed["start"]), *(at("end", passed["end"]) for _ in range(4))]


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_twenty_random_moments(kind: str, specs: dict[str, RunSpec], bench: Bench) -> None:
    whole = bench.undisturbed(specs[kind])
    check_whole(whole)
    folder, began = bench.folder(specs[kind], "killed"), []
    for fate in fates(random.Random(kind), read_json(whole / "count.json"), bench.cpu_seconds[whole]):
        life = bench.start(folder, **fate)
        assert life.wait() in (-signal.SIGKILL, -signal.SIGPROF), f"{fate}: {log(folder)}"
        began.append(max(checkpoints(folder), default=0))
        assert not (folder / "manifest.json").exists()
    assert bench.start(folder).wait() == 0, log(folder)
    assert len(set(began)) > 5, "the kills lie all over the run"
    assert "is damaged" not in log(folder), "a kill leaves a checkpoint whole or absent"
    assert_same_bytes(folder, whole)
