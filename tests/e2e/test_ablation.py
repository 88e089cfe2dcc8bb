"""The ablation preset cut down to what a test can train: two of its axes, four small domains, a few steps."""

import html
from pathlib import Path

import pandas as pd
import pytest
import yaml
from workflow_runs import ROOT, run_from_archives

AXES = ("shrinkage", "proxy_length")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the cut-down preset has run once."""
    path = tmp_path_factory.mktemp("ablation")
    preset = yaml.safe_load((ROOT / "workflow/config/ablation.yaml").read_text())
    preset["axes"] = {name: preset["axes"][name] for name in AXES}
    smoke = yaml.safe_load((ROOT / "workflow/config/smoke.yaml").read_text())
    small = preset | {key: smoke[key] for key in ("corpus", "training", "evaluation", "probe")}
    small |= {"compare": ["natural", "uniform"], "seeds": [0], "roles": {"target": "cpu-nano", "proxy": "cpu-nano"}}
    small["methods"] = {name: entry for name, entry in preset["methods"].items() if entry.get("model") == "proxy"}
    (path / "small.yaml").write_text(yaml.safe_dump(small))
    run_from_archives(path, path / "small.yaml")
    return path


def test_every_value_of_an_axis_has_a_row_and_the_base_is_trained_once(folder):
    axes = yaml.safe_load((folder / "small.yaml").read_text())["axes"]
    runs = pd.read_parquet(folder / "results/ablation/runs.parquet")
    assert (runs.status == "finished").all() and runs.method.is_unique
    for name in AXES:
        table = pd.read_csv(folder / f"results/ablation/rendered/ablation_{name}.csv")
        assert set(map(str, axes[name]["values"])) <= set(table["label"].astype(str))


def test_a_shorter_proxy_takes_fewer_steps_and_its_heirs_all_of_them(folder):
    runs = pd.read_parquet(folder / "results/ablation/runs.parquet").set_index("method")
    assert runs.steps["acodm_half_run"] == runs.steps["acodm_proxy_run"] / 2
    assert (runs.steps[runs.index.str.startswith("acodm_proxy-")] == runs.steps["uniform"]).all()


def test_the_report_has_a_block_for_each_axis(folder):
    report = html.unescape((folder / "results/ablation/report.html").read_text())
    titles = [axis["title"] for axis in yaml.safe_load((folder / "small.yaml").read_text())["axes"].values()]
    assert all(title in report for title in titles)
