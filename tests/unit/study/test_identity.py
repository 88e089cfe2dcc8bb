"""What names a run, and that a spec of other code than is there is refused before it trains."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from acodm_core.errors import UserError
from acodm_core.mixers.find import build_mixer
from acodm_core.study.identity import check_current, option_files
from acodm_core.study.planner import plan

MIXER = '''"""A mixer that reads a file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acodm_core.mixing import Mixer


@dataclass
class Reader(Mixer):
    table: Path = Path("table.txt")

    def start(self, start):
        self.mixture_ = np.full(len(start.domains), 1 / len(start.domains))

    def sampling_weights(self, step):
        return self.mixture_
'''


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment_of):
    """An experiment with a mixer of a package outside the project, whose option names a file; and the folder of both."""
    (tmp_path / "readinglab").mkdir()
    (tmp_path / "readinglab" / "__init__.py").write_text("")
    (tmp_path / "readinglab" / "reader.py").write_text(MIXER)
    (tmp_path / "table.txt").write_text("1")
    monkeypatch.syspath_prepend(tmp_path)
    options = {"table": str(tmp_path / "table.txt")}
    methods = {"reader": {"mixer": "readinglab.reader", "options": options}}
    yield experiment_of(compare=["uniform", "reader"], methods=methods), tmp_path
    for name in [name for name in sys.modules if name.startswith("readinglab")]:
        del sys.modules[name]


def runs(experiment) -> dict[str, str]:
    """Method -> its run."""
    return {spec.method: run for run, spec in plan(experiment).runs.items()}


def test_the_code_of_a_mixer_names_its_runs_alone(reader):
    experiment, folder = reader
    before = runs(experiment)
    (folder / "readinglab" / "reader.py").write_text(
        MIXER + "\n    def loss_weights(self, step):\n        return None\n"
    )
    after = runs(experiment)
    assert after["reader"] != before["reader"] and after["uniform"] == before["uniform"]


def test_the_content_of_a_file_that_an_option_names_is_part_of_the_name(reader):
    experiment, folder = reader
    before = runs(experiment)
    (folder / "table.txt").write_text("2")
    assert runs(experiment)["reader"] != before["reader"]


def test_a_file_that_an_option_names_must_be_there(reader):
    experiment, folder = reader
    (folder / "table.txt").unlink()
    with pytest.raises(UserError, match=r"methods\.reader\.options\.table: cannot read .*table\.txt"):
        plan(experiment)


@pytest.mark.parametrize("number", ["protocol", "arithmetic"])
def test_the_projects_numbers_name_every_run(experiment_of, number):
    spec = next(iter(plan(experiment_of(compare=["uniform"])).runs.values()))
    assert spec.model_copy(update={number: getattr(spec, number) + 1}).run != spec.run


def test_a_spec_of_other_code_is_refused_before_it_trains(reader, corpus, tmp_path):
    from acodm_core.lm.train import Trainer

    experiment, folder = reader
    run = runs(experiment)["reader"]
    spec = plan(experiment).runs[run]
    (folder / "readinglab" / "reader.py").write_text(MIXER.replace("1 / len", "1.0 / len"))
    with pytest.raises(UserError, match=r"the code of mixer 'readinglab\.reader' changed"):
        Trainer(spec, corpus, tmp_path / "run")
    (folder / "readinglab" / "reader.py").write_text(MIXER)
    (folder / "table.txt").write_text("2")
    with pytest.raises(UserError, match="a file that its options name changed"):
        check_current(spec)
    with pytest.raises(UserError, match="the protocol number changed"):
        check_current(
            spec.model_copy(update={"protocol": 1, "files": option_files(build_mixer(spec.mixer, spec.options))})
        )
