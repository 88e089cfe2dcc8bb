"""What Snakemake trains again after an edit of a mixer: its runs and what depends on them, and nothing after an edit of words."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import tiny_config
from workflow_runs import ROOT, snakemake

TARGET = "results/tiny/runs.parquet"


@pytest.fixture(scope="module")
def folder(corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with baselines of its own, in which Snakemake has trained four runs."""
    path = tmp_path_factory.mktemp("identity")
    shutil.copytree(ROOT / "baselines", path / "acodm_baselines", ignore=shutil.ignore_patterns("__pycache__"))
    changes = {"compare": ["natural", "odm", "doge"], "baseline": "natural", "downstream": None}
    recipe = {"steps": 3, "batch": 8, "context": 16, "precision": "float32"}
    (path / "tiny.yaml").write_text(yaml.safe_dump(tiny_config(corpus) | changes | {"training": recipe}))
    done = snakemake(path, "--configfile", str(path / "tiny.yaml"), "--cores", "2", TARGET)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return path


@pytest.fixture
def edit(folder: Path) -> Callable[[str, str, str], None]:
    """``edit(file, before, after)``: a change of a baseline that the next test does not see."""
    kept = {}

    def change(name: str, before: str, after: str) -> None:
        file = folder / "acodm_baselines" / name
        text = kept.setdefault(file, file.read_text())
        assert before in text, f"{name} has no longer {before!r}"
        file.write_text(file.read_text().replace(before, after, 1))

    yield change
    for file, text in kept.items():
        file.write_text(text)


def trained_again(folder: Path) -> set[str]:
    """The methods whose runs a dry run would train."""
    done = snakemake(folder, "--configfile", str(folder / "tiny.yaml"), "--cores", "1", "-n", TARGET)
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"Training (\w+)-s0-", done.stdout + done.stderr))


def test_an_edit_of_comments_and_docstrings_trains_nothing(folder, edit):
    for name in ("odm.py", "doge.py", "static.py", "natural.py"):
        edit(name, '    """', '    """In other words: ')
        edit(name, "from acodm_core", "# Another comment.\nfrom acodm_core")
    assert trained_again(folder) == set()


def test_an_edited_update_rule_trains_its_runs_and_those_that_depend_on_them(folder, edit):
    edit("doge.py", "        self.", "        assert self is not None\n        self.")
    assert trained_again(folder) == {"doge_proxy", "doge"}


def test_an_edited_last_stage_leaves_its_inputs(folder, edit):
    edit("static.py", "return self.mixture_", "return self.mixture_ * 1.0")
    assert trained_again(folder) == {"doge"}
