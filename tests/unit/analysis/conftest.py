"""One report of everything that an experiment may have, for the tests that read it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import fake_results
import pytest

from acodm_core.results.reader import Results
from acodm_core.seals import marked

CARD = "# Methods\n\n## `odm`\n\nA bandit of domains.\n\n**Idea.**\nDraw what has a high loss, `exp(loss)` < 3.\n"
CARD += "\n## `other`\n\nNo.\n"


@dataclass(frozen=True)
class Report:
    results: Results
    rendered: Path  # the folder of tables and figures
    page: str


@pytest.fixture(scope="session")
def full_report(canned_results, canned_rendered, tmp_path_factory) -> Report:
    """With downstream scores, the cards, and a table that is made from several experiments."""
    from acodm_analysis import contamination, downstream
    from acodm_analysis.pages import report

    asked = tmp_path_factory.mktemp("report") / "asked"
    shutil.copytree(canned_results("extended").folder, asked)
    results = Results(fake_results.asked(asked))
    folder = tmp_path_factory.mktemp("with_cards") / "rendered"
    shutil.copytree(canned_rendered("extended"), folder)
    for module in (downstream, contamination):
        module.render(results, folder)
    wanted = {
        "cards.md": CARD,
        "profiles.md": "| Method | Score |\n| --- | ---: |\n| ODM | 25.1 |\n\nProfiles.\n",
        "profiles.csv": "method,score\nodm,25.1\n",
    }
    for name, text in wanted.items():
        with marked(folder / name) as path:
            path.write_text(text)
    return Report(results, folder, report.page(results, folder))
