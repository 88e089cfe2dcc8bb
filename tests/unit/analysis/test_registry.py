"""Every output of the analysis is registered in its own file, and one more file is all that one more output takes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from acodm_analysis import render
from acodm_analysis.core import outputs
from acodm_analysis.core.outputs import PAPER, Experiment, read, registered
from acodm_core.errors import UserError

ROOT = Path(__file__).parents[3]
PROJECT = ("Snakefile", "acodm_core", "analysis", "baselines", "workflow", "profiles", "pyproject.toml")
NEW = '''"""How many runs each method has."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from acodm_analysis.core import style
from acodm_analysis.core.outputs import Output
from acodm_analysis.core.tables import program, write_table
from acodm_core.results.reader import Results

OUTPUT = Output(
    section="Cost",
    heading="Runs per method",
    figure="run_counts",
    tables=("run_counts",),
    caption="How many runs each compared method has.",
)


def render(results: Results, out: Path) -> None:
    frame = results.runs.groupby("method").size().rename("runs").reset_index()
    write_table(frame, frame.astype(str), "run_counts", out, "Runs of each method.")
    style.use()
    figure, ax = plt.subplots()
    ax.barh(frame["method"], frame["runs"])
    style.save(figure, "run_counts", out)


if __name__ == "__main__":
    program("run_counts", __doc__, render)
'''
LOOK = """
import sys
from pathlib import Path
from unittest.mock import patch
import acodm_analysis
from acodm_analysis import render
from acodm_analysis.core.outputs import Experiment
from acodm_analysis.pages import export, report
from acodm_core.results.reader import Results
results, rendered, out = Results(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
mine = tuple(one for one in render.outputs_of(results) if one.module == "run_counts")
with patch.object(Experiment, "outputs", lambda self, folder="": () if folder else mine):
    render.render(results, rendered)
    export.render_export(results, out)
print(acodm_analysis.__file__)
out.with_suffix(".html").write_text(report.page(results, rendered))
"""


def test_every_module_of_the_folder_registers_one_output_or_runs_them_all() -> None:
    flat = {path.stem for path in outputs.FOLDER.glob("*.py")} - {"__init__", "render"}
    assert flat == {one.module for one in registered()}


def test_what_is_read_without_an_import_is_what_the_module_has() -> None:
    from importlib import import_module

    for folder in ("", PAPER):
        for one in registered(folder):
            found = import_module(".".join(filter(None, ("acodm_analysis", folder, one.module)))).OUTPUT
            assert (found.heading, found.names, found.caption, found.needs) == (
                one.heading, one.names, one.caption, one.needs,
            )  # fmt: skip


@pytest.mark.parametrize("broken", [False, True])
def test_what_is_rendered_is_what_is_registered(canned_results, canned_rendered, broken: bool) -> None:
    folder = canned_rendered("extended", broken)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    names = {name for one in render.outputs_of(canned_results("extended", broken)) for name in one.files}
    assert {name for name in there if not Path(name).name.startswith(".")} == names


def test_outputs_come_with_what_they_need() -> None:
    plain = {one.key for one in Experiment(["natural"]).outputs()}
    assert {"regret", "downstream", "contamination", "profiles"}.isdisjoint(plain)
    full = Experiment(["oracle"], {"discount": "Discount", "width": "Width"}, downstream=True, contamination=True)
    more = {one.key: one for one in full.outputs()}
    assert set(more) - plain == {"regret", "downstream", "contamination", "ablation_discount", "ablation_width"}
    assert more["ablation_width"].heading == "Width" and "ablation_width_seeds.csv" in more["ablation_width"].files
    assert "axes" in {one.key for one in Experiment([], {"granularity": "G"}).outputs(PAPER)}
    assert "axes" not in {one.key for one in Experiment([], {"width": "W"}).outputs(PAPER)}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('Output(section="Cost", heading=f"{1}", caption="c")', "not made of literals"),
        ('Other(section="Cost", heading="h", caption="c")', "not made of literals"),
        ('Output(section="Costs", heading="h", caption="c")', "did you mean 'Cost'"),
        ('Output(section="Cost", heading="h", caption="c", figures="f")', "did you mean 'figure'"),
        ('Output(section="Cost", heading="h")', "needs a section, a heading and a caption"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_file(tmp_path: Path, entry: str, words: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f'"""Mine."""\n\nOUTPUT = {entry}\n')
    with pytest.raises(UserError, match=r"OUTPUT of mine\.py") as told:
        read(path)
    assert words in str(told.value)


@pytest.mark.parametrize("end", [",\n    )\n", ")  # mine\n"])
def test_an_entry_in_another_layout_is_read_too(tmp_path: Path, end: str) -> None:
    path = tmp_path / "mine.py"
    entry = f"Output(section='Cost', heading='h', caption='c'{end}"
    path.write_text(f"OUTPUT = {entry}\nX = (\n    1\n)\n")
    assert read(path).heading == "h"


def test_two_modules_write_no_file_twice(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(outputs, "FOLDER", tmp_path)
    for name in ("one", "other"):
        (tmp_path / f"{name}.py").write_text('OUTPUT = Output(section="Cost", heading="h", caption="c", figure="f")\n')
    with pytest.raises(UserError, match=r"'f' is written by one\.py, too"):
        registered()


def test_one_more_file_is_one_more_output(canned_results, canned_rendered, tmp_path: Path) -> None:
    """In the rule, the rendered folder, the report and the export of a copy of the project; nothing else is touched."""
    project = tmp_path / "project"
    project.mkdir()
    for name in PROJECT:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, project / name)
    (project / "analysis" / "run_counts.py").write_text(NEW)
    packages = tmp_path / "packages"  # as an editable installation names the folders
    packages.mkdir()
    for name, folder in (
        ("acodm_core", "acodm_core"),
        ("acodm_analysis", "analysis"),
        ("acodm_baselines", "baselines"),
    ):
        (packages / name).symlink_to(project / folder)
    environment = os.environ | {"PYTHONPATH": str(packages)}

    preset = str(ROOT / "workflow" / "config" / "smoke.yaml")
    command = [sys.executable, "-m", "snakemake", "-n", "--configfile", preset, "--directory", str(tmp_path / "work")]
    done = subprocess.run(
        [*command, "--snakefile", str(project / "Snakefile"), "--verbose", "--printshellcmds"],
        env=environment, cwd=project, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    files = re.findall(r"results/\w+/rendered/(\S*run_counts[\w.]*)", done.stdout + done.stderr)
    expected = {f"run_counts.{kind}" for kind in ("svg", "png", "csv", "md", "tex")} | {"captions/run_counts.rst"}
    assert {name.rstrip(",") for name in files} == expected

    rendered, out = tmp_path / "rendered", tmp_path / "export"
    shutil.copytree(canned_rendered("extended"), rendered)
    folder = canned_results("extended").folder
    program = [sys.executable, "-c", LOOK, str(folder), str(rendered), str(out)]
    done = subprocess.run(program, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(packages)) or done.stdout.startswith(str(project))
    assert all((rendered / name).is_file() for name in expected)
    page = out.with_suffix(".html").read_text()
    assert "Runs per method" in page and "How many runs each compared method has." in page
    assert "run_counts: Runs per method" in (out / "README.md").read_text()
    assert (out / "figures" / "run_counts.pdf").is_file() and (out / "tables" / "run_counts.tex").is_file()
