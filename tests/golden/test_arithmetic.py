"""What the trainer computes from a spec, compared with recorded numbers: whoever changes it must give it a new number.

A run is named by ``acodm_core.ARITHMETIC``. When this test fails because the trainer was changed on purpose, raise that number and
record the values again:  ACODM_RECORD=1 python -m pytest tests/golden/test_arithmetic.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from asking.everything import summary

from acodm_core import ARITHMETIC
from acodm_core.study.planner import plan

FILE = Path(__file__).with_name("arithmetic.json")
ADVICE = "the trainer computes something else; if that is meant, raise ARITHMETIC and record the values again (see the file's head)"
RECIPES = {
    "cosine": {"schedule": "cosine", "warmup": 0.25, "micro_batch": 4},
    "wsd": {"schedule": "wsd", "draw": "multinomial", "weight_decay": 0.2, "clip": 0.5},
}


@pytest.fixture(scope="module")
def measured(experiment_of, corpus, tmp_path_factory) -> dict[str, dict[str, float]]:
    """Recipe -> name of a column of its run's tables -> one number of it."""
    from acodm_core.lm.train import Trainer

    torch.set_num_threads(1)
    root, found = tmp_path_factory.mktemp("arithmetic"), {}
    for recipe, changes in RECIPES.items():
        asking = {
            "mixer": "asking.everything",
            "inputs": {"reference": "natural"},
            "options": {"weigh": recipe == "wsd"},
        }
        experiment = experiment_of(
            compare=["natural", "asking"],
            baseline="natural",
            methods={"asking": asking},
            training={"steps": 6, **changes},
            evaluation={"every": 3, "objective_weights": {"counting": 2, "words": 1}},
        )
        for run, spec in plan(experiment).runs.items():
            assert Trainer(spec, corpus, root / run, spec.input_folders(root)).run() == "finished"
        found[recipe] = columns(root / run)
    return found


def columns(folder: Path) -> dict[str, float]:
    """The numbers of a run's tables, each column of each quantity summed in one."""
    found = {}
    for table, keys, values in (
        ("metrics", ["split", "metric"], ["value"]),
        ("mixture", ["domain"], ["requested", "drawn"]),
        ("diagnostics", ["name"], ["value"]),
    ):
        for key, part in pd.read_parquet(folder / f"{table}.parquet").groupby(keys):
            for value in values:
                found[" ".join([table, *key, value])] = summary(part[value].to_numpy())
    return found


def test_the_trainer_computes_what_its_number_says(measured):
    if os.environ.get("ACODM_RECORD"):
        FILE.write_text(json.dumps({"arithmetic": ARITHMETIC, "columns": measured}, indent=1) + "\n", encoding="utf-8")
    recorded = json.loads(FILE.read_text(encoding="utf-8"))
    assert recorded["arithmetic"] == ARITHMETIC, ADVICE
    for recipe, numbers in recorded["columns"].items():
        assert measured[recipe].keys() == numbers.keys(), ADVICE
        for name, number in numbers.items():
            np.testing.assert_allclose(measured[recipe][name], number, rtol=3e-4, err_msg=f"{recipe}, {name}: {ADVICE}")


def test_every_signal_is_among_what_is_recorded(measured):
    from acodm_core.mixing import Signal

    for numbers in measured.values():
        assert {f"diagnostics seen_{signal} value" for signal in Signal} <= numbers.keys()
