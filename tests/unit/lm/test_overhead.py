"""The overhead probe on a small model: what it times, and that nothing of one arm leaks into another."""

import numpy as np
import pandas as pd
import pytest

from acodm_core.lm import overhead
from acodm_core.measure.ratio import ratio_of_medians
from acodm_core.mixing import Signal
from acodm_core.results.schemas import MEMORY_COLUMNS, PROBE_COLUMNS
from acodm_core.study.planner import plan

SETTINGS = {"blocks": 4, "steps": 2, "warmup": 9, "memory_repeats": 1}


@pytest.fixture(scope="module")
def experiment(experiment_of):
    return experiment_of(compare=["uniform", "odm", "acodm"], probe=SETTINGS)


@pytest.fixture(scope="module")
def timed(experiment, corpus, tmp_path_factory) -> pd.DataFrame:
    return overhead.probe_time(plan(experiment), corpus, tmp_path_factory.mktemp("runs"), experiment.probe, "cpu")


def test_every_method_stands_beside_the_plain_step_and_the_gradients_in_every_block(timed):
    assert list(timed.columns) == list(PROBE_COLUMNS)
    steps = timed[timed.part == "step"]
    found = steps.groupby("method").apply(lambda rows: sorted(zip(rows.block, rows.arm, strict=True)))
    expected = sorted((block, arm) for block in range(4) for arm in ("gradients", "method", "plain"))
    assert sorted(found.index) == ["acodm", "odm", "uniform"]
    assert all(rows == expected for rows in found)


def test_the_parts_add_up_to_less_than_the_step_and_most_of_it(timed):
    wide = timed.pivot_table(index=["method", "arm", "block"], columns="part", values="seconds")
    parts = wide.drop(columns="step").sum(axis=1)
    assert (parts <= wide.step * 1.001).all()
    assert (parts / wide.step).median() > 0.6  # a neighbour on the machine can fall between two parts of a block


def test_the_gradients_cost_signals_and_the_plain_step_does_not(timed):
    signals = timed[(timed.part == "signals") & (timed.method == "acodm")].groupby("arm").seconds.median()
    assert signals["gradients"] > 2 * signals["plain"]


def test_the_summary_names_the_gradients_once_a_model_and_every_method(timed):
    lines = overhead.summary(timed)
    assert sum("gradients alone" in line for line in lines) == 1
    assert {line.split()[1].rstrip(":") for line in lines if "alone" not in line} == {"uniform", "odm", "acodm"}


def test_the_actor_critic_learns_while_it_is_probed(experiment, corpus):
    """Otherwise the probe would time an idle agent."""
    specs = overhead.specs_by_model(plan(experiment))["tiny"]
    arms = overhead.Arms(specs, corpus, {}, "cpu")
    arms.block("acodm", SETTINGS["warmup"] + 1)
    assert "td_error" in arms.mixers["acodm"].diagnostics()
    assert Signal.ADAM_SKETCH in arms.mixers["acodm"].needs


def test_memory_is_read_in_processes_of_their_own(experiment_of, corpus, corpus_folder, tmp_path):
    experiment = experiment_of(compare=["uniform"], probe=SETTINGS)
    found = overhead.probe_memory(plan(experiment), corpus_folder, tmp_path, experiment.probe, "cpu", 2)
    assert list(found.columns) == list(MEMORY_COLUMNS)
    assert sorted(found.arm) == ["method", "plain"]
    assert (found.host_bytes > 50_000_000).all() and (found.device_bytes == 0).all()


def test_the_ratio_of_medians_and_its_interval():
    rng = np.random.default_rng(0)
    under = rng.normal(1.0, 0.01, 60)
    ratio, low, high = ratio_of_medians(under * 1.05 + rng.normal(0, 0.01, 60), under)
    assert low < ratio < high and low < 1.05 < high and high - low < 0.03
    assert ratio_of_medians(under, under)[0] == 1.0


def test_an_agent_whose_buffer_is_not_full_is_shown_steps_until_it_is(experiment, corpus):
    specs = overhead.specs_by_model(plan(experiment))["tiny"]
    arms = overhead.Arms(specs, corpus, {}, "cpu")
    arms.block("acodm", 2)
    assert "td_error" not in arms.mixers["acodm"].diagnostics()
    arms.acquaint("acodm")
    shown = min(overhead.SHOWN, arms.horizons["acodm"] // 2)
    assert arms.taken["acodm"] == 2 + shown >= arms.mixers["acodm"].mixer.min_transitions
    assert "td_error" in arms.mixers["acodm"].diagnostics()
