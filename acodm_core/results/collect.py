"""The runs of one experiment put together: checked against the plan, then written as tidy tables."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from acodm_core import PROTOCOL
from acodm_core.data.corpus import Corpus
from acodm_core.errors import UserError
from acodm_core.files import atomic, write_json
from acodm_core.measure import provenance
from acodm_core.results.finished_run import mend, read_manifest
from acodm_core.results.schemas import RUN_COLUMNS, TABLES
from acodm_core.results.table_files import read_parquet, write_table
from acodm_core.seals import checksums, verify
from acodm_core.settings.types import checked
from acodm_core.study.config import Experiment
from acodm_core.study.planner import Plan, RunSpec

COPIED = (  # from a run's manifest to its row
    "status",
    "steps",
    "tokens",
    "parameters",
    "parameters_non_embedding",
    "model_flops",
    "method_flops",
    "precision",
)
MANIFEST_KEYS = (*COPIED, "seconds", "hardware", "code")


def collect(experiment: Experiment, plan: Plan, corpus: Corpus, roots: Sequence[Path], out: Path) -> None:
    """Read every planned run from ``ROOT/RUN`` and write the experiment's tables into ``out``.

    Args:
        roots: folders of runs, of several machines or sittings; a run may be finished in more than one if its tables are equal.

    Raises:
        UserError: a run that is missing, truncated, changed since it was written, trained on another corpus, or finished twice with
            different results.
    """
    folders, manifests = {}, {}
    for run, spec in plan.runs.items():
        folders[run], manifests[run] = _finished(run, spec, corpus, roots)
    for name in TABLES:
        tables = [read_parquet(folder / f"{name}.parquet") for folder in folders.values()]
        write_table(pd.concat(tables, ignore_index=True), name, out / f"{name}.parquet")
    rows = [_row(plan, run, manifest) for run, manifest in manifests.items()]
    with atomic(out / "runs.parquet") as temporary:
        frame = pd.DataFrame(rows, columns=list(RUN_COLUMNS)).astype({"joules": float})
        frame.to_parquet(temporary, index=False)
    tokens = [int(n) for n in corpus.train_tokens]
    training, methods = experiment.training, plan.methods
    description = {
        "protocol": PROTOCOL,
        "experiment": experiment.experiment,
        "domains": list(corpus.domains),
        "natural_weights": [n / sum(tokens) for n in tokens],
        "objective_weights": experiment.evaluation.objective_vector(corpus.domains, tokens).tolist(),
        "compare": experiment.compare,
        "axes": {
            name: {"title": axis.title, "of": axis.of, "methods": plan.axes[name]}
            for name, axis in experiment.axes.items()
        },
        "titles": {name: methods[name].title or name for name in sorted(methods)},
        "trials": {name: methods[name].trials for name in sorted(methods) if methods[name].trials},
        "baseline": experiment.baseline,
        "seeds": experiment.seeds,
        "model": experiment.roles["target"],
        "steps": training.steps,
        "batch": training.batch,
        "context": training.context,
        "schedule": training.schedule,
        "horizon": "fixed-horizon",
        "corpus": {"name": experiment.corpus.name, "id": experiment.corpus.id, "train_tokens": tokens},
        "evaluation": {
            "valid_sequences": experiment.evaluation.valid_sequences,
            "test_sequences": experiment.evaluation.test_sequences,
            "context": training.context,
        },
        "code": provenance.code(),
        "runs": list(plan.runs),
        "roots": [os.path.relpath(root, out) for root in roots],
        "files": checksums(out, [f"{name}.parquet" for name in ("runs", *TABLES)]),
    }
    write_json(out / "experiment.json", description)


def _finished(run: str, spec: RunSpec, corpus: Corpus, roots: Sequence[Path]) -> tuple[Path, dict[str, Any]]:
    """Folder and manifest of ``run`` in the first of ``roots`` in which it is finished."""
    there = [root / run for root in roots if (root / run / "manifest.json").exists()]
    manifests = [_manifest(folder, spec, corpus) for folder in there or [roots[0] / run]]
    tables = [{name: manifest["artefacts"].get(f"{name}.parquet") for name in TABLES} for manifest in manifests]
    for folder, found in zip(there, tables, strict=False):
        if found != tables[0]:
            raise UserError(
                f"trained twice, with different results: its tables are not those of {there[0]}",
                where=str(folder),
                fix="remove one of the two, with all runs that depend on it",
            )
    return (there or [roots[0] / run])[0], manifests[0]


def _manifest(folder: Path, spec: RunSpec, corpus: Corpus) -> dict[str, Any]:
    path = folder / "manifest.json"
    manifest = read_manifest(folder, *MANIFEST_KEYS)
    if checked(RunSpec, manifest["spec"], where=f"{path}: spec") != spec:
        raise UserError("this run was made from another spec than the one planned", where=str(path))
    if manifest["corpus"] != corpus.digest:
        raise UserError(f"trained on corpus {manifest['corpus']}, not on {corpus.digest}", where=str(path))
    verify(folder, manifest["artefacts"], fix=mend(folder))
    return manifest


def _row(plan: Plan, run: str, manifest: dict[str, Any]) -> dict[str, Any]:
    spec, hardware = plan.runs[run], manifest["hardware"]
    entry = plan.methods[spec.method]
    return {
        "run": run,
        "method": spec.method,
        "title": entry.title or spec.method,
        "mixer": spec.mixer,
        "compared": run in plan.compared.get(spec.method, ()),
        "role": entry.model,
        "model": spec.model_name,
        "seed": spec.seed,
        **{name: manifest[name] for name in COPIED},
        "train_seconds": sum(manifest["seconds"].values()),
        "joules": manifest.get("joules"),
        "ancestors": json.dumps(plan.ancestors(run)),
        "device": hardware["device"],
        "hardware": provenance.hardware_name(hardware),
        "corpus": spec.corpus,
        "commit": manifest["code"]["commit"],
        "version": manifest["code"]["version"],
    }
