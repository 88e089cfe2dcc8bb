"""The journal of a run in progress: append-only lines of JSON, cut back to the checkpoint on resume, tables at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from acodm_core.errors import UserError
from acodm_core.lm.recorded import write_signals
from acodm_core.study.results import write_table


class Journal:
    """One line a step and one an evaluation. ``offset`` goes into the checkpoint; opening with it drops what came later.

    Raises:
        UserError: the file is shorter than ``offset``.
    """

    def __init__(self, path: Path, offset: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if offset > (there := path.stat().st_size if path.exists() else 0):
            raise UserError(
                f"has {there} bytes, and the checkpoint beside it was written after {offset}",
                where=str(path),
                fix=f"remove {path.parent} to begin this run again",
            )
        self.path = path
        self._file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115 - held open for the whole run
        self._file.truncate(offset)
        self._file.seek(offset)

    def append(self, kind: str, **fields: Any) -> None:
        """Write one line; floats keep every bit."""
        fields = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in fields.items()}
        self._file.write(json.dumps({"kind": kind, **fields}).encode() + b"\n")

    def offset(self) -> int:
        """Bytes written, on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def lines(self) -> Iterator[dict[str, Any]]:
        """All lines so far."""
        self._file.flush()
        with open(self.path, "rb") as file:
            yield from map(json.loads, file)

    def close(self) -> None:
        """Close, dropping lines that are not on disk: the file may already belong to the process that continues the run."""
        self._file.raw.close()

    def write_tables(self, folder: Path, run: str, domains: tuple[str, ...], seen: tuple[str, ...] = ()) -> list[Path]:
        """Write metrics, mixture, diagnostics and signals as Parquet into ``folder``; returns the paths.

        ``seen``: the groups that the mixer decides about, where it does not see ``domains``.
        """
        metrics, mixture, diagnostics = [], [], []
        for line in self.lines():
            at = {"run": run, "step": line["step"]}
            if line["kind"] == "step":
                mixture += [
                    at | {"domain": d, "requested": r, "drawn": n}
                    for d, r, n in zip(domains, line["requested"], line["drawn"], strict=True)
                ]
                diagnostics += [at | {"name": name, "value": value} for name, value in line["diagnostics"].items()]
                values = [("train", "", name, line[name]) for name in ("loss", "grad_norm", "lr")]
                values += [("train", d, "loss", v) for d, v in zip(domains, line["domain_loss"], strict=True)]
            else:
                values = [
                    (line["split"], d, name, v)
                    for name in ("loss", "bits_per_byte")
                    for d, v in zip(domains, line[name], strict=True)
                ]
            metrics += [
                at | {"tokens": line["tokens"], "split": split, "domain": domain, "metric": metric, "value": value}
                for split, domain, metric, value in values
                if value == value  # a domain absent from a step has no value: no row, not a zero
            ]
        paths = []
        for name, rows in (("metrics", metrics), ("mixture", mixture), ("diagnostics", diagnostics)):
            paths.append(folder / f"{name}.parquet")
            write_table(rows, name, paths[-1])
        paths.append(folder / "signals.parquet")
        write_signals(self.lines(), paths[-1], run, domains, seen or domains)
        return paths
