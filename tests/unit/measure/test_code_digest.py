"""What is part of the digest of a program's code, and what is not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from acodm_core.measure.code_digest import code_digest, code_files

MIXER = '''"""A mixer."""

import numpy as np

from .helpers import half


def update(x):
    """Half of it."""
    # the paper's equation 3
    return half(x) + 1
'''


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a mixer, what it imports, and what it does not."""
    folder = tmp_path / "somelab" / "mixers"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("")
    (folder / "mine.py").write_text(MIXER)
    (folder / "helpers.py").write_text(
        "from somelab import constants\n\n\ndef half(x):\n    return x * constants.HALF\n"
    )
    (folder.parent / "constants.py").write_text("HALF = 0.5\n")
    (folder / "other.py").write_text("OTHER = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("somelab")]:
        del sys.modules[name]


def digest() -> str:
    return code_digest("somelab.mixers.mine")


def test_the_code_is_the_module_and_what_it_imports_of_its_own_package(lab):
    assert list(code_files("somelab.mixers.mine")) == [
        "somelab.constants",
        "somelab.mixers.helpers",
        "somelab.mixers.mine",
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# the paper's equation 3", "# equation 4 in the second version"),
        ('"""Half of it."""', '"""Half of the sum, and one."""'),
        ('"""A mixer."""', '"""Another title."""'),
        ("return half(x) + 1", "return half( x )  +  1"),
        ("return half(x) + 1", "return (\n        half(x)\n        + 1\n    )"),
        ('    """Half of it."""\n', ""),
    ],
)
def test_comments_docstrings_and_layout_are_no_part_of_it(lab, before, after):
    first = digest()
    (lab / "mine.py").write_text(MIXER.replace(before, after))
    assert digest() == first


@pytest.mark.parametrize(
    ("before", "after"), [("+ 1", "+ 2"), ("+ 1", "- 1"), ("half(x)", "half(-x)"), ("def update", "def step")]
)
def test_a_changed_statement_is(lab, before, after):
    first = digest()
    (lab / "mine.py").write_text(MIXER.replace(before, after))
    assert digest() != first


def test_what_an_import_of_an_import_says_is_a_part_of_it(lab):
    first = digest()
    (lab.parent / "constants.py").write_text("HALF = 0.25\n")
    assert digest() != first


def test_a_module_that_nobody_imports_is_none(lab):
    first = digest()
    (lab / "other.py").write_text("OTHER = 2\n")
    assert digest() == first


def test_an_import_inside_a_function_counts(lab):
    (lab / "mine.py").write_text(
        MIXER.replace("return half", "from somelab.mixers import other\n    return other.OTHER * half")
    )
    first = digest()
    (lab / "other.py").write_text("OTHER = 2\n")
    assert digest() != first


def test_a_data_file_beside_the_module_that_names_it_counts(lab):
    (lab / "table.json").write_text("[1]")
    (lab / "mine.py").write_text(MIXER + '\nTABLE = __file__.replace("mine.py", "table.json")\n')
    first = digest()
    (lab / "table.json").write_text("[2]")
    assert digest() != first


def test_nothing_is_imported_to_read_it(lab):
    (lab / "mine.py").write_text(MIXER + "\nraise SystemExit\n")
    digest()
    assert "somelab.mixers.mine" not in sys.modules


def test_the_analysis_reads_its_templates(lab):
    files = code_files("acodm_analysis.render", "acodm_analysis.claims") | code_files("acodm_analysis.pages.report")
    assert "acodm_analysis.comparison" in files and "acodm_analysis.pages.report:report.html" in files
    assert "acodm_analysis.paper.published:claims.yaml" in files and "acodm_analysis.core.style:style.mplstyle" in files


def test_programs_that_are_started_by_their_file_are_code_too():
    files = code_files("acodm_core.downstream.programs")
    assert {"acodm_core.downstream.sandbox.jail", "acodm_core.downstream.mmlu.task:kinds.yaml"} <= set(files)
