"""The rules of the workflow: what they put into a shell line is quoted, whatever a configuration holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))


def shell_lines(path: Path) -> list[str]:
    """The lines of every ``shell:`` block, which end where the next directive or rule begins."""
    blocks = re.findall(r"^ +shell:\n((?: {8}.*\n)+)", path.read_text(), flags=re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("path", [ROOT / "Snakefile", *RULES], ids=lambda path: path.name)
def test_every_shell_line_is_a_plain_string_and_quotes_what_it_interpolates(path: Path) -> None:
    lines = shell_lines(path)
    assert len(re.findall(r"^ +shell:", path.read_text(), flags=re.MULTILINE)) == 0 or lines
    for line in lines:
        assert re.fullmatch(r' {8}"[^"]*"', line), f"not one plain string: {line}"
        unquoted = [field for field in re.findall(r"\{([^{}]*)\}", line) if not field.endswith(":q")]
        assert set(unquoted) <= {"threads"}, f"unquoted {unquoted}: {line}"  # a number that Snakemake chooses


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_no_rule_runs_code_that_builds_a_shell_line(path: Path) -> None:
    assert not re.search(r"^ +run:|\bshell\(|subprocess|os\.system", path.read_text(), flags=re.MULTILINE)
