"""What jobs ask schedulers for: the configuration's word, else the saved estimate with a margin, else a fixed guess."""

from __future__ import annotations

import json

import pytest
from conftest import tiny_config
from typer.testing import CliRunner

from acodm_core import cli
from acodm_core.errors import UserError
from acodm_core.files import read_json, write_json
from acodm_core.planning import job_requests
from acodm_core.planning.job_requests import MEMORY_MB, MINUTES, Requests
from acodm_core.study.config import load_experiment
from acodm_core.study.planner import plan


@pytest.fixture
def ask(experiment_of, tmp_path):
    """``ask({run: seconds and bytes}, resources={...})``: the requests of two methods, and a run of each."""

    def build(known=None, **overlay):
        experiment = experiment_of(compare=["uniform", "acodm"], **overlay)
        planned = plan(experiment)
        if known is not None:
            found = {run: known[spec.method] for run, spec in planned.runs.items() if spec.method in known}
            (tmp_path / job_requests.FILE).write_text(json.dumps(found))
        runs = {spec.method: run for run, spec in planned.runs.items()}
        return Requests(experiment, planned, tmp_path), runs

    return build


KNOWN = {
    "uniform": {"seconds": 600.0, "memory_bytes": 1_000_000_000},
    "acodm": {"seconds": 1200.0, "memory_bytes": 2_000_000_000},
}


def test_each_run_asks_for_its_own_estimate_and_more(ask):
    requests, runs = ask(KNOWN)
    assert requests.memory_mb(runs["uniform"]) == 1500 and requests.memory_mb(runs["acodm"]) == 3000
    assert requests.minutes(runs["uniform"]) == 10 + 30 and requests.minutes(runs["acodm"]) == 10 + 60


def test_a_second_attempt_asks_for_more_memory_and_no_more_time(ask):
    requests, runs = ask(KNOWN)
    assert requests.memory_mb(runs["uniform"], attempt=2) == 2 * requests.memory_mb(runs["uniform"])


def test_every_process_of_a_run_on_many_gpus_has_its_memory(ask):
    requests, runs = ask(KNOWN, resources={"gpus": 4})
    assert requests.memory_mb(runs["uniform"]) == 4 * 1500


def test_what_the_configuration_says_holds(ask):
    requests, runs = ask(KNOWN, resources={"memory_mb": 77, "minutes": 5, "gpus": 4})
    assert [requests.memory_mb(runs["acodm"], attempt=3), requests.minutes(runs["acodm"])] == [77, 5]
    assert requests.evaluation_minutes() == 5


def test_nothing_saved_or_another_run_is_a_fixed_guess(ask):
    requests, runs = ask()
    assert [requests.memory_mb(runs["uniform"]), requests.minutes(runs["uniform"])] == [MEMORY_MB, MINUTES]
    assert requests.probe_minutes() == MINUTES
    ask(KNOWN)
    changed, runs = ask(training={"steps": 41})  # other runs: they have other names
    assert [changed.memory_mb(runs["uniform"]), changed.minutes(runs["uniform"])] == [MEMORY_MB, MINUTES]


def test_an_estimate_without_seconds_still_tells_the_memory(ask):
    requests, runs = ask({"uniform": {"seconds": None, "memory_bytes": 4_000_000_000}})
    assert [requests.memory_mb(runs["uniform"]), requests.minutes(runs["uniform"])] == [6000, MINUTES]


def test_the_probe_takes_its_steps_and_a_process_a_thread(ask):
    probe = {"blocks": 4, "steps": 5, "warmup": 10, "memory_repeats": 2}
    requests, _ = ask(KNOWN, probe=probe)
    steps = 600 / 40 + 1200 / 40  # seconds a step of both methods together
    seconds = 2 * (10 + 4 * 5) * steps + 2 * (10 * steps + 2 * 30)
    assert requests.probe_minutes() == pytest.approx(10 + 3 * seconds / 60, abs=1)
    assert requests.probe_memory_mb(threads=2) == 3 * 3000


def test_a_damaged_estimate_is_named(ask, tmp_path):
    (tmp_path / job_requests.FILE).write_text("{")
    with pytest.raises(UserError, match=r"truncated"):
        ask()


def test_a_piece_has_time_for_the_largest(tmp_path):
    path = tmp_path / "shards.json"
    with pytest.raises(FileNotFoundError) as missing:  # by which Snakemake knows that it must ask again
        job_requests.piece_minutes(str(path), 2)
    assert missing.value.filename == str(path)
    write_json(path, {"shards": [{"path": "a", "bytes": 21_000_000}, {"path": "b", "bytes": 42_000_000}]})
    assert job_requests.piece_minutes(str(path), 2) == 10 + 6  # 120 MB of text at a megabyte a second, three times


def test_the_program_saves_what_it_prints(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny_config(corpus) | {"compare": ["uniform", "natural"], "horizons": {"uniform": [10]}}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    done = CliRunner().invoke(cli.app, ["plan", "config.yaml", "--rate", "1e9", "--save", "--json"])
    assert done.exit_code == 0, done.output
    rows = {row["method"]: row for row in json.loads(done.stdout)["rows"]}
    saved = read_json(tmp_path / "results/tiny" / job_requests.FILE)
    groups = plan(load_experiment(config)).alike()
    assert sorted(groups) == ["natural", "uniform", "uniform to 10"] and len(saved) == 3
    for name, (run,) in groups.items():
        seconds, memory = pytest.approx(rows[name]["seconds"]), rows[name]["memory_bytes"]
        assert saved[run] == {"seconds": seconds, "memory_bytes": memory}
