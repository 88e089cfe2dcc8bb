"""The shipped profiles submit jobs that run: the plugins' own commands and pods, on clusters that are not there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import clusters
import pytest
import yaml
from flow import ROOT

from acodm_core.study.config import load_experiment


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a text and the configuration of an experiment on it."""
    folder = tmp_path / "shared"
    folder.mkdir()
    lines = [json.dumps({"text": f"{i} and {i + 1} make {2 * i + 1}, and twice {i} is {2 * i}."}) for i in range(300)]
    (folder / "notes.jsonl").write_text("\n".join(lines))
    notes = {"from": "files", "paths": ["notes.jsonl"], "format": "jsonl"}
    config = {"experiment": "far", "compare": ["natural"], "corpus": {"name": "far", "domains": {"notes": notes}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def documents(folder: Path) -> str:
    return f"data/corpora/{load_experiment(folder / 'config.yaml').corpus.id}/documents/notes.parquet"


def submit(folder: Path, profile: str, environment: dict[str, str], *arguments: str) -> str:
    """Make the documents with the shipped profile; what Snakemake said. They must be there when it returns."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile", "config.yaml"]
    command += ["--workflow-profile", str(ROOT / "workflow" / "profiles" / profile)]
    command += ["--retries", "0", "--seconds-between-status-checks", "1", *arguments, "--", documents(folder)]
    done = subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / documents(folder)).is_file()
    return done.stderr


def test_a_pod_mounts_the_working_folder_and_works_there(folder, tmp_path):
    with clusters.kubernetes(tmp_path) as (environment, jobs):
        mount = ["--kubernetes-persistent-volumes", f"acodm-bench:{folder}", "--precommand", f"cd {folder}"]
        said = submit(folder, "kubernetes", environment, *mount)
    (job,) = jobs  # the line of text that is the spec is none
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {"name": "acodm-bench", "persistentVolumeClaim": {"claimName": "acodm-bench"}} in pod["volumes"]
    assert {"name": "acodm-bench", "mountPath": str(folder)} in container["volumeMounts"]
    assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"] == "4000M"
    assert "in storage" not in said and not (folder / ".snakemake" / "storage").exists()
    assert [path.name for path in (tmp_path / "pods").iterdir() if path.is_dir() and any(path.iterdir())] == []


def test_a_batch_job_runs_as_it_is_submitted(folder, tmp_path):
    environment, calls = clusters.slurm(tmp_path)
    yours = ["slurm_account=A", "slurm_partition=P", "runtime=120", "mem_mb=4000"]
    submit(
        folder, "slurm", environment, "--slurm-init-seconds-before-status-checks", "1", "--default-resources", *yours
    )
    (call,) = calls.read_text().splitlines()
    assert re.search(r" -A A -p P -t 120 --mem 4000 --ntasks=1 --cpus-per-task=1 ", call)
