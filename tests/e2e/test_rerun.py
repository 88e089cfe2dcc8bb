"""From a finished experiment to the runs that it lacks: what `acodm rerun` writes fills the cells that said "not run"."""

from __future__ import annotations

import math
from pathlib import Path

import fake_results
import pytest
import yaml
from conftest import tiny_config
from typer.testing import CliRunner

from acodm_analysis import compute_matched, currencies
from acodm_analysis.core import frames
from acodm_analysis.pages import rerun
from acodm_core import cli
from acodm_core.errors import UserError
from acodm_core.results.collect import collect
from acodm_core.results.reader import Results
from acodm_core.study.config import load_experiment
from acodm_core.study.planner import plan

CHANGES = {
    "experiment": "first",
    "seeds": [0, 1],
    "compare": ["natural", "uniform", "acodm_proxy"],
    "baseline": "natural",
    "training": {"steps": 30},
    "evaluation": {
        "every": 5,
        "objective_weights": {"noise": 1},
    },  # which natural shares draw seldom: the others get there early
}


def study(corpus, root: Path, *overlays: dict | Path) -> Results:
    """Train what is not there yet below ``root`` and collect it."""
    from acodm_core.lm.train import Trainer

    experiment = load_experiment(tiny_config(corpus), CHANGES, *overlays)
    planned = plan(experiment)
    for run, spec in planned.runs.items():
        if not (root / "runs" / run / "manifest.json").exists():
            Trainer(spec, corpus, root / "runs" / run, spec.input_folders(root / "runs")).run()
    collect(experiment, planned, corpus, [root / "runs"], root / experiment.experiment)
    return Results(root / experiment.experiment)


def test_the_overlay_trains_what_the_tables_lacked(corpus, tmp_path: Path, capfd) -> None:
    first = study(corpus, tmp_path)
    assert currencies.table(first).query("horizon == @frames.MATCHED")["cost"].isna().all()
    assert compute_matched.table(first)["whole_cheap"].tolist() == [""]
    path = tmp_path / "overlay.yaml"
    asked = ["rerun", str(first.folder), "--out", str(path), "--part", "0.5", "--part", "1"]
    assert CliRunner().invoke(cli.app, asked).exit_code == 0
    written = yaml.safe_load(path.read_text())
    assert capfd.readouterr().out == path.read_text() and written["experiment"] == "first-horizons"

    crossed = frames.crossings(first).query("threshold == 'natural'").groupby("method")["steps"].median()
    reached = [method for method in first.compare if crossed[method] <= 29]
    assert reached, "the run is long enough for somebody to cross"
    for method in reached:
        assert {math.ceil(crossed[method] / 2), math.ceil(crossed[method])} <= set(written["horizons"][method])
    longest = {method: max(steps) for method, steps in written["horizons"].items() if max(steps) > 30}
    (cheap, steps), *others = longest.items()
    assert not others and cheap in ("natural", "uniform")

    before = set((tmp_path / "runs").iterdir())
    second = study(corpus, tmp_path, path)
    more = set((tmp_path / "runs").iterdir()) - before
    assert len(more) == 2 * sum(len(steps) for steps in written["horizons"].values()), "what was trained stays"
    assert len(second.runs) - len(first.runs) == len(more)
    ancestors = second.runs[second.runs["method"] == "acodm_proxy"].groupby("seed")["ancestors"].nunique()
    assert set(ancestors) == {1}, "a stage is not trained again"
    matched = currencies.table(second).query("horizon == @frames.MATCHED and currency == 'steps' and way == 'alone'")
    natural = matched[matched["threshold"] == "natural"].set_index("method")["cost"]
    assert natural.loc[reached].notna().all()
    row = compute_matched.table(second).set_index("method").loc["acodm_proxy"]
    assert row["whole_cheap"] and math.isfinite(row["whole_cheap_loss"])
    spent = second.runs[(second.runs["method"] == cheap) & (second.runs["steps"] == steps)]["model_flops"]
    assert (spent <= row["whole_flops"]).all() and (spent / steps * (steps + 1) > row["whole_flops"]).all()
    assert set(rerun.horizons(second, "natural", (0.5, 1.0))[cheap]) == set(written["horizons"][cheap]), (
        "nothing is forgotten"
    )


def test_further_horizons_are_planned_and_no_rows(corpus) -> None:
    from acodm_core.planning.estimator import Estimator

    one = load_experiment(tiny_config(corpus), CHANGES)
    two = load_experiment(tiny_config(corpus), CHANGES, {"horizons": {"uniform": [12, 60, 12]}})
    assert "horizons" not in one.model_dump(mode="json"), "an old plan is the file that it was"
    before, planned = plan(one), plan(two)
    assert planned.compared == before.compared and planned.probed() == before.probed()
    assert list(planned.runs)[: len(before.runs)] == list(before.runs)
    new = [spec for run, spec in planned.runs.items() if run not in before.runs]
    assert [(spec.method, spec.training.steps, spec.seed) for spec in new] == [
        ("uniform", steps, seed) for steps in (12, 60) for seed in (0, 1)
    ]
    estimator = Estimator(two, planned)
    estimator.__dict__["corpus"] = corpus
    rows = {row.method: row for row in estimator.estimate(probe=False, rate=1e9, device="cpu", noise=None).rows}
    assert rows["uniform to 60"].model_flops == 2 * rows["uniform"].model_flops == 5 * rows["uniform to 12"].model_flops
    assert rows["uniform"].compared and not rows["uniform to 60"].compared and rows["uniform to 60"].runs == 2
    with pytest.raises(UserError, match="uniform") as error:
        plan(load_experiment(tiny_config(corpus), CHANGES, {"horizons": {"unifrom": [12]}}))
    assert error.value.where == "horizons.unifrom"


def test_mistakes_and_nothing_to_do_are_said(tmp_path: Path, monkeypatch, capsys) -> None:
    folder = fake_results.make(tmp_path / "canned", 2)
    for asked, words in (
        (["--part", "1.5"], "--part"),
        (["--method", "odmm"], "did you mean 'odm'"),
        (["--method", "natural"], "nothing to run again"),
    ):
        monkeypatch.setattr("sys.argv", ["rerun", str(folder), str(tmp_path / "out.yaml"), *asked])
        with pytest.raises(SystemExit):
            rerun.main()
        assert words in capsys.readouterr().err and not (tmp_path / "out.yaml").exists()
