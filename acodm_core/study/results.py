"""The only door to numbers: the tidy tables a run writes, and the reader that every analysis uses.

A run's folder holds ``metrics.parquet``, ``mixture.parquet``, ``diagnostics.parquet`` and, written last, ``manifest.json``.
``collect`` puts the runs of one experiment together; ``Results`` reads what ``collect`` and the probe wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    "ancestors",  # JSON list of the runs it depends on, nearest first
    "device",
    "hardware",
    "precision",
    "corpus",
    "commit",
)

# The probe's rows: one block of interleaved steps. arm: "plain" (uniform, no signals), "gradients" (plain with the per-domain
# gradients measured and unused) or "method".
PROBE_COLUMNS = ("method", "model", "block", "arm", "part", "seconds")  # seconds a step, part "step" is the whole
MEMORY_COLUMNS = ("method", "model", "repeat", "arm", "host_bytes", "device_bytes")  # peaks of a process of its own


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


def read_parquet(path: Path) -> pd.DataFrame:
    """A Parquet file; a UserError that names it when it is missing, truncated or foreign."""
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise UserError("file not found", where=str(path)) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"not a readable Parquet file ({error})", where=str(path)) from None


class Results:
    """The collected results of one experiment: ``results/NAME``.

    Tables are pandas frames: ``runs`` (RUN_COLUMNS), ``metrics``, ``mixture``, ``diagnostics`` (TABLES), ``probe`` and
    ``memory`` (PROBE_COLUMNS, MEMORY_COLUMNS; empty when the probe was not run).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.experiment = read_json(self.folder / "experiment.json")
        if self.experiment.get("protocol") != PROTOCOL:
            raise UserError(
                f"results of protocol {self.experiment.get('protocol')}, this code has {PROTOCOL}",
                where=str(self.folder / "experiment.json"),
            )

    @cached_property
    def runs(self) -> pd.DataFrame:
        return read_parquet(self.folder / "runs.parquet")

    @cached_property
    def metrics(self) -> pd.DataFrame:
        return read_parquet(self.folder / "metrics.parquet")

    @cached_property
    def mixture(self) -> pd.DataFrame:
        return read_parquet(self.folder / "mixture.parquet")

    @cached_property
    def diagnostics(self) -> pd.DataFrame:
        return read_parquet(self.folder / "diagnostics.parquet")

    @cached_property
    def probe(self) -> pd.DataFrame:
        path = self.folder / "probe" / "probe.parquet"
        return read_parquet(path) if path.exists() else pd.DataFrame(columns=list(PROBE_COLUMNS))

    @cached_property
    def memory(self) -> pd.DataFrame:
        path = self.folder / "probe" / "memory.parquet"
        return read_parquet(path) if path.exists() else pd.DataFrame(columns=list(MEMORY_COLUMNS))

    @property
    def domains(self) -> list[str]:
        return list(self.experiment["domains"])

    @property
    def natural_weights(self) -> dict[str, float]:
        """Training tokens of each domain over their sum."""
        return dict(zip(self.domains, self.experiment["natural_weights"], strict=True))

    @property
    def target_weights(self) -> dict[str, float]:
        """Weights of the domains in the loss that methods are compared by; results older than these weights are uniform."""
        uniform = [1 / len(self.domains)] * len(self.domains)
        return dict(zip(self.domains, self.experiment.get("target_weights", uniform), strict=True))

    @property
    def axes(self) -> dict[str, dict[str, Any]]:
        """Axis -> title, ``of`` (the method that is varied) and ``methods`` (label -> method whose runs stand for it)."""
        return self.experiment.get("axes", {})

    @property
    def compare(self) -> list[str]:
        """The compared methods, in the order of the configuration."""
        return list(self.experiment["compare"])
