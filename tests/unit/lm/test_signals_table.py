"""What a mixer was shown and made of it: recorded step by step, so that schedulers can be studied without training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from acodm_core.lm.run import signals_table
from acodm_core.lm.train import Trainer
from acodm_core.mixing import Signal
from acodm_core.study.planner import plan

DOMAINS = ("one", "other", "third")


def rows(tmp_path: Path, lines: list[dict], seen: tuple[str, ...] = DOMAINS) -> pd.DataFrame:
    signals_table.write_signals(lines, tmp_path / "signals.parquet", "a-run", DOMAINS, seen)
    return pd.read_parquet(tmp_path / "signals.parquet")


def test_matrices_leave_half_and_sketches_their_products(tmp_path: Path) -> None:
    sketch_KD = np.array([[1.0, 2.0], [np.nan, np.nan], [0.0, 3.0]])
    kept = signals_table.kept({Signal.ADAM_SKETCH: sketch_KD, Signal.LOSS: np.ones(3)}, {"reward": 0.5})
    assert list(kept) == ["adam_sketch"], "losses are metrics, scalars diagnostics"
    found = rows(tmp_path, [{"step": 4, "signals": kept}])
    assert found[["item", "other", "value"]].values.tolist() == [
        ["one", "one", 5.0], ["one", "third", 6.0], ["third", "third", 9.0],
    ]  # fmt: skip
    assert (found["run"] == "a-run").all() and (found["step"] == 4).all() and (found["name"] == "adam_sketch").all()


def test_vectors_are_named_by_what_they_are_of(tmp_path: Path) -> None:
    signals = {Signal.PARAM_NORM: np.array([7.0]), Signal.VALID_LOSS: np.array([1.0, 2.0, 3.0])}
    kept = signals_table.kept(signals, {"rewards": np.array([0.1, 1 / 3])})
    found = rows(tmp_path, [{"step": 1, "signals": kept}, {"step": 2}], seen=("left", "right"))
    by = {name: part.set_index("item")["value"].to_dict() for name, part in found.groupby("name")}
    assert by == {
        "param_norm": {"0": 7.0},
        "valid_loss": {"one": 1.0, "other": 2.0, "third": 3.0},
        "rewards": {"left": 0.1, "right": 0.33333333},
    }
    assert (found["other"] == "").all()


def test_losses_of_merged_models_have_their_domain_and_the_models_number(tmp_path: Path) -> None:
    kept = signals_table.kept({Signal.ADAPTER_LOSS: np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])}, {})
    found = rows(tmp_path, [{"step": 1, "signals": kept}])
    assert found[["item", "other", "value"]].values.tolist() == [
        ["one", "0", 1.0], ["one", "1", 2.0], ["other", "0", 3.0], ["other", "1", 4.0], ["third", "0", 5.0], ["third", "1", 6.0],
    ]  # fmt: skip


def test_a_long_run_is_written_in_batches(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(signals_table, "BATCH", 7)
    lines = [{"step": step, "signals": {"rewards": [1.0 * step, 2.0, 3.0]}} for step in range(1, 11)]
    found = rows(tmp_path, lines)
    assert len(found) == 30 and found["step"].tolist() == sorted(found["step"].tolist())


@pytest.mark.parametrize("groups", [None, 2])
def test_a_run_keeps_what_its_mixer_saw(groups, experiment_of, corpus, tmp_path: Path, monkeypatch) -> None:
    """Recomputed from the file: the paper's alignment, and the rewards that the mixer gave its agent."""
    from acodm_core.acodm.mixer import AcOdm

    given = []
    learned = AcOdm.rewards
    monkeypatch.setattr(AcOdm, "rewards", lambda self, stats: given.append(learned(self, stats)) or given[-1])
    methods = {"acodm_alignment": {"groups": groups}}
    experiment = experiment_of(
        compare=["acodm_alignment"], baseline="acodm_alignment", training={"steps": 5}, methods=methods
    )
    (run, spec), *_ = plan(experiment).runs.items()
    Trainer(spec, corpus, tmp_path / run).run()
    found = pd.read_parquet(tmp_path / run / "signals.parquet")
    gram = found[found["name"] == "grad_gram"]
    assert set(gram["step"]) == {1, 2, 3, 4, 5} and set(gram["item"]) <= set(corpus.domains)
    diagonal = gram[gram["item"] == gram["other"]]
    assert (diagonal["value"] > 0).all()
    rewards = found[found["name"] == "rewards"].pivot(index="step", columns="item", values="value")
    names = list(spec.groups or corpus.domains)
    np.testing.assert_allclose(rewards[names].to_numpy(), np.array(given), rtol=1e-6)


def test_a_mixer_that_asks_for_nothing_leaves_an_empty_table(experiment_of, corpus, tmp_path: Path) -> None:
    (run, spec), *_ = plan(experiment_of(training={"steps": 2})).runs.items()
    Trainer(spec, corpus, tmp_path / run).run()
    assert pd.read_parquet(tmp_path / run / "signals.parquet").empty


def test_vectors_stay_out_of_the_diagnostics(experiment_of, corpus, tmp_path: Path) -> None:
    planned = plan(experiment_of(compare=["odm"], baseline="odm", training={"steps": 3}))
    (run, spec), *_ = planned.runs.items()
    Trainer(spec, corpus, tmp_path / run).run()
    assert pd.read_parquet(tmp_path / run / "diagnostics.parquet").empty
    found = pd.read_parquet(tmp_path / run / "signals.parquet")
    assert set(found["name"]) == {"rewards"} and len(found) == 3 * len(corpus.domains)
