"""The documentation site builds without a warning and without a network, and its command page is the program's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from acodm_core.cli import app

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder]
    no_network = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=os.environ | no_network, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_built_and_fetches_nothing(site: Path):
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert pages <= {path.relative_to(site) for path in site.rglob("*.html")}
    for page in site.rglob("*.html"):
        fetched = re.findall(r'<(?:script|img|link)[^>]*(?:src|href)="(https?://[^"]+)"', page.read_text())
        assert not [url for url in fetched if "canonical" not in url], page


def test_the_contract_and_the_drop_in_are_documented_from_the_code(site: Path):
    contract = (site / "reference" / "api-contract.html").read_text()
    assert all(name in contract for name in ("sampling_weights", "StepStats", "UserError"))
    assert "Mix" in (site / "reference" / "api-drop-in.html").read_text()


def test_the_page_of_commands_is_current():
    done = CliRunner().invoke(app, ["reference", "cli"])
    assert done.stdout == (ROOT / "docs/reference/cli.md").read_text(), (
        "run: acodm reference cli > docs/reference/cli.md"
    )
