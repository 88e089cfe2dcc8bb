"""Who imports whom (the contracts stand in pyproject.toml), and what a program may not import before it needs it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "pandas", "scipy", "matplotlib", "snakemake")
ALLOWED = {
    "baselines": {"acodm_core.mixing", "acodm_core.errors"},
    "analysis": {
        "acodm_core",
        "acodm_core.downstream.scores",
        "acodm_core.measure.statistical_power",
        "acodm_core.measure.ratio",
        "acodm_core.results.schemas",
        "acodm_core.results.table_files",
        "acodm_core.results.reader",
        "acodm_core.files",
        "acodm_core.seals",
        "acodm_core.errors",
    },
}


def lint(config: Path) -> subprocess.CompletedProcess:
    program = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", program, "--config", str(config), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )


def test_import_contracts_are_kept() -> None:
    done = lint(ROOT / "pyproject.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " kept, 0 broken" in done.stdout


def test_a_broken_contract_is_noticed(tmp_path: Path) -> None:
    """The linter sees our packages under their import names: a contract that we do break fails."""
    config = tmp_path / "contracts.toml"
    config.write_text(
        '[tool.importlinter]\nroot_packages = ["acodm_core", "acodm_baselines"]\n[[tool.importlinter.contracts]]\n'
        'name = "broken"\ntype = "forbidden"\nsource_modules = ["acodm_baselines.odm"]\n'
        'forbidden_modules = ["acodm_core.mixing"]\n'
    )
    done = lint(config)
    assert done.returncode == 1 and "acodm_baselines.odm -> acodm_core.mixing" in done.stdout


def imported(path: Path) -> set[str]:
    """Modules that a file imports, by absolute name; relative ones begin with a dot."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


@pytest.mark.parametrize("folder", ALLOWED)
def test_folder_imports_these_parts_of_the_library_only(folder: str) -> None:
    """A list of what is allowed, so that a new module of the library is closed until it is opened here."""
    files = sorted((ROOT / folder).rglob("*.py"))
    assert len(files) > 5
    for path in files:
        ours = {name for name in imported(path) if name.startswith("acodm_") and not name.startswith("acodm_analysis")}
        assert ours <= ALLOWED[folder], f"{path.name} imports {sorted(ours - ALLOWED[folder])}"
        if folder == "baselines":
            assert not any(name.startswith(".") for name in imported(path)), f"{path.name} imports a sibling"


def test_rule_files_import_config_and_plan_only() -> None:
    for path in [ROOT / "Snakefile", *sorted((ROOT / "workflow" / "rules").glob("*.smk"))]:
        lines = [line for line in path.read_text().splitlines() if line.startswith(("from acodm", "import acodm"))]
        allowed = {
            "acodm_core.errors",
            "acodm_core.downstream.evaluations",
            "acodm_core.measure.code_digest",
            "acodm_core.planning.job_requests",
            "acodm_core.reproducing.folder_locks",
            "acodm_analysis.core.outputs",
            *(f"acodm_core.study.{name}" for name in ("config", "files_on_disk", "model_trials", "planner")),
        }
        assert all(line.split()[1] in allowed for line in lines), f"{path.name}: {lines}"


@pytest.mark.parametrize(
    "statement",
    [
        "import acodm_core.cli",
        "from acodm_core.study import config, files_on_disk, planner, model_trials",
        "from acodm_core.downstream import evaluations",
        "from acodm_core.planning import job_requests",
        "from acodm_core.reproducing import folder_locks",
        "import acodm_core.acodm",
        "from acodm_core.mixers import find; [find.find_mixer(name) for name in find.baseline_names()]",
    ],
)  # what `acodm --help`, a shell's completion and every parse of the Snakefile pay for
def test_no_heavy_import(statement: str) -> None:
    program = f"{statement}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_help_and_plan_import_nothing_heavy() -> None:
    preset = ROOT / "workflow" / "config" / "quick.yaml"
    for arguments, expected in ((["--help"], "Usage"), (["plan", str(preset), "--runs"], "runs,")):
        program = (
            f"import sys; sys.argv = ['acodm', *{arguments!r}]\n"
            "from acodm_core.cli import main\n"
            "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
            f"print('heavy:', [m for m in {HEAVY!r} if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert expected in done.stdout and "heavy: []" in done.stdout, done.stdout + done.stderr


def test_help_waits_for_no_decoration() -> None:
    """What draws boxes around a program's help imports for longer than everything else that it needs."""
    program = (
        "import sys; sys.argv = ['acodm', '--help']\nfrom acodm_core.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.endswith("False\n"), done.stdout + done.stderr


def test_planning_imports_no_torch_even_for_acodm() -> None:
    program = (
        "import sys\nfrom acodm_core.mixers.find import baseline_names, find_mixer\n"
        "[find_mixer(n) for n in [*baseline_names(), 'acodm_core.acodm']]\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stdout + done.stderr
