"""The shipped profiles submit jobs that run: the plugins' own commands and pods, on clusters that are not there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import fake_clusters
import pytest
import yaml
from workflow_runs import ROOT

from acodm_core.study.config import load_experiment


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with two texts and the configuration of an experiment on them."""
    folder = tmp_path / "shared"
    folder.mkdir()
    domains = {}
    for name, sentence in {
        "sums": "{0} and {1} make {2}, and twice {0} is",
        "products": "{0} times {1} is not {2}, unless",
    }.items():
        lines = [json.dumps({"text": sentence.format(i, i + 1, 2 * i + 1) + f" {2 * i}."}) for i in range(300)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
        domains[name] = {"from": "files", "paths": [f"{name}.jsonl"], "format": "jsonl"}
    config = {"experiment": "far", "compare": ["natural"], "corpus": {"name": "far", "domains": domains}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def documents(folder: Path, domain: str) -> str:
    with contextlib.chdir(folder):
        corpus = load_experiment(Path("config.yaml")).corpus.pinned()
    return f"data/corpora/{corpus.id}/documents/{domain}.parquet"


def submit(
    folder: Path, profile: str, environment: dict[str, str], *arguments: str, domains: tuple[str, ...] = ("sums",)
) -> str:
    """Make the documents with the shipped profile; what Snakemake said. They must be there when it returns."""
    wanted = [documents(folder, domain) for domain in domains]
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile", "config.yaml"]
    command += ["--workflow-profile", str(ROOT / "workflow" / "profiles" / profile)]
    command += ["--retries", "0", "--seconds-between-status-checks", "1", *arguments, "--", *wanted]
    done = subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all((folder / path).is_file() for path in wanted)
    return done.stderr


def test_a_pod_mounts_the_working_folder_and_works_there(folder, tmp_path):
    with fake_clusters.kubernetes(tmp_path) as (environment, jobs):
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


SLURM = ["--slurm-init-seconds-before-status-checks", "1", "--default-resources"]
SLURM += ["slurm_account=A", "slurm_partition=P"]


def test_a_batch_job_runs_as_it_is_submitted(folder, tmp_path):
    environment, calls = fake_clusters.slurm(tmp_path)
    submit(folder, "slurm", environment, *SLURM)
    (call,) = calls.read_text().splitlines()
    assert re.search(r" -A A -p P -t 120 --mem 4000 --ntasks=1 --cpus-per-task=1 ", call)


def test_small_jobs_are_submitted_together(folder, tmp_path):
    environment, calls = fake_clusters.slurm(tmp_path)
    together = ["--groups", "documents=corpus", "--group-components", "corpus=2"]
    submit(folder, "slurm", environment, *together, *SLURM, domains=("sums", "products"))
    (call,) = calls.read_text().splitlines()
    assert re.search(r" --mem 8000 --ntasks=1 --cpus-per-task=2 ", call)


def test_a_dry_run_shows_what_every_job_asks_for(folder):
    """Whatever `--default-resources` say: they add an account, and take neither memory nor walltime away."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "-n",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--configfile",
        "config.yaml",
    ]
    command += ["--workflow-profile", str(ROOT / "workflow" / "profiles" / "slurm"), *SLURM]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    messages = re.findall(r"^Job \d+: (.*)$", done.stdout + done.stderr, re.M)
    asks = {message: re.search(r" \[\d+ threads, (\d+ GPUs, )?\d+ MB, \d+ minutes\]$", message) for message in messages}
    assert messages and all(asks.values()), messages
    with_gpus = {message.split()[0] for message, ask in asks.items() if ask[1]}
    assert with_gpus <= {"Training", "Probing"} and with_gpus, messages
