"""The journal of a run in progress: append-only lines of JSON, cut back to the checkpoint on resume, tables at the end.

Each line ends in a checksum of itself and of all lines before it, so that a changed one is found wherever it stands.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from acodm_core.errors import UserError
from acodm_core.lm.run.signals_table import write_signals
from acodm_core.results.table_files import write_table


class Journal:
    """One line a step and one an evaluation. ``offset`` goes into the checkpoint; opening with it drops what came later.

    Args:
        owner: what the journal is of; one of another owner is refused.

    Raises:
        UserError: the file is shorter than ``offset``, or a line before it is not as it was written.
    """

    def __init__(self, path: Path, offset: int, owner: str = "") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if offset > (there := path.stat().st_size if path.exists() else 0):
            raise UserError(
                f"has {there} bytes, and the checkpoint beside it was written after {offset}",
                where=str(path),
                fix=f"remove {path.parent} to begin this run again",
            )
        self.path, self._owner = path, owner
        self._file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115 - held open for the whole run
        self._file.truncate(offset)
        self._hash = xxhash.xxh3_64(owner.encode())
        for _ in self._whole_lines(self._hash):
            pass
        self._file.seek(offset)

    def append(self, kind: str, **fields: Any) -> None:
        """Write one line; floats keep every bit."""
        fields = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in fields.items()}
        body = json.dumps({"kind": kind, **fields}).encode()[:-1]
        self._hash.update(body)
        self._file.write(body + _end(self._hash))

    def offset(self) -> int:
        """Bytes written, on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def lines(self) -> Iterator[dict[str, Any]]:
        """All lines so far; a UserError at the first that is not as it was written."""
        self._file.flush()
        yield from map(json.loads, self._whole_lines(xxhash.xxh3_64(self._owner.encode())))

    def _whole_lines(self, hasher: xxhash.xxh3_64) -> Iterator[bytes]:
        """The lines of the file, after ``hasher`` has seen each."""
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                body = line[: -len(_end(hasher))]
                hasher.update(body)
                if line != body + _end(hasher):
                    raise UserError(
                        "damaged, or of another run: its checksum is another",
                        where=f"{self.path}:{number}",
                        fix=f"remove {self.path.parent} to begin this run again",
                    )
                yield line

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


def _end(hasher: xxhash.xxh3_64) -> bytes:
    """The last key of a line, which closes its object."""
    return b', "checksum": "%s"}\n' % hasher.hexdigest().encode()
