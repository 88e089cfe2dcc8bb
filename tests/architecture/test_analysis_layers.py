"""Inside the analysis: pages over outputs, outputs over the paper's numbers, all over the core; and no output knows another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from acodm_analysis.core.outputs import FOLDER, registered

ROOT = Path(__file__).parents[2]
LIGHT = "from acodm_analysis.core.outputs import Experiment; Experiment([]).outputs()"
HEAVY = ("matplotlib", "numpy", "pandas", "scipy", "torch")


def test_every_module_is_in_a_layer_and_no_output_imports_another(tmp_path: Path) -> None:
    """The contract of pyproject.toml, exhaustive, with the files of the folder in their place."""
    modules = [one.module for one in registered()]
    assert "cost" in modules and len(list(FOLDER.glob("*.py"))) == len(modules) + 2  # __init__ and render
    layers = ["pages", "render", " | ".join(modules), "paper", "core"]
    config = tmp_path / "contract.toml"
    config.write_text(
        '[tool.importlinter]\nroot_packages = ["acodm_analysis"]\n[[tool.importlinter.contracts]]\nname = "analysis"\n'
        f'type = "layers"\nexhaustive = true\ncontainers = ["acodm_analysis"]\nlayers = {layers!r}\n'.replace("'", '"')
    )
    program = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", program, "--config", str(config), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "1 kept, 0 broken" in done.stdout, done.stdout + done.stderr


def test_the_registry_imports_nothing_heavy() -> None:
    """Snakemake asks it whenever it parses its rules."""
    program = f"{LIGHT}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
