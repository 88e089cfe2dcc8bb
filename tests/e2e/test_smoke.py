"""The whole workflow on real text: archives to report, then what a second run, a changed option and a new method cause."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from workflow_runs import ROOT, jobs, run_from_archives, snakemake

COMPARED = yaml.safe_load((ROOT / "workflow/config/smoke.yaml").read_text())["compare"]
MINE = '''
"""A mixer that lives outside the project."""
from dataclasses import dataclass
import numpy as np
from acodm_core.mixing import Mixer, Start

@dataclass
class Halves(Mixer):
    """Half of every batch to the first domain. Idea: none. Update: none. Source: none. Differences: none."""
    def start(self, start: Start) -> None:
        rest = len(start.domains) - 1
        self.mixture_ = np.array([0.5] + [0.5 / rest] * rest)
    def sampling_weights(self, step):
        return self.mixture_
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the smoke preset has run once."""
    path = tmp_path_factory.mktemp("smoke")
    run_from_archives(path, ROOT / "workflow/config/smoke.yaml")
    return path


def test_every_compared_method_is_in_the_main_table(folder):
    table = pd.read_csv(folder / "results/smoke/rendered/comparison.csv")
    runs = pd.read_parquet(folder / "results/smoke/runs.parquet")
    assert sorted(runs[runs.compared].method) == sorted(COMPARED)
    assert (runs.status == "finished").all()
    assert len(table) == len(COMPARED)


def test_the_report_shows_every_method_and_needs_no_network(folder):
    report = (folder / "results/smoke/report.html").read_text()
    runs = pd.read_parquet(folder / "results/smoke/runs.parquet")
    for title in runs[runs.compared].title:
        assert title in report
    assert not re.findall(r'(?:src|href)="https?://[^"]+\.(?:js|css|png|svg)"', report)


def test_the_proxy_run_is_charged_to_the_method_that_needs_it(folder):
    runs = pd.read_parquet(folder / "results/smoke/runs.parquet").set_index("method")
    assert runs.ancestors["acodm_proxy"] == f'["{runs.run["acodm_proxy_run"]}"]'
    assert not runs.compared["acodm_proxy_run"]


def test_finished_runs_are_asked_and_their_scores_are_in_the_report(folder):
    scores = pd.read_parquet(folder / "results/smoke/downstream.parquet")
    whole = scores[scores.subject == ""]
    assert set(scores.run.str.partition("-")[0]) == {"natural", "acodm"}
    accuracy = whole[(whole.task == "mmlu") & (whole.metric == "accuracy")]
    assert (accuracy.n == 8).all() and (accuracy.chance == 0.25).all() and len(accuracy) == 2
    assert (whole[whole.metric == "pass@1"].value == 0).all() or "no sandbox" in " ".join(whole.reason)
    assert set(whole[whole.task == "humaneval"].metric) >= {"unasked_share"}
    report = (folder / "results/smoke/report.html").read_text()
    section = report[report.index('id="downstream"') :]
    assert "not distinguishable" in section and "contamination.csv" in section


def test_all_runs_of_a_swarm_are_charged_to_the_method_that_needs_them(folder):
    runs = pd.read_parquet(folder / "results/smoke/runs.parquet")
    swarm = runs[runs.method == "regmix_swarm"]
    assert len(swarm) == 4 and not swarm.compared.any()
    (ancestors,) = runs[runs.method == "regmix"].ancestors
    assert json.loads(ancestors) == sorted(swarm.run)
    phases = pd.read_csv(folder / "results/smoke/rendered/cost_phases.csv")
    charged = phases.query("method == 'regmix' and phase == 'regmix_swarm' and currency == 'flops'").cost.item()
    assert charged == pytest.approx((swarm.model_flops + swarm.method_flops).sum(), rel=1e-9)  # ten digits in the CSV


def test_validation_curves_fall(folder):
    runs = pd.read_parquet(folder / "results/smoke/runs.parquet")
    metrics = pd.read_parquet(folder / "results/smoke/metrics.parquet")
    metrics = metrics[metrics.run.isin(runs[runs.compared].run)]  # a swarm's runs are shorter, and some draw one domain
    valid = metrics[(metrics.split == "valid") & (metrics.metric == "loss")]
    mean = valid.groupby(["run", "step"]).value.mean().unstack()
    assert (mean[mean.columns.max()] < mean[0] - 0.3).all()


def test_a_second_run_does_nothing(folder):
    done = snakemake(folder, "--configfile", str(ROOT / "workflow/config/smoke.yaml"))
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


def test_a_changed_option_trains_only_that_method_again(folder):
    changed = folder / "changed.yaml"
    changed.write_text(yaml.safe_dump({"methods": {"odm": {"options": {"alpha": 0.5}}}}))
    done = snakemake(folder, "-n", "--configfile", str(ROOT / "workflow/config/smoke.yaml"), str(changed))
    assert jobs(done)["train"] == 1
    assert not {"fetch", "documents", "tokenize", "seal"} & set(jobs(done))


def test_a_changed_proxy_stage_trains_its_whole_chain_again(folder):
    changed = folder / "chain.yaml"
    changed.write_text(yaml.safe_dump({"methods": {"acodm_proxy_run": {"options": {"discount": 0.9}}}}))
    done = snakemake(folder, "-n", "--configfile", str(ROOT / "workflow/config/smoke.yaml"), str(changed))
    assert jobs(done)["train"] == 1 and jobs(done)["train_first"] == 1  # the target run, and the proxy before it


def test_a_mixer_from_elsewhere_runs_and_appears_in_the_tables(folder):
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere/__init__.py").touch()
    (folder / "elsewhere/halves.py").write_text(MINE)
    mine = folder / "mine.yaml"
    mine.write_text(
        yaml.safe_dump(
            {"methods": {"halves": {"mixer": "elsewhere.halves", "title": "Halves"}}, "compare": [*COMPARED, "halves"]}
        )
    )
    done = snakemake(folder, "--configfile", str(ROOT / "workflow/config/smoke.yaml"), str(mine))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "Halves" in (folder / "results/smoke/rendered/comparison.md").read_text()
    mixture = pd.read_parquet(folder / "results/smoke/mixture.parquet")
    halves = mixture[mixture.run.str.startswith("halves")]
    assert halves[halves.domain == "bible"].requested.tolist() == pytest.approx([0.5] * 24)


@pytest.mark.parametrize(
    ("overlay", "where", "names"),
    [
        ({"trainin": {}}, "trainin", "training"),
        ({"compare": ["natural", "odn"]}, "compare[1]", "odm"),
        ({"methods": {"odm": {"options": {"alfa": 1}}}}, "methods.odm.options.alfa", "alpha"),
        ({"corpus": {"domains": ["bibel"]}}, "corpus.domains", "bible"),
    ],
)
def test_a_mistake_ends_the_dry_run_with_a_message(tmp_path, overlay, where, names):
    bad = tmp_path / "bad.yaml"
    bad.write_text(yaml.safe_dump(overlay))
    done = snakemake(tmp_path, "-n", "--configfile", str(ROOT / "workflow/config/smoke.yaml"), str(bad))
    assert done.returncode == 1
    assert where in done.stderr and names in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_smoke_has_every_method_of_mini():
    mini = yaml.safe_load((ROOT / "workflow/config/mini.yaml").read_text())["compare"]
    assert set(mini) <= set(COMPARED)
