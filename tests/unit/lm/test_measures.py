"""Every signal of the contract is measured, and a new one needs a line of the table and a function."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import tiny_config

from acodm_core.lm.signals.measures import MEASURES
from acodm_core.mixing import Signal

ROOT = Path(__file__).resolve().parents[3]
LINE = """    DRAWN_TOKENS = "drawn_tokens", SignalInfo(
        "K", Source.LOSSES, "tokens", meaning="training tokens of each domain in this step's batch")
    # fmt: on
"""
FUNCTION = """

@measures(Signal.DRAWN_TOKENS)
def drawn_tokens(tools: Tools, seen: Seen) -> np.ndarray:
    return np.where(seen.tokens_K > 0, seen.tokens_K, np.nan)
"""
MIXER = '''"""Ask for the new signal."""

from dataclasses import dataclass

import numpy as np

from acodm_core.mixing import Mixer, Signal, Start, StepStats


@dataclass
class Counting(Mixer):
    """Draw evenly and count."""

    needs = frozenset({Signal.DRAWN_TOKENS})

    def start(self, start: Start) -> None:
        self.total_, self.k_ = 0.0, len(start.domains)

    def sampling_weights(self, step: int) -> np.ndarray:
        return np.full(self.k_, 1 / self.k_)

    def observe(self, stats: StepStats) -> None:
        self.total_ += float(np.nansum(stats[Signal.DRAWN_TOKENS]))

    def diagnostics(self) -> dict[str, float]:
        return {"total": self.total_}
'''
PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np, pandas as pd
from acodm_core.contract.feed import random_signals, without
from acodm_core.data.corpus import Corpus
from acodm_core.lm.train import Trainer
from acodm_core.mixing import Signal
from acodm_core.study.config import load_experiment
from acodm_core.reference.pages import signals
from acodm_core.study.planner import plan

config, corpus, folder = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
for groups in (None, 2):
    methods = {"counting": {"mixer": "counting", "groups": groups}}
    experiment = load_experiment(config, {"compare": ["counting"], "baseline": "counting", "methods": methods})
    (run, spec), *_ = plan(experiment).runs.items()
    assert Trainer(spec, Corpus.open(corpus), folder / run).run() == "finished"
    found = pd.read_parquet(folder / run / "signals.parquet")
    assert set(found["name"]) == {"drawn_tokens"} and set(found["item"]) <= set(spec.domains), found
    told = pd.read_parquet(folder / run / "diagnostics.parquet")["value"]
    assert groups or told.iloc[-1] == found["value"].sum() == spec.tokens(), (told, found)
made_up = without(random_signals(np.random.default_rng(0), 3), np.array([True, False, False]))
assert np.isnan(made_up[Signal.DRAWN_TOKENS]).tolist() == [True, False, False]
assert "| `drawn_tokens` | (K) | training tokens of each domain" in signals()
"""


def test_every_signal_has_one_measuring_function() -> None:
    assert set(MEASURES) == set(Signal)


def test_a_new_signal_is_a_line_of_the_table_and_a_function(corpus, corpus_folder: Path, tmp_path: Path) -> None:
    """In a copy of the project: trained on by a mixer, recorded, merged into groups, made up for checks, documented."""
    for folder, name in (("acodm_core", "acodm_core"), ("baselines", "acodm_baselines")):
        shutil.copytree(ROOT / folder, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    contract = tmp_path / "acodm_core" / "mixing.py"
    text = contract.read_text(encoding="utf-8")
    assert text.count("    # fmt: on\n") == 1
    contract.write_text(text.replace("    # fmt: on\n", LINE), encoding="utf-8")
    with (tmp_path / "acodm_core" / "lm" / "signals" / "measures.py").open("a", encoding="utf-8") as file:
        file.write(FUNCTION)
    (tmp_path / "acodm_baselines" / "counting.py").write_text(MIXER, encoding="utf-8")
    arguments = [json.dumps(tiny_config(corpus)), str(corpus_folder), str(tmp_path / "runs")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
