"""Tables as files: written whole or not at all, and read with the file's name in every refusal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from acodm_core.errors import UserError
from acodm_core.files import atomic
from acodm_core.results.schemas import METRICS, SCORES, TABLES
from acodm_core.seals import marked, verify_mark


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
