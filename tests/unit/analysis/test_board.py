"""The board: what is recorded of an experiment, and the pages that are made of records alone."""

import json
import shutil
from pathlib import Path

import fake_results
import pandas as pd
import pytest

from acodm_analysis import comparison
from acodm_analysis.core.tables import read_markdown
from acodm_analysis.pages import board
from acodm_core.errors import UserError
from acodm_core.files import write_json
from acodm_core.results.reader import Results

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Results:
    return Results(fake_results.make(tmp_path_factory.mktemp("canned"), 5))


@pytest.fixture
def recorded(found: Results, tmp_path: Path) -> Path:
    rendered = tmp_path / "rendered"
    rendered.mkdir()
    (rendered / "curves.svg").write_text("<svg/>")
    board.add(found, rendered, tmp_path / "board")
    return tmp_path / "board"


def page_of(recorded: Path, root: Path) -> Path:
    (root / "README.md").write_text(f"before\n{board.BEGIN}\nearlier\n{board.END}\nafter\n")
    board.pages(recorded, root)
    return root / "docs" / "results" / "canned.md"


def test_a_record_holds_the_main_table_and_where_it_comes_from(found: Results, recorded: Path) -> None:
    numbers = pd.read_parquet(recorded / "canned.parquet").set_index("method")
    pd.testing.assert_series_equal(numbers["test_mean"], comparison.table(found).set_index("method")["test_mean"])
    record = json.loads((recorded / "canned.json").read_text())
    assert record["commit"] == "0123456789abcdef" and record["runs"] == found.experiment["runs"]
    assert record["corpus"] == "local-1a2b3c" and record["hardware"] and record["date"]


def test_pages_are_made_of_the_record_alone(found: Results, recorded: Path, tmp_path: Path) -> None:
    page = page_of(recorded, tmp_path).read_text()
    header, rows, _ = read_markdown(page[page.index("| ") :])
    cells = comparison.short(found)
    assert header == list(cells.columns) and rows == cells.astype(str).to_numpy().tolist()
    assert "commit 0123456789" in page and "(../figures/canned-curves.svg)" in page
    assert (tmp_path / "docs/figures/canned-curves.svg").read_text() == "<svg/>"
    assert "earlier" in (tmp_path / "README.md").read_text(), "the README shows one experiment, and this is another"


def test_the_readme_keeps_what_stands_around_its_marks(recorded: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(board, "IN_THE_README", "canned")
    page_of(recorded, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert (
        text.startswith(f"before\n{board.BEGIN}\n| ")
        and text.endswith(f"{board.END}\nafter\n")
        and "earlier" not in text
    )
    (tmp_path / "README.md").write_text("no marks")
    with pytest.raises(UserError, match="results:begin"):
        board.pages(recorded, tmp_path)


def test_code_that_no_commit_holds_is_not_recorded(found: Results, tmp_path: Path) -> None:
    changed = Results(found.folder)
    changed.experiment = found.experiment | {"code": {"commit": "0123", "modified": True, "changed": ["a.py"]}}
    with pytest.raises(UserError, match=r"no commit holds: a\.py"):
        board.add(changed, tmp_path, tmp_path / "board")
    with pytest.raises(UserError, match="acodm reproduce canned"):
        board.add(found, tmp_path, tmp_path / "board")
    assert not (tmp_path / "board").exists()


@pytest.mark.parametrize(
    ("change", "said"), [({"protocol": 1}, "a record of protocol 1"), ({"table": None}, "it has no table")]
)
def test_a_record_that_is_none_is_refused(recorded: Path, tmp_path: Path, change: dict, said: str) -> None:
    path = recorded / "canned.json"
    record = {key: value for key, value in (json.loads(path.read_text()) | change).items() if value is not None}
    write_json(path, record)
    with pytest.raises(UserError, match=said):
        page_of(recorded, tmp_path)


def test_the_projects_pages_are_what_its_board_says(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "README.md", tmp_path / "README.md")
    for page in board.pages(ROOT / "board", tmp_path):
        assert page.read_text() == (ROOT / page.relative_to(tmp_path)).read_text(), "run: acodm board pages"
