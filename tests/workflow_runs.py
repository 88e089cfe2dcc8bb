"""The shipped workflow, run by tests in folders of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import warm_programs

ROOT = Path(__file__).resolve().parents[1]


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the shipped workflow with ``folder`` as its working directory, its programs warm."""
    command = warm_programs.command("snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder))
    environment = {
        **os.environ,
        **warm_programs.warm(),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
    }
    environment["HF_HUB_OFFLINE"] = "1"
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=2400)


def run_from_archives(folder: Path, *configurations: Path) -> None:
    """Run the workflow in ``folder`` to its report. Archives are shared with the project's own folder, if it has them."""
    (ROOT / "data" / "archives").mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir()
    (folder / "data" / "archives").symlink_to(ROOT / "data" / "archives")
    done = snakemake(folder, "--configfile", *map(str, configurations))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def jobs(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Rule -> jobs, from a dry run's table."""
    table = (done.stdout + done.stderr).split("Job stats:")[1].split("Reasons:")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.M)}
