"""Snapshots of weights: on the evaluation grid, and no concern of a run that keeps none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acodm_core.errors import UserError
from acodm_core.files import sha256
from acodm_core.lm.train import Trainer, snapshot_name
from acodm_core.study.config import EvaluationConfig
from acodm_core.study.planner import RunSpec, plan


def test_a_run_without_snapshots_is_named_as_before_there_were_any(experiment_of) -> None:
    (plain,) = plan(experiment_of()).runs.values()
    (kept,) = plan(experiment_of(evaluation={"snapshots": [0.5]})).runs.values()
    assert "snapshots" not in plain.model_dump_json() and plain.digest != kept.digest
    assert RunSpec.model_validate_json(plain.model_dump_json()) == plain
    assert RunSpec.model_validate_json(kept.model_dump_json()) == kept


@given(st.lists(st.floats(0, 0.999), max_size=5), st.integers(1, 500), st.integers(1, 60))
def test_snapshots_lie_on_the_evaluation_grid_next_to_their_share(shares: list[float], steps: int, every: int) -> None:
    found = EvaluationConfig(every=every, snapshots=shares).snapshot_steps(steps)
    assert bool(found) == bool(shares)
    for step in found:
        assert step % every == 0 and 0 <= step < steps, "the last step's weights are the run's own"
    for share in shares:
        nearest = min(range(0, steps, every), key=lambda step: abs(step - share * steps))
        assert min(abs(step - share * steps) for step in found) == pytest.approx(abs(nearest - share * steps))


@pytest.mark.parametrize("share", [-0.1, 1, 7])
def test_a_share_is_a_share(share: float, experiment_of) -> None:
    with pytest.raises(UserError, match=r"evaluation\.snapshots"):
        experiment_of(evaluation={"snapshots": [share]})


def test_a_snapshot_is_what_a_checkpoint_loads(experiment_of, corpus, tmp_path) -> None:
    from acodm_core.downstream.checkpoint import Checkpoint

    spec_of = experiment_of(training={"steps": 8}, evaluation={"every": 2, "snapshots": [0, 0.5]})
    (spec,) = plan(spec_of).runs.values()
    Trainer(spec, corpus, tmp_path).run()
    names = [snapshot_name(step) for step in (0, 4)]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("snapshots/*")) == names
    assert len({sha256(tmp_path / name) for name in (*names, "weights.safetensors")}) == 3
    assert Checkpoint.load(tmp_path, corpus, step=4).step == 4
    with pytest.raises(UserError):
        Checkpoint.load(tmp_path, corpus, step=5)
