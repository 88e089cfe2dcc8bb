"""`acodm score`: another trainer's runs under the same rules, alone and beside an experiment; every mistake names its line."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import fake_results
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from acodm_analysis import claims, comparison, cost, currencies, render
from acodm_analysis.core import costs, frames, pairs
from acodm_analysis.pages import report, verdicts
from acodm_analysis.repetition import table as repetition_table
from acodm_core import cli
from acodm_core.errors import UserError
from acodm_core.results.external_runs import score
from acodm_core.results.reader import Results

EXAMPLE = re.search(r"```jsonl\n(.*?)```", (Path(__file__).parents[3] / "docs/how-to/score.md").read_text(), re.S)[1]
EVALUATION = {"valid_sequences": 8, "test_sequences": 32, "context": fake_results.CONTEXT}


def scored(text: str, tmp_path: Path, beside: Results | None = None) -> Results:
    (tmp_path / "runs.jsonl").write_text(text)
    score(tmp_path / "runs.jsonl", tmp_path / "scored", beside)
    return Results(tmp_path / "scored")


def changed(number: int, **changes: object) -> str:
    """The example with a line (from 1) changed; None takes a key out."""
    lines = [json.loads(line) for line in EXAMPLE.splitlines()]
    line = lines[number - 1] | changes
    lines[number - 1] = {key: value for key, value in line.items() if value is not None}
    return "\n".join(map(json.dumps, lines)) + "\n"


def refused(text: str, tmp_path: Path, beside: Results | None = None) -> str:
    with pytest.raises(UserError) as error:
        scored(text, tmp_path, beside)
    assert not (tmp_path / "scored").exists()
    return str(error.value)


def records_of(results: Results, method: str, name: str, **header: object) -> str:
    """What a trainer would have written that trained ``method`` of these results, here under another name."""
    tokens = dict(zip(results.domains, results.experiment["corpus"]["train_tokens"], strict=True))
    first = {"experiment": "joined", "baseline": "natural", "train_tokens": tokens, "batch": fake_results.BATCH}
    first |= {
        "context": fake_results.CONTEXT,
        "corpus": results.experiment["corpus"]["id"],
        "evaluation": EVALUATION,
    } | header
    lines = [first]
    for run in frames.runs_of(results, [method]).itertuples():
        own = f"{name}-{run.seed}"
        lines.append(
            {"run": own, "method": name, "seed": run.seed, "flops": run.model_flops, "hardware": fake_results.HARDWARE}
        )
        lines[-1] |= {"method_flops": run.method_flops, "model": "target"}
        mine = results.metrics[(results.metrics["run"] == run.run) & (results.metrics["metric"] == "loss")]
        for (step, split), rows in mine.groupby(["step", "split"], sort=True):
            loss = dict(zip(rows["domain"], rows["value"], strict=True))
            lines.append(
                {"run": own, "step": int(step), "tokens": int(rows["tokens"].iloc[0]), "split": split, "loss": loss}
            )
    return "\n".join(map(json.dumps, lines)) + "\n"


def test_the_example_of_the_page_is_scored_by_the_rules(tmp_path: Path) -> None:
    results = scored(EXAMPLE, tmp_path)
    row = comparison.table(results).set_index("method").loc["mine"]
    assert row["steps"] == pytest.approx(50) and row["test_mean"] == pytest.approx(2.9)
    assert row["flops_alone"] == pytest.approx(3.1e12 * 0.5)
    ledger = currencies.table(results).query("method == 'mine' and threshold == 'natural' and way == 'alone'")
    at = ledger[ledger["horizon"] == frames.FIXED].set_index("currency")["cost"]
    assert at["seconds"] == pytest.approx(11) and at["tokens"] == pytest.approx(51200)
    epochs = repetition_table(results).set_index(["method", "domain"])["epochs"]
    assert epochs["mine", "prose"] == pytest.approx((50 * 0.5 + 50 * 0.6) * 1024 / 100_000), (
        "weights hold between points"
    )
    assert pairs.table(results)["verdict"].tolist() == ["n = 1: no verdict"]
    said = verdicts.notes(results, comparison.table(results), repetition_table(results))
    assert any("another trainer: natural, mine" in one for one in said)


def test_every_output_takes_it(tmp_path: Path) -> None:
    results = scored(EXAMPLE, tmp_path)
    render.render(results, tmp_path / "rendered")
    page = report.page(results, tmp_path / "rendered")
    assert "nan" not in re.findall(r">([^<]*)<", page) and "not run parameters" in page
    assert "Step time (×)" in page


def test_a_claim_is_measured_on_a_model_of_unstated_size(tmp_path: Path) -> None:
    text = EXAMPLE.replace('"mine"', '"acodm"').replace('"mine-0"', '"acodm-0"')
    frame = claims.table(scored(text, tmp_path))
    assert len(frame) and "nan" not in " ".join(
        claims.shown(frame, scored(text, tmp_path)).astype(str).to_numpy().ravel()
    )


def test_our_own_runs_score_as_they_did(tmp_path: Path) -> None:
    """Beside the experiment that they come from, with their method under another name."""
    source = Results(fake_results.make(tmp_path / "results" / "canned", 5))
    source.experiment["evaluation"] = EVALUATION
    results = scored(records_of(source, "acodm", "theirs"), tmp_path, source)
    assert results.compare == [*source.compare, "theirs"] and results.experiment["experiment"] == "joined"
    table = comparison.table(results).set_index("method")
    same = [
        "n",
        "valid_mean",
        "test_mean",
        "steps",
        "steps_low",
        "steps_high",
        "flops_alone",
        "flops_all_in",
        "verdict_against_baseline",
    ]
    pd.testing.assert_series_equal(table.loc["theirs", same], table.loc["acodm", same], check_names=False)
    before = comparison.table(source).set_index("method")
    numbers = before.select_dtypes("number").columns
    pd.testing.assert_frame_equal(table.loc[source.compare, numbers], before[numbers])
    assert math.isnan(cost.table(results).set_index("method").loc["theirs", "seconds_alone"]), "no clock, no seconds"


def test_own_clocks_stand_only_beside_a_probe_of_the_same_machine(tmp_path: Path) -> None:
    source = Results(fake_results.make(tmp_path / "results" / "canned", 1))
    source.experiment["evaluation"] = EVALUATION
    text = records_of(source, "acodm", "theirs").rstrip().splitlines()
    text[-1] = json.dumps(json.loads(text[-1]) | {"seconds": 600})
    for hardware, known in ((fake_results.HARDWARE, True), ("another machine", False)):
        told = "\n".join(text).replace(f'"hardware": "{fake_results.HARDWARE}"', f'"hardware": "{hardware}"')
        results = scored(told, tmp_path, source)
        assert (results.runs.set_index("run").loc["theirs-0", "train_seconds"]) == 600
        assert costs.step_seconds(results).get(("theirs", "target")) == (pytest.approx(2.0) if known else None)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("corpus", "another-1", "corpus: another-1"),
        ("evaluation", {"valid_sequences": 9}, "valid_sequences"),
        ("batch", 16, "tokens per step"),
        ("baseline", "uniform", "baseline"),
    ],
)
def test_what_may_not_stand_beside_is_refused(name: str, value: object, words: str, tmp_path: Path) -> None:
    source = Results(fake_results.make(tmp_path / "results" / "canned", 1))
    source.experiment["evaluation"] = EVALUATION
    assert words in refused(records_of(source, "acodm", "theirs", **{name: value}), tmp_path, source)
    assert "a method of both: 'odm'" in refused(records_of(source, "acodm", "odm"), tmp_path, source)
    del source.experiment["evaluation"]
    assert "evaluation" in refused(records_of(source, "acodm", "theirs"), tmp_path, source)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no runs"),
        ("{\n", "runs.jsonl:1: not JSON"),
        ("[]\n", "runs.jsonl:1: must hold a JSON object"),
        (changed(1, batch=0), "runs.jsonl:1.batch"),
        (changed(1, bach=8), "did you mean 'batch'"),
        (changed(1, baseline="none"), "no compared run of the baseline 'none'"),
        (changed(2, seed="x"), "runs.jsonl:2.seed"),
        (changed(2, status="lost"), "runs.jsonl:2.status"),
        (changed(2, after=["gone"]), "'gone'"),
        (changed(7, run="natural-0"), "runs.jsonl:7: a second run"),
        (changed(7, method="natural"), "a second compared run of natural on seed 0"),
        (changed(3, run="nobody"), "runs.jsonl:3: a point of a run that is not there yet"),
        (changed(4, loss={"code": 3.0}), "runs.jsonl:4: loss: no prose"),
        (changed(4, loss={"code": 3.0, "prose": 4.0, "poems": 1.0}), "unknown domain 'poems'"),
        (changed(4, loss={"code": math.nan, "prose": 4.0}), "runs.jsonl:4.loss.code"),
        (changed(4, weights={"code": 0.9, "prose": 0.2}), "weights sum to 1.1"),
        (changed(5, step=40), "runs.jsonl:5: step 40 after step 50"),
        (changed(6, split="valid"), "runs.jsonl:6: a second valid loss at step 100"),
        (changed(1, steps=120), "ends at step 100, compared runs at 120"),
        (EXAMPLE[: len(EXAMPLE) // 2], "truncated or foreign"),
    ],
)
def test_a_mistake_names_its_place(text: str, words: str, tmp_path: Path) -> None:
    assert words in refused(text, tmp_path)


def test_a_run_that_broke_off_counts_as_failed(tmp_path: Path) -> None:
    lines = changed(7, status="diverged").splitlines()[:-2]
    row = comparison.table(scored("\n".join(lines), tmp_path)).set_index("method").loc["mine"]
    assert np.isinf(row["steps"]) and row["statuses"] == "1 diverged"


def test_the_program_writes_the_folder_and_prints_the_table(tmp_path: Path, capfd) -> None:
    (tmp_path / "runs.jsonl").write_text(EXAMPLE)
    done = CliRunner().invoke(cli.app, ["score", str(tmp_path / "runs.jsonl"), "--out", str(tmp_path / "mine")])
    assert done.exit_code == 0 and "perplexity 24.53" in capfd.readouterr().out
    (tmp_path / "planned").mkdir()
    (tmp_path / "planned" / "plan.json").touch()
    done = CliRunner().invoke(cli.app, ["score", str(tmp_path / "runs.jsonl"), "--out", str(tmp_path / "planned")])
    assert done.exit_code == 1 and "a planned experiment's own" in str(done.exception)
