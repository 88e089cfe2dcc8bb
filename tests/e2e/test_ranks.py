"""Runs of two processes: what one process does on the same batches, through kills, and with the model cut in two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from killable_runs import assert_same_bytes, checkpoints, log
from two_ranks import Fleet

from acodm_core.files import read_json
from acodm_core.lm.run.checkpoint import load_latest
from acodm_core.lm.train import Trainer
from acodm_core.study.planner import RunSpec, plan

STEPS, EVERY = 24, 5
KINDS = {  # of what a mixer asks for
    "odm": {},  # losses
    "acodm": {"min_transitions": 4, "warmup": 0.1},  # sketches in AdamW's metric
    "acodm_paper": {},  # the exact Gram, norms of weights and of their steps
    "opmix": {},  # losses of merged adapters
}


@pytest.fixture(scope="module")
def specs(experiment_of) -> dict[str, RunSpec]:
    methods = {method: {"options": options} for method, options in KINDS.items() if options}
    recipe = {"steps": STEPS, "checkpoint_every": EVERY, "micro_batch": 2}
    experiment = experiment_of(
        methods=methods, compare=[*KINDS], baseline="odm", training=recipe, evaluation={"every": 8, "snapshots": [0.5]}
    )
    return {spec.method: spec for spec in plan(experiment).runs.values()}


@pytest.fixture(scope="module")
def fleet(corpus_folder: Path, tmp_path_factory) -> Fleet:
    return Fleet(corpus_folder, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def alone(specs, fleet: Fleet, corpus):
    """``alone(method)``: folder of the run as one process trains it."""
    made: dict[str, Path] = {}

    def run(method: str) -> Path:
        if method not in made:
            made[method] = fleet.folder(specs[method], "alone")
            assert Trainer(specs[method], corpus, made[method]).run() == "finished"
        return made[method]

    return run


def assert_same_run(folder: Path, other: Path) -> None:
    """The same mixtures and losses to rounding, the same counts of sequences exactly.

    The paper's agent learns from its first step on without clipping, and multiplies rounding: its shares agree to a twentieth.
    """
    mine, its = (pd.read_parquet(one / "mixture.parquet") for one in (folder, other))
    assert mine.drawn.equals(its.drawn)
    within = 5e-2 if "acodm_paper" in mine.run[0] else 1e-6
    assert np.allclose(mine.requested, its.requested, rtol=1e-4, atol=within), abs(mine.requested - its.requested).max()
    mine, its = (pd.read_parquet(one / "metrics.parquet") for one in (folder, other))
    keys = ["step", "split", "domain", "metric"]
    assert mine[keys].equals(its[keys])
    assert np.allclose(mine.value, its.value, rtol=2e-4)
    mine, its = (read_json(one / "manifest.json") for one in (folder, other))
    for name in ("status", "steps", "tokens", "parameters", "parameters_non_embedding", "model_flops", "method_flops"):
        assert mine[name] == its[name], name
    assert [*mine["artefacts"]] == [*its["artefacts"]]


@pytest.mark.parametrize(
    ("method", "flags"),
    [("odm", ()), ("acodm", ("--shard",)), ("acodm_paper", ()), ("acodm_paper", ("--shard",))],
)
def test_two_processes_train_as_one_does(method: str, flags: tuple[str, ...], specs, fleet: Fleet, alone) -> None:
    folder = fleet.folder(specs[method], f"two{''.join(flags)}")
    assert fleet.train(folder, *flags) == [0, 0], log(folder)
    assert_same_run(folder, alone(method))
    assert read_json(folder / "manifest.json")["ranks"] == 2
    assert log(folder).count("test loss") == 1, "one process speaks"


@pytest.mark.parametrize(("method", "flags"), [("odm", ()), ("acodm", ("--shard",))])
def test_a_stopped_run_of_two_goes_on_to_the_same_bytes(method: str, flags, specs, fleet: Fleet) -> None:
    """SIGTERM reaches one process: both write a checkpoint and leave. The same two continue bit for bit."""
    whole = fleet.folder(specs[method], f"two{''.join(flags)}")
    if not (whole / "manifest.json").exists():
        assert fleet.train(whole, *flags) == [0, 0], log(whole)
    folder = fleet.folder(specs[method], f"stopped{''.join(flags)}")
    assert fleet.train(folder, *flags, fate={"rank": 1, "step": 11, "signal": "SIGTERM"}) == [143, 143], log(folder)
    assert checkpoints(folder)[-1] == 12 and log(folder).count("stopped at step 12") == 1
    assert fleet.train(folder, *flags) == [0, 0], log(folder)
    assert "continuing from step 12" in log(folder)
    assert_same_bytes(folder, whole)


@pytest.mark.parametrize("flags", [(), ("--shard",)])
def test_what_two_drop_is_not_the_same_and_goes_on_where_it_was(flags, experiment_of, fleet: Fleet) -> None:
    """GPT-2 drops activations: each rank others, and after a stop those that it would have dropped. Its head is tied."""
    shape = {"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2}
    small = {"config": shape, "lr": 3e-3, "gradient_layers": "lm_head", "norm_layers": "lm_head"}
    recipe = {"steps": 6, "checkpoint_every": 2}
    experiment = experiment_of(models={"small": small}, roles={"target": "small"}, training=recipe)
    (spec,) = plan(experiment).runs.values()
    whole, folder = (fleet.folder(spec, f"dropping{''.join(flags)}{end}") for end in ("", " stopped"))
    assert fleet.train(whole, *flags) == [0, 0], log(whole)
    assert fleet.train(folder, *flags, fate={"rank": 1, "step": 3, "signal": "SIGTERM"}) == [143, 143], log(folder)
    states = load_latest(folder / "state")["random"]
    assert len(states) == 2 and not torch.equal(states[0]["cpu"], states[1]["cpu"])
    assert fleet.train(folder, *flags) == [0, 0], log(folder)
    assert "continuing from step 4" in log(folder)
    assert_same_bytes(folder, whole)


@pytest.mark.parametrize(("first", "then"), [((2, ("--shard",)), (1, ())), ((1, ()), (2, ()))])
def test_another_number_of_processes_continues_the_run(first, then, specs, fleet: Fleet, alone) -> None:
    folder = fleet.folder(specs["acodm"], f"{first}{then}")
    ranks, flags = first
    stop = {"rank": ranks - 1, "step": 11, "signal": "SIGTERM"}
    assert fleet.train(folder, *flags, ranks=ranks, fate=stop) == [143] * ranks, log(folder)
    ranks, flags = then
    assert fleet.train(folder, *flags, ranks=ranks) == [0] * ranks, log(folder)
    assert "continuing from step 12" in log(folder)
    assert_same_run(folder, alone("acodm"))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_takes_the_other_with_it(rank: int, specs, fleet: Fleet) -> None:
    folder = fleet.folder(specs["odm"], f"killed{rank}")
    found = fleet.train(folder, fate={"rank": rank, "step": 7, "signal": "SIGKILL"})
    assert found[rank] == -signal.SIGKILL and found[1 - rank] not in (0, None), log(folder)
    assert not (folder / "manifest.json").exists()
    assert checkpoints(folder) == [5]


def test_an_error_of_one_process_ends_both_with_its_message(specs, fleet: Fleet) -> None:
    folder = fleet.folder(specs["odm"], "full")
    assert fleet.train(folder, fate={"rank": 0, "step": 6, "error": "No space left on device"}) == [1, 1]
    assert "acodm: " in log(folder) and "No space left on device" in log(folder)


def test_a_batch_that_cannot_be_shared_is_refused(specs, fleet: Fleet) -> None:
    folder = fleet.folder(specs["odm"], "three")
    assert fleet.train(folder, ranks=3) == [1, 1, 1]
    assert "3 processes cannot share a batch of 8 sequences equally" in log(folder)
    assert "Traceback" not in log(folder)


def test_a_gram_larger_than_the_model_is_refused_over_ranks_and_sketched_instead(experiment_of, fleet: Fleet) -> None:
    everywhere = r"layers\.(0|1)\.(mlp|attention)\."
    found = {}
    for gram in ("exact", "sketch"):
        models = {"tiny": {"gradient_layers": everywhere, "gram": gram}}
        experiment = experiment_of(
            models=models, compare=["acodm_paper"], baseline="acodm_paper", training={"steps": 3}
        )
        (spec,) = plan(experiment).runs.values()
        found[gram] = fleet.folder(spec, gram)
    assert fleet.train(found["exact"]) == [1, 1]
    assert "exact Gram of 4 domains" in log(found["exact"]) and "gram: sketch" in log(found["exact"])
    assert fleet.train(found["sketch"]) == [0, 0], log(found["sketch"])


def test_two_processes_find_by_their_adapters_what_one_does(specs, fleet: Fleet, alone) -> None:
    """Nearly: AdamW's first steps make signs of gradients, so that rounding moves an adapter, and the law that is fitted."""
    folder = fleet.folder(specs["opmix"], "two")
    assert fleet.train(folder) == [0, 0], log(folder)
    mixture_TK, its_TK = (
        pd.read_parquet(one / "mixture.parquet").pivot(index="step", columns="domain", values="requested").to_numpy()
        for one in (folder, alone("opmix"))
    )
    np.testing.assert_allclose(mixture_TK, its_TK, atol=0.01)
    assert np.ptp(mixture_TK[-1]) > 0.03, "it found something"
    mine, its = (read_json(one / "manifest.json") for one in (folder, alone("opmix")))
    assert mine["method_flops"] == its["method_flops"] > 0


def test_adapters_of_a_model_that_is_cut_are_refused(specs, fleet: Fleet) -> None:
    folder = fleet.folder(specs["opmix"], "cut")
    assert fleet.train(folder, "--shard") == [1, 1]
    assert "merges adapters into whole weights" in log(folder) and "Traceback" not in log(folder)


def test_torchrun_starts_the_program_on_every_rank(specs, fleet: Fleet, alone) -> None:
    folder = fleet.folder(specs["odm"], "torchrun")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    train = ["-m", "acodm_core.cli", "train", str(folder / "spec.json"), f"--corpus={fleet.corpus_folder}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, *train], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_same_run(folder, alone("odm"))
    json.dumps(read_json(folder / "manifest.json"), allow_nan=False)
