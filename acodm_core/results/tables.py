"""The only door to numbers: the tidy tables a run writes, and the reader that every analysis uses.

A run's folder holds ``metrics.parquet``, ``mixture.parquet``, ``diagnostics.parquet``, ``signals.parquet`` and, written last,
``manifest.json`` (docs/data.md has every column). ``collect`` puts the runs of one experiment together; ``Results`` reads what
``collect`` and the probe wrote.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from acodm_core import PROTOCOL
from acodm_core.errors import UserError
from acodm_core.files import atomic, read_json
from acodm_core.results.finished_run import read_manifest, require
from acodm_core.seals import marked, verify, verify_mark, was_written


@dataclass(frozen=True)
class Metric:
    unit: str
    lower_is_better: bool
    description: str


# Closed: a metric that is not here cannot be written. Perplexity is derived (exp of mean nats), never stored.
METRICS: Mapping[str, Metric] = {
    "loss": Metric("nats/token", True, "mean cross-entropy of a domain's tokens"),
    "bits_per_byte": Metric("bits/byte", True, "the same loss over the bytes that the tokens spell"),
    "grad_norm": Metric("", True, "L2 norm of the gradient before clipping"),
    "lr": Metric("", True, "learning rate"),
}

TABLES: Mapping[str, pa.Schema] = {
    # split: train (this step's batch), valid (the curve), test (once, at the end). domain: "" where a metric has none.
    "metrics": pa.schema(
        [
            ("run", pa.string()),
            ("step", pa.int64()),  # optimiser steps taken when the value was measured
            ("tokens", pa.int64()),  # training tokens seen by then
            ("split", pa.string()),
            ("domain", pa.string()),
            ("metric", pa.string()),
            ("value", pa.float64()),
        ]
    ),
    # The share of each domain that the mixer asked for in a step (1-based) and the share that was drawn.
    "mixture": pa.schema(
        [
            ("run", pa.string()),
            ("step", pa.int64()),
            ("domain", pa.string()),
            ("requested", pa.float64()),
            ("drawn", pa.float64()),
        ]
    ),
    "diagnostics": pa.schema(
        [("run", pa.string()), ("step", pa.int64()), ("name", pa.string()), ("value", pa.float64())]
    ),
}

# One file a run, beside its tables and not collected: what its mixer was shown and made of it (lm.recorded, docs/data.md).
SIGNALS = pa.schema(
    [
        ("run", pa.string()),
        ("step", pa.int64()),
        ("name", pa.string()),  # a signal of mixing.Signal, or a vector that the mixer calls so
        ("item", pa.string()),  # domain, or group where the mixer decides about groups; number of a weight tensor
        ("other", pa.string()),  # the second domain of a matrix's entry; "" in vectors
        ("value", pa.float64()),
    ]
)

# What a trained model scores on a task: one row a checkpoint, task, subject, shots and metric. A task that could not run has one
# row without a metric, with its reason.
SCORES = pa.schema(
    [
        ("run", pa.string()),
        ("step", pa.int64()),  # optimiser steps behind the weights
        ("task", pa.string()),  # mmlu, humaneval, or an lm-eval task
        ("subject", pa.string()),  # "" for the task as a whole
        ("shots", pa.int64()),  # few-shot examples asked for
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("n", pa.int64()),  # items
        ("standard_error", pa.float64()),  # over items; NaN where unknown
        ("chance", pa.float64()),  # what knowing nothing scores; NaN where there is no such level
        ("status", pa.string()),  # measured | skipped
        ("reason", pa.string()),  # why it was skipped
    ]
)

# The metrics of this project's own tasks; other lm-eval tasks keep lm-eval's names.
SCORE_METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("", False, "share of questions answered right"),
    "accuracy_above_letters": Metric(
        "", False, "accuracy minus that of the same letters dealt to the questions at random"
    ),
    "gold_probability": Metric("", False, "probability of the right choice among the choices"),
    "bits_per_byte": Metric("bits/byte", True, "what the right answer's text costs the model, over its bytes"),
    "unigram_ratio": Metric("", True, "the same bits over those of the unigram model of the training text"),
    "shots_kept": Metric("", False, "few-shot examples that fitted the context, mean over questions"),
    "cut_share": Metric("", True, "share of prompts whose beginning did not fit the context"),
    "unasked_share": Metric("", True, "share of problems whose prompt leaves no room in the context for an answer"),
}

# One row a run, made by ``collect`` from the manifests.
RUN_COLUMNS = (
    "run",  # name of the run's folder
    "method",
    "title",  # the method's name in tables and figures
    "mixer",
    "compared",  # a row of the comparison (True), or only a value of an axis or a stage of another run (False)
    "role",  # target, proxy, ...
    "model",
    "seed",
    "status",  # finished | diverged | out_of_memory
    "steps",
    "tokens",
    "parameters",
    "parameters_non_embedding",
    "model_flops",  # of the run's own training steps, forward and backward
    "method_flops",  # of what the mixer had measured, on top
    "train_seconds",  # measured by the run's own clock: for the reader, never for a comparison
    "joules",  # counted by the device's own meter while it trained; missing where there is none
    "ancestors",  # JSON list of the runs it depends on, nearest first
    "device",
    "hardware",
    "precision",
    "corpus",
    "commit",
    "version",  # of this project
)

LATER_COLUMNS = {
    "joules",
    "version",
    "hardware",
}  # results of earlier versions lack them: hardware in the probe's tables

# What an experiment's description cannot do without; what later versions added has defaults.
DESCRIPTION = ("experiment", "domains", "natural_weights", "compare", "steps", "batch", "context", "runs")

# The probe's rows: one block of interleaved steps. arm: "plain" (uniform, no signals), "gradients" (plain with the per-domain
# gradients measured and unused) or "method". The whole step is the part "step".
PROBE_COLUMNS = ("method", "model", "block", "arm", "part", "seconds", "hardware")
MEMORY_COLUMNS = ("method", "model", "repeat", "arm", "host_bytes", "device_bytes", "hardware")  # a process of its own

# What runs that stand in one table may not differ in without its being said: column -> words.
MUST_AGREE = {
    "hardware": "hardware",
    "precision": "precision",
    "commit": "code commit",
    "version": "version of the code",
}


def disagreements(runs: pd.DataFrame) -> list[str]:
    """What these rows of ``runs`` differ in of MUST_AGREE, in words with the values and how many runs have each."""
    found = []
    for column, words in MUST_AGREE.items():
        counts = runs.get(column, pd.Series(dtype=str)).dropna().astype(str).value_counts().sort_index()
        if len(counts) > 1:
            found.append(f"{words} ({', '.join(f'{kind}: {n} runs' for kind, n in counts.items())})")
    return found


def write_table(rows: list[Mapping[str, Any]] | pd.DataFrame, name: str, path: Path) -> None:
    """Write a run's table, atomically and with bytes that depend on the rows alone."""
    schema = TABLES[name]
    if isinstance(rows, pd.DataFrame):
        table = pa.Table.from_pandas(rows[list(schema.names)], schema=schema, preserve_index=False)
    else:
        table = pa.Table.from_pylist(list(rows), schema=schema)
    if name == "metrics":
        unknown = set(table["metric"].unique().to_pylist()) - set(METRICS)
        if unknown:
            raise ValueError(f"metrics that are not declared in METRICS: {sorted(unknown)}")
    with atomic(path) as temporary:
        pq.write_table(table.replace_schema_metadata({}), temporary, compression="zstd")


def write_scores(rows: list[Mapping[str, Any]], path: Path) -> None:
    """Write rows of SCORES, atomically; a column that a row leaves out is null, an absent status ``measured``."""
    defaults = {"subject": "", "metric": "", "status": "measured", "reason": ""}
    table = pa.Table.from_pylist([defaults | dict(row) for row in rows], schema=SCORES)
    write_frame(table, path)


def write_frame(frame: pd.DataFrame | pa.Table, path: Path) -> None:
    """Write a table that no manifest names: it bears its checksum beside it, and ``read_frame`` reads it."""
    table = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
    with marked(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_frame(path: Path, *, fix: str) -> pd.DataFrame:
    """What ``write_frame`` wrote; a UserError that names it and the ``fix`` when it is missing or damaged."""
    verify_mark(path, fix=fix)
    return read_parquet(path)


def read_parquet(path: Path) -> pd.DataFrame:
    """A Parquet file; a UserError that names it when it is missing, truncated or foreign."""
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise UserError("file not found", where=str(path)) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"not a readable Parquet file ({error})", where=str(path)) from None


def _with_columns(frame: pd.DataFrame, columns: Collection[str], path: Path) -> pd.DataFrame:
    if missing := sorted(set(columns) - set(frame.columns)):
        raise UserError(f"another table: it has no column {', '.join(missing)}", where=str(path))
    return frame


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


class Results:
    """The collected results of one experiment: ``results/NAME``.

    Tables are pandas frames: ``runs`` (RUN_COLUMNS), ``metrics``, ``mixture``, ``diagnostics`` (TABLES), ``probe`` and
    ``memory`` (PROBE_COLUMNS, MEMORY_COLUMNS; empty when the probe was not run).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        path = self.folder / "experiment.json"
        self.experiment = read_json(path, fix="collect the runs again")
        if self.experiment.get("protocol") != PROTOCOL:
            raise UserError(
                f"results of protocol {self.experiment.get('protocol')}, this code has {PROTOCOL}", where=str(path)
            )
        if missing := [key for key in DESCRIPTION if key not in self.experiment]:
            raise UserError(f"not what collect writes: it has no {', '.join(missing)}", where=str(path))

    @cached_property
    def runs(self) -> pd.DataFrame:
        frame = self._table("runs", set(RUN_COLUMNS) - (LATER_COLUMNS - {"hardware"}))
        if (corpora := frame["corpus"].unique()).size > 1:
            raise UserError(f"runs of several corpora: {', '.join(corpora)}", where=str(self.folder / "runs.parquet"))
        return frame

    @cached_property
    def metrics(self) -> pd.DataFrame:
        frame = self._table("metrics", TABLES["metrics"].names)
        compared = self.runs.loc[self.runs["compared"], "run"]  # a stage of another trainer may tell no loss
        if missing := sorted(set(compared) - set(frame["run"].unique())):
            raise UserError(
                f"has nothing of {_some(missing)}",
                where=str(self.folder / "metrics.parquet"),
                fix="collect the runs again",
            )
        return frame

    @cached_property
    def mixture(self) -> pd.DataFrame:
        return self._table("mixture", TABLES["mixture"].names)

    @cached_property
    def diagnostics(self) -> pd.DataFrame:
        return self._table("diagnostics", TABLES["diagnostics"].names)

    def run_folder(self, run: str) -> Path:
        """Where ``collect`` found the run: in ``runs`` beside this folder unless it was told others."""
        folders = [self.folder / root / run for root in self.experiment.get("roots", ["../runs"])]
        return next((folder for folder in folders if (folder / "manifest.json").exists()), folders[0])

    def manifest(self, run: str) -> dict[str, Any] | None:
        """What a run wrote about itself; None where its folder is not there."""
        path = self.run_folder(run) / "manifest.json"
        if not path.exists():
            return None
        manifest = read_manifest(path.parent)
        if manifest["run"] != run:
            raise UserError(f"the manifest of {manifest['run']}, in the folder of {run}", where=str(path))
        return manifest

    def actor(self, run: str) -> dict[str, tuple[int, ...]] | None:
        """Shapes of the tensors of the actor that a run left, none where it has none; None where its folder is not there."""
        manifest = self.manifest(run)
        if manifest is None:
            return None
        if "actor.safetensors" not in manifest["artefacts"]:
            return {}
        path = self.run_folder(run) / "actor.safetensors"
        require(path.parent, path.name)
        from safetensors import safe_open

        with safe_open(path, "numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dictionary

    @cached_property
    def probe(self) -> pd.DataFrame:
        return self._probed("probe", PROBE_COLUMNS)

    @cached_property
    def memory(self) -> pd.DataFrame:
        return self._probed("memory", MEMORY_COLUMNS)

    def _table(self, name: str, columns: Collection[str]) -> pd.DataFrame:
        """A table of this experiment's runs; a UserError that names the file where it is another table or another experiment's."""
        path, recorded = self.folder / f"{name}.parquet", self.experiment.get("files", {})
        if path.name in recorded:
            verify(self.folder, recorded, path.name, fix="collect the runs again")
        frame = _with_columns(read_parquet(path), columns, path)
        if foreign := sorted(set(frame["run"].unique()) - set(self.experiment["runs"])):
            raise UserError(
                f"holds runs that are not of this experiment: {_some(foreign)}",
                where=str(path),
                fix="collect the runs again",
            )
        return frame

    def _probed(self, name: str, columns: Collection[str]) -> pd.DataFrame:
        path = self.folder / "probe" / f"{name}.parquet"
        if not was_written(path):
            return pd.DataFrame(columns=list(columns))
        frame = _with_columns(read_frame(path, fix="probe again"), set(columns) - LATER_COLUMNS, path)
        frame = frame.reindex(columns=list(columns))
        if (machines := frame["hardware"].dropna().unique()).size > 1:
            raise UserError(f"of several machines: {', '.join(machines)}", where=str(path), fix="probe again, on one")
        return frame

    @property
    def domains(self) -> list[str]:
        return list(self.experiment["domains"])

    @property
    def natural_weights(self) -> dict[str, float]:
        """Training tokens of each domain over their sum."""
        return dict(zip(self.domains, self.experiment["natural_weights"], strict=True))

    @property
    def objective_weights(self) -> dict[str, float]:
        """Weights of the domains in the loss that methods are compared by; results older than these weights are uniform."""
        uniform = [1 / len(self.domains)] * len(self.domains)
        return dict(zip(self.domains, self.experiment.get("objective_weights", uniform), strict=True))

    @property
    def axes(self) -> dict[str, dict[str, Any]]:
        """Axis -> title, ``of`` (the method that is varied) and ``methods`` (label -> method whose runs stand for it)."""
        return self.experiment.get("axes", {})

    @property
    def compare(self) -> list[str]:
        """The compared methods, in the order of the configuration."""
        return list(self.experiment["compare"])
