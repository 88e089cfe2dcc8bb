"""The tables of a canned results folder, byte for byte.

After a wanted change: ``PYTHONPATH=tests python tests/golden/test_analysis_tables.py``, and read the diff.
"""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import canned
import pytest
from acodm_analysis import ablation, comparison, cost, domains, overhead, paired, regret, repetition, steps_to_target

from acodm_core.study.results import Results

KEPT = Path(__file__).with_name("analysis")
MODULES = (comparison, cost, domains, overhead, paired, repetition, steps_to_target)
SUFFIXES = (".csv", ".md", ".tex")
TABLES = ("comparison", "cost", "domains_perplexity", "overhead", "paired", "repetition", "steps_to_target")
# With target weights, an oracle, an axis and trials.
EXTENDED = (ablation, comparison, regret)
NAMES = [*TABLES, *(f"extended/{table}" for table in ("ablation_discount", "comparison", "regret"))]
FILES = [f"{name}{suffix}" for name in NAMES for suffix in SUFFIXES]


def write(results: Path, out: Path) -> None:
    made = Results(canned.make(results / "made", 5, diverged=("odm", 3)))
    extended = Results(canned.extended(results / "extended", 5))
    with patch("acodm_analysis.style.save"):  # the pictures are another test's
        for module in MODULES:
            module.render(made, out)
        for module in EXTENDED:
            module.render(extended, out / "extended")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    out = tmp_path_factory.mktemp("fresh")
    write(out / "results", out)
    return out


@pytest.mark.parametrize("name", FILES)
def test_table(fresh, name):
    assert (fresh / name).read_text() == (KEPT / name).read_text()


if __name__ == "__main__":
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "results", Path(folder))
        (KEPT / "extended").mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copy(Path(folder) / name, KEPT / name)
