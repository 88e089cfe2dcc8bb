"""What the documents show a reader works: the example mixer, the template, the commands of the README."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from acodm_core.mixers.find import find_mixer
from acodm_core.mixing import Signal, Start, StepStats
from acodm_core.study.config import load_experiment
from acodm_core.study.planner import plan

ROOT = Path(__file__).resolve().parents[3]


def example(name: str) -> str:
    """The Python block of a document."""
    return re.search(r"```python\n(.*?)```", (ROOT / name).read_text(), re.S).group(1)


@pytest.fixture
def follow_loss(tmp_path, monkeypatch):
    (tmp_path / "holder").mkdir()
    (tmp_path / "holder/__init__.py").touch()
    (tmp_path / "holder/follow_loss.py").write_text(example("CONTRIBUTING.md"))
    monkeypatch.syspath_prepend(tmp_path)
    return find_mixer("holder.follow_loss")


def test_the_example_mixer_of_contributing_works(follow_loss):
    mixer = follow_loss()
    mixer.start(
        Start(
            domains=("a", "b", "c"),
            prior=np.full(3, 1 / 3),
            tokens_available=np.ones(3),
            total_steps=10,
            rng=np.random.default_rng(0),
        )
    )
    mixer.observe(StepStats(0, np.ones(3), {Signal.LOSS: np.array([3.0, 2.0, np.nan])}))
    share = mixer.sampling_weights(1)
    assert share.sum() == pytest.approx(1) and share[0] > share[1] > share[2]


def test_the_example_mixer_is_planned_by_its_name(follow_loss):
    overlay = {"methods": {"mine": {"mixer": "holder.follow_loss"}}, "compare": ["natural", "mine"]}
    planned = plan(load_experiment(ROOT / "workflow/config/smoke.yaml", overlay))
    assert list(planned.compared) == ["natural", "mine"]


def test_the_template_is_a_working_mixer():
    mixer = find_mixer("acodm_baselines._template")()
    mixer.start(
        Start(
            domains=("a", "b"),
            prior=np.full(2, 0.5),
            tokens_available=np.ones(2),
            total_steps=10,
            rng=np.random.default_rng(0),
        )
    )
    mixer.observe(StepStats(0, np.ones(2), {Signal.LOSS: np.array([3.0, np.nan])}))
    assert mixer.sampling_weights(1).sum() == pytest.approx(1)


def test_every_program_that_the_readme_names_exists():
    text = (ROOT / "README.md").read_text()
    for command in sorted(set(re.findall(r"^acodm (\w+)", text, re.M))):
        done = subprocess.run(
            [sys.executable, "-m", "acodm_core.cli", command, "--help"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, command
    for path in re.findall(r"workflow/config/[\w-]+\.yaml", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\(([\w./]+)\)", text):
        assert (ROOT / path).exists(), path


def test_the_data_dictionary_has_every_column_and_every_signal():
    from acodm_core.results import schemas

    columns = {f"{name}.parquet": schema.names for name, schema in schemas.TABLES.items()}
    columns |= {"signals.parquet": schemas.SIGNALS.names, "downstream.parquet": schemas.SCORES.names}
    columns |= {"runs.parquet": schemas.RUN_COLUMNS, "probe/probe.parquet": schemas.PROBE_COLUMNS}
    columns |= {"probe/memory.parquet": schemas.MEMORY_COLUMNS}
    sections = re.split(r"^## `([^`]+)`\n", (ROOT / "docs/reference/data.md").read_text(), flags=re.M)[1:]
    told = {
        name: [
            one for cells in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", text, re.M) for one in re.findall(r"\w+", cells)
        ]
        for name, text in zip(sections[::2], sections[1::2], strict=True)
    }
    assert {name: set(found) - {"rewards", "scores"} for name, found in told.items()} == {
        name: set(names) for name, names in columns.items()
    }
    metrics = sections[sections.index("metrics.parquet") + 1]
    assert all(f"`{metric}`" in metrics for metric in schemas.METRICS)
