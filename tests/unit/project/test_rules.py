"""The rules of the workflow: what they put into a shell line is quoted, whatever a configuration holds."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
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


def dry_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--directory",
        str(folder),
        "-n",
        "-p",
    ]
    return subprocess.run([*command, *arguments], capture_output=True, text=True)


def test_a_setting_of_the_command_line_lies_over_the_first_preset(tmp_path: Path) -> None:
    done = dry_run(tmp_path, "--config", 'training={"steps": 5}')
    assert done.returncode == 0, done.stderr
    assert (
        '"training":{"steps":5' in re.sub(r"\s", "", done.stdout + done.stderr)
        and "results/quick/" in done.stdout + done.stderr
    )


def test_snakemake_refuses_a_key_that_stands_twice_as_the_plan_does(tmp_path: Path) -> None:
    (tmp_path / "twice.yaml").write_text("experiment: a\nexperiment: b\n")
    done = dry_run(tmp_path, "--configfile", str(tmp_path / "twice.yaml"))
    assert (
        done.returncode == 1
        and "twice.yaml:2: the key 'experiment' stands twice: in line 1 and in line 2" in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_free_text_of_a_configuration_reaches_a_shell_as_one_word(tmp_path: Path) -> None:
    source, title = "my questions; touch 'PWNED' $(touch PWNED) #", "A $(touch PWNED) {run} `title`"
    folder = tmp_path / source / "anatomy"
    folder.mkdir(parents=True)
    settings = {"tasks": ["mmlu_0shot"], "source": str(folder.parent)}
    words = ["experiment=try", f"downstream={json.dumps(settings)}", f"methods={json.dumps({'odm': {'title': title}})}"]
    done = dry_run(tmp_path, "--config", *words)
    assert done.returncode == 0, done.stderr
    lines = [
        line for line in (done.stdout + done.stderr).splitlines() if " --source " in line and "acodm downstream" in line
    ]
    assert lines
    for line in lines:
        given = shlex.split(line)
        assert given[given.index("--source") + 1] == str(folder.parent)
    assert not list(tmp_path.glob("**/PWNED"))
