"""`acodm plan` before anything is spent: counts that the runs' own ledgers confirm, sums, disk, power, and the program."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import yaml
from conftest import tiny_config
from typer.testing import CliRunner

from acodm_core import cli
from acodm_core.errors import UserError
from acodm_core.files import read_json
from acodm_core.lm.flops import config_flops
from acodm_core.lm.model import build_model
from acodm_core.lm.train import Trainer
from acodm_core.measure.statistical_power import smallest_difference
from acodm_core.mixing import Signal
from acodm_core.planning import estimate, operation_counts, table, timing
from acodm_core.planning.estimator import Estimator
from acodm_core.study.planner import plan

COMPARED = ["uniform", "acodm", "acodm_proxy", "doremi", "aioli", "opmix"]


@pytest.fixture(scope="module")
def estimator(experiment_of, corpus):
    experiment = experiment_of(compare=COMPARED, seeds=[0, 1])
    made = Estimator(experiment, plan(experiment))
    made.__dict__["corpus"] = corpus  # as if it lay where corpora lie
    return made


def estimated(estimator, **options):
    return estimator.estimate(**{"probe": False, "rate": None, "device": "cpu", "noise": None} | options)


def test_a_model_is_counted_without_being_made(experiment_of):
    config = experiment_of().models["tiny"]
    assert operation_counts.passes(config, context=16, vocabulary=300).both == config_flops(config, 16, 300)
    large = experiment_of().models["pythia-31m"]
    made = build_model(large.config, vocab_size=50304, context=64, seed=None, device="meta")
    found = operation_counts.passes(large, context=64, vocabulary=50304)
    assert found.parameters == sum(p.numel() for p in made.parameters())
    assert found.both > 3 * found.forward > 9 * found.embedding > 0


@pytest.mark.parametrize("method", ["uniform", "acodm", "doremi_proxy", "aioli", "opmix"])
def test_what_is_counted_beforehand_is_what_the_run_books(method, estimator, corpus, tmp_path):
    """The operations to the last one; bytes on disk within a few percent and what small files' heads take."""
    run = estimator.run_of[method]
    spec = estimator.plan.runs[run]
    folders = {}
    for role, needed in spec.needed():
        folders[role] = tmp_path / needed
        Trainer(estimator.plan.runs[needed], corpus, folders[role]).run()
    Trainer(spec, corpus, tmp_path / run, folders).run()
    manifest, count = read_json(tmp_path / run / "manifest.json"), estimator.counts[method]
    assert count.parameters == manifest["parameters"]
    assert count.model_flops == manifest["model_flops"]
    assert count.method_flops == manifest["method_flops"]
    disk = sum(path.stat().st_size for path in (tmp_path / run).rglob("*") if path.is_file())
    # The moving averages of a mixer's sketches are not foreseen: a fifth of so small a model's checkpoint, nothing of a real one's.
    assert estimate.run_bytes(spec, count) == pytest.approx(disk, rel=0.2, abs=50_000)


def test_the_table_sums_all_runs_and_says_what_comes_first(estimator):
    found = estimated(estimator)
    rows = {row.method: row for row in found.rows}
    runs = Counter(spec.method for spec in estimator.plan.runs.values())
    assert {method: row.runs for method, row in rows.items()} == runs
    assert rows["acodm_proxy"].after == ("acodm_proxy_run",) and not rows["acodm_proxy_run"].compared
    assert found.total("tokens") == sum(spec.tokens() for spec in estimator.plan.runs.values())
    assert found.total("flops") == sum(row.model_flops + row.method_flops + row.evaluation_flops for row in found.rows)
    assert found.total("seconds") is None


def test_a_given_rate_divides_the_operations(estimator):
    found = estimated(estimator, rate=1e9)
    assert found.total("seconds") == pytest.approx(found.total("flops") / 1e9)
    assert "given 1e+09" in " ".join(found.notes)


def test_the_probe_times_every_shape_once_and_says_so(estimator):
    found = estimated(estimator, probe=True)
    assert all(row.seconds > 0 for row in found.rows)
    assert "tiny" in found.notes[-1] and "20 steps" in found.notes[-1]


def test_a_shape_that_is_too_slow_to_try_is_extrapolated_and_named(estimator, monkeypatch):
    monkeypatch.setattr("acodm_core.planning.estimator.TOO_SLOW_SECONDS", 0.0)
    monkeypatch.setattr("acodm_core.planning.estimator.first_guess", lambda: 1e9)
    fresh = Estimator(estimator.experiment, estimator.plan)
    fresh.__dict__ |= {"corpus": estimator.corpus, "asks": estimator.asks, "counts": estimator.counts}
    found = estimated(fresh, probe=True)
    note = next(note for note in found.notes if note.startswith("Extrapolated: tiny"))
    assert "on one sequence" in note and "--rate" in note
    assert found.total("seconds") > 0


def test_signals_cost_what_they_are_timed_at(experiment_of):
    config, training = experiment_of().models["tiny"], experiment_of().training
    asked = [frozenset(), frozenset({Signal.ADAM_SKETCH, Signal.LOSS}), frozenset({Signal.VALID_LOSS})]
    found = timing.pace(
        config, training, domains=4, vocabulary=300, asked=asked, step_flops=10**6, forward_flops=10**5, device="cpu"
    )  # fmt: skip
    assert list(found.extra_seconds) == [asked[1]], "passes of their own are counted, not timed"
    assert 0 < found.step_seconds < 1 and found.flops_per_second == pytest.approx(1e6 / found.step_seconds)


def test_seeds_detect_what_the_power_calculation_says(tmp_path):
    assert estimate.detectable(1, None) is None
    assert estimate.detectable(5, None) == pytest.approx(smallest_difference(1.0, 5))
    with pytest.raises(UserError, match="no noise card"):
        estimate.read_noise(tmp_path)
    (tmp_path / "rendered").mkdir()
    (tmp_path / "rendered" / "noise.csv").write_text("method,sd_of_differences\nnatural,9.0\na,0.01\nb,0.03\n")
    noise = estimate.read_noise(tmp_path)
    assert (noise.sd, noise.methods) == (pytest.approx(0.02), 2), "the baseline's own row is not a difference"
    assert estimate.detectable(5, noise) == pytest.approx(0.02 * smallest_difference(1.0, 5))


def test_the_program_prints_a_table_and_json(tmp_path, corpus):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tiny_config(corpus) | {"seeds": [0, 1, 2]}))
    shown = CliRunner().invoke(cli.app, ["plan", str(path), "--no-probe"]).stdout
    assert "uniform" in shown and "not timed" in shown and "3 seeds find a difference of 3.26" in shown
    found = json.loads(CliRunner().invoke(cli.app, ["plan", str(path), "--no-probe", "--json"]).stdout)
    assert found["total"]["runs"] == 3 and found["rows"][0]["method"] == "uniform"


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "not timed"), (90, "1.5 min"), (7200, "2 h"), (3.6e7, "10,000 h")]
)
def test_durations_are_readable(seconds, words):
    assert table.hours(seconds) == words
