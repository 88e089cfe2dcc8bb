"""What finished runs are asked: planned by what decides the answers, gathered with every hole named."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from fake_runs import finish

from acodm_core.downstream import lm_eval_names
from acodm_core.downstream.evaluations import evaluations, gather, read_settings
from acodm_core.errors import UserError
from acodm_core.files import write_json
from acodm_core.results.schemas import SCORES
from acodm_core.results.table_files import write_scores
from acodm_core.study.config import DownstreamConfig
from acodm_core.study.planner import plan


@pytest.fixture(scope="module")
def experiment(experiment_of):
    return lambda asked=None, **more: experiment_of(compare=["uniform", "natural", "odm"], **more, downstream=asked)


def planned(experiment: Any, asked: dict[str, Any], **more: Any) -> dict:
    made = experiment(asked, **more)
    return evaluations(plan(made), made.downstream)


def test_nothing_is_asked_unless_the_configuration_does(experiment) -> None:
    made = experiment()
    assert made.downstream is None and evaluations(plan(made), made.downstream) == {}


def test_asking_changes_no_run_and_not_the_plan_file(experiment) -> None:
    plain, asking = experiment(), experiment({"tasks": ["humaneval"]})
    assert plan(plain).runs == plan(asking).runs
    assert plain.model_dump_json() == asking.model_dump_json()


def test_each_compared_run_is_asked_each_task_once(experiment) -> None:
    made = experiment({"tasks": ["mmlu_0shot", "humaneval"]}, seeds=[0, 1])
    runs = plan(made)
    found = evaluations(runs, made.downstream)
    compared = [run for of in runs.compared.values() for run in of]
    assert [(one.run, one.task) for one in found.values()] == [
        (run, task) for run in compared for task in ("mmlu_0shot", "humaneval")
    ]
    assert len({one.folder for one in found.values()}) == len(found)


def test_only_the_named_methods_are_asked(experiment) -> None:
    found = planned(experiment, {"tasks": ["humaneval"], "methods": ["odm"]})
    assert {one.run.partition("-")[0] for one in found.values()} == {"odm"}


def test_snapshots_are_asked_on_the_evaluation_grid_and_then_the_end(experiment) -> None:
    asked = {"tasks": ["mmlu_5shot"], "methods": ["odm"], "checkpoints": "snapshots"}
    found = planned(
        experiment, asked, training={"steps": 12}, evaluation={"every": 3, "snapshots": [0, 0.5]}, seeds=[0]
    )
    assert [one.step for one in found.values()] == [0, 6, None]
    assert [one.arguments[-2:] == ["--step", "6"] for one in found.values()] == [False, True, False]
    assert len({one.name for one in found.values()}) == 3


def test_an_answer_is_named_by_what_decides_it_and_by_nothing_else(experiment) -> None:
    def names(**asked: Any) -> list[str]:
        found = planned(experiment, {"tasks": ["mmlu_0shot", "humaneval"], "methods": ["odm"], **asked}, seeds=[0])
        return [one.name for one in found.values()]

    mmlu, humaneval = names()
    assert mmlu.startswith("mmlu_0shot-") and humaneval.startswith("humaneval-")
    assert names(contamination=False) == [mmlu, humaneval]
    assert names(humaneval={"samples": 20})[0] == mmlu and names(humaneval={"samples": 20})[1] != humaneval
    assert names(subjects=["anatomy"])[0] != mmlu and names(subjects=["anatomy"])[1] == humaneval
    assert not set(names(limit=3)) & {mmlu, humaneval}


def test_the_planned_commands_are_options_that_the_programs_have(experiment) -> None:
    import typer
    from click import Context

    from acodm_core.downstream.programs import app

    asked = {"tasks": ["mmlu_0shot", "humaneval", "arc_easy"], "methods": ["odm"], "subjects": ["anatomy"], "limit": 2}
    group = typer.main.get_command(app)
    for one in planned(experiment, asked | {"humaneval": {"max_new_tokens": 9}}, seeds=[0]).values():
        name, *options = one.command
        rest = ["results/runs/RUN", "--corpus", "C", "--out", "O", "--device", "cpu", "--threads", "1"]
        program = group.get_command(Context(group), name)
        context = program.make_context(name, [*options, *rest])
        assert context.params["limit"] == 2
        if name == "humaneval":
            assert (context.params["max_new_tokens"], context.params["k"], context.params["samples"]) == (
                9,
                [1, 10],
                10,
            )


@pytest.mark.parametrize(
    ("asked", "where", "words"),
    [
        ({"tasks": []}, "downstream.tasks", "at least 1"),
        ({"tasks": ["a b"]}, "downstream.tasks", "a b"),
        ({"tasks": ["humaneval"], "methods": ["odn"]}, "downstream.methods[0]", "odm"),
        ({"tasks": ["humaneval"], "checkpoints": "snapshots"}, "downstream.checkpoints", "snapshots"),
        ({"tasks": ["humaneval"], "humaneval": {"samples": 5}}, "downstream.humaneval", "pass@10 needs 10"),
        ({"tasks": ["humaneval"], "humaneval": {"temperature": 0, "k": [1]}}, "downstream.humaneval", "samples: 1"),
        ({"tasks": ["humaneval"], "shots": 5}, "downstream.shots", "limit"),
    ],
)
def test_a_mistake_names_its_place(experiment, asked, where, words) -> None:
    with pytest.raises(UserError) as error:
        planned(experiment, asked)
    assert where in str(error.value) and words in str(error.value)


@pytest.fixture
def answered(experiment, tmp_path: Path):
    """An experiment of which every run was asked two tasks."""
    made = experiment({"tasks": ["mmlu_0shot", "arc_easy"]})
    runs = plan(made)
    found = evaluations(runs, made.downstream)
    for one in found.values():
        folder, step = tmp_path / one.folder, runs.runs[one.run].training.steps
        row = {"run": one.run, "step": step, "task": one.task, "metric": "accuracy", "value": 0.25, "n": 8}
        if one.task == "arc_easy":
            row = {
                "run": one.run,
                "step": step,
                "task": one.task,
                "status": "skipped",
                "reason": "its data are on the hub",
            }
        write_scores([row], folder / "scores.parquet")
        write_json(folder / "manifest.json", {"run": one.run, "step": step, "status": "finished"})
    return made, runs, list(found.values())


def test_all_answers_are_one_table_with_what_was_skipped(answered, tmp_path: Path) -> None:
    made, runs, found = answered
    gather(runs, made.downstream, [tmp_path], tmp_path / "all.parquet")
    table = pd.read_parquet(tmp_path / "all.parquet")
    assert list(table.columns) == SCORES.names and len(table) == len(found)
    assert set(table[table.status == "skipped"].reason) == {"its data are on the hub"}
    assert set(table.run) == {one.run for one in found}
    assert table.n.dropna().tolist() == [8] * (len(found) // 2)


def test_answers_of_two_folders_are_one_table_unless_they_differ(answered, tmp_path: Path) -> None:
    made, runs, found = answered
    gather(runs, made.downstream, [tmp_path], tmp_path / "one.parquet")
    other, last, first = tmp_path / "other", found[-1].folder, found[0].folder
    shutil.copytree(tmp_path / first, other / first)
    (other / last).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / last).rename(other / last)
    gather(runs, made.downstream, [tmp_path, other], tmp_path / "both.parquet")
    assert pd.read_parquet(tmp_path / "both.parquet").equals(pd.read_parquet(tmp_path / "one.parquet"))
    row = pd.read_parquet(other / first / "scores.parquet").iloc[0].dropna().to_dict() | {"value": 0.5, "n": 8}
    write_scores([row], other / first / "scores.parquet")
    with pytest.raises(UserError, match="twice, with different scores"):
        gather(runs, made.downstream, [tmp_path, other], tmp_path / "both.parquet")


def test_an_answer_of_another_run_or_none_is_refused(answered, tmp_path: Path) -> None:
    made, runs, found = answered
    path = tmp_path / found[0].folder / "manifest.json"
    write_json(path, {"run": "other-s0-1", "step": 3, "status": "finished"})
    with pytest.raises(UserError, match="of other-s0-1"):
        gather(runs, made.downstream, [tmp_path], tmp_path / "all.parquet")
    path.unlink()
    with pytest.raises(UserError, match="file not found"):
        gather(runs, made.downstream, [tmp_path], tmp_path / "all.parquet")


def test_settings_survive_their_file(tmp_path: Path) -> None:
    asked = DownstreamConfig(tasks=("mmlu_5shot",), limit=3)
    write_json(tmp_path / "downstream.json", asked.model_dump(mode="json"))
    assert read_settings(tmp_path / "downstream.json") == asked


def test_a_run_that_diverged_is_a_row_with_its_reason(tmp_path: Path) -> None:
    from acodm_core.downstream.manifests import write_without_model

    (tmp_path / "run").mkdir()
    finish(tmp_path / "run", run="odm-s0-1", status="diverged", steps=7)
    reason = write_without_model(tmp_path / "run", tmp_path / "out", {"mmlu": 5}, None)
    (row,) = pd.read_parquet(tmp_path / "out/scores.parquet").to_dict("records")
    assert reason == row["reason"] == "the run ended as diverged at step 7"
    assert (row["task"], row["shots"], row["status"], row["step"]) == ("mmlu", 5, "skipped", 7)
    finish(tmp_path / "run", run="odm-s0-1", steps=9)
    assert write_without_model(tmp_path / "run", tmp_path / "none", {"mmlu": 5}, None) == ""
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("asked", "where", "words"),
    [
        ({"tasks": ["humaneval", "arc_eazy"]}, "downstream.tasks[1]", "did you mean 'arc_easy'"),
        ({"tasks": ["mmlu_3shot"]}, "downstream.tasks[0]", "unknown lm-eval task 'mmlu_3shot'"),
        (
            {"tasks": ["mmlu_0shot"], "subjects": ["anatomy", "astrology"]},
            "downstream.subjects[1]",
            "valid: abstract_algebra",
        ),
    ],
)
def test_a_name_that_lm_eval_does_not_know_is_refused_before_anything_is_trained(
    experiment, monkeypatch, asked: dict[str, Any], where: str, words: str
) -> None:
    known = sorted(lm_eval_names.written())
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda: SimpleNamespace(all_tasks=known))
    with pytest.raises(UserError) as error:
        planned(experiment, asked)
    assert error.value.where == where and words in str(error.value)


def test_names_of_lm_eval_are_found_in_its_files(experiment) -> None:
    names = lm_eval_names.written()
    assert {"arc_easy", "hellaswag", "mmlu_anatomy", "wikitext", "llama", "lambada_openai"} <= names and len(
        names
    ) > 10_000
    assert len(planned(experiment, {"tasks": ["arc_easy", "hellaswag"]})) == 6
