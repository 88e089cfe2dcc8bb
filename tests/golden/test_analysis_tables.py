"""The tables of a canned results folder, byte for byte.

After a wanted change: ``PYTHONPATH=tests python tests/golden/test_analysis_tables.py``, and read the diff.
"""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import fake_results
import pytest

from acodm_analysis import (
    ablation,
    comparison,
    compute_matched,
    contamination,
    cost,
    currencies,
    domains,
    downstream,
    noise,
    overhead,
    paired,
    profiles,
    regret,
    repetition,
    steps_to_threshold,
)
from acodm_core.results.reader import Results

KEPT = Path(__file__).with_name("analysis")
MODULES = (
    comparison,
    compute_matched,
    cost,
    currencies,
    domains,
    noise,
    overhead,
    paired,
    repetition,
    steps_to_threshold,
)
SUFFIXES = (".csv", ".md", ".tex")
TABLES = ("comparison", "cost", "domains_perplexity", "overhead", "paired", "repetition", "steps_to_threshold")
TABLES += ("compute_matched", "currencies", "noise", "profiles")
# With objective weights, an oracle, an axis and trials.
EXTENDED = (ablation, comparison, regret)
ASKED = ("downstream", "contamination")
NAMES = [
    *TABLES,
    *(f"asked/{table}" for table in ASKED),
    *(f"extended/{table}" for table in ("ablation_discount", "comparison", "regret")),
]
FILES = [f"{name}{suffix}" for name in NAMES for suffix in SUFFIXES]


def write(results: Path, out: Path) -> None:
    made = Results(fake_results.make(results / "made", 5, diverged=("odm", 3)))
    other = Results(fake_results.make(results / "other", 5, diverged=("acodm", 0)))
    other.experiment["experiment"] = "other"
    extended = Results(fake_results.extended(results / "extended", 5))
    with patch("acodm_analysis.core.style.save"):  # the pictures are another test's
        for module in MODULES:
            module.render(made, out)
        profiles.render([made, other], out)
        asked = Results(fake_results.asked(made.folder))
        for module in (downstream, contamination):
            module.render(asked, out / "asked")
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
        for name in ("extended", "asked"):
            (KEPT / name).mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copy(Path(folder) / name, KEPT / name)
