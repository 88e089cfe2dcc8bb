"""What a mixer was shown and what it made of it, step by step: a line's worth in the journal, ``signals.parquet`` at the end.

Schedulers can so be studied without training: the file has what a run's mixer learned from;
docs/reference/data.md says how to read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from acodm_core.files import atomic
from acodm_core.mixing import Signal
from acodm_core.results.schemas import SIGNALS

_SIGNALS = frozenset(map(str, Signal))
BATCH = 100_000  # rows in memory at a time


def kept(signals: Mapping[Signal, np.ndarray], found: Mapping[str, float | np.ndarray]) -> dict[str, list[float]]:
    """Name -> numbers of one step, in eight digits: signals, and the mixer's own vectors among ``found``.

    Of a sketch the inner products of its rows are kept: what mixers take from it, and far fewer numbers. A matrix of pairs is
    symmetric and leaves its upper triangle, row by row, with the diagonal. What metrics.parquet has is left out.
    """
    values = {name: value for name, value in found.items() if np.ndim(value)}
    for signal, value in signals.items():
        if signal.info.recorded == "products":
            value = value @ value.T
        if _of_pairs(signal):
            value = value[np.triu_indices(len(value))]
        if signal.info.recorded != "metrics":
            values[str(signal)] = value
    return {name: [float(f"{one:.8g}") for one in np.ravel(value)] for name, value in values.items()}


def write_signals(
    lines: Iterable[Mapping[str, Any]], path: Path, run: str, domains: Sequence[str], seen: Sequence[str]
) -> None:
    """Write the rows of SIGNALS of a journal's ``lines``, in their order, a batch of rows at a time.

    Args:
        domains: names of what is measured.
        seen: names of what the mixer decides about: its groups, or the domains.
    """
    with atomic(path) as temporary, pq.ParquetWriter(temporary, SIGNALS, compression="zstd") as writer:
        rows: list[tuple] = []
        for line in lines:
            for name, values in line.get("signals", {}).items():
                places = _places(name, len(values), domains, seen)
                rows += [
                    (run, line["step"], name, *place, value)
                    for place, value in zip(places, values, strict=True)
                    if value == value  # a domain absent from a step has no row
                ]
            if len(rows) >= BATCH:
                _flush(rows, writer)
        _flush(rows, writer)


def _places(name: str, count: int, domains: Sequence[str], seen: Sequence[str]) -> list[tuple[str, str]]:
    """The columns ``item`` and ``other`` of each number of a step's ``name``."""
    if name not in _SIGNALS:
        return [(item, "") for item in seen]
    signal = Signal(name)
    if _of_pairs(signal):
        return [(domains[i], domains[j]) for i, j in zip(*np.triu_indices(len(domains)), strict=True)]
    if not signal.info.of_domains:
        return [(str(number), "") for number in range(count)]
    if signal.info.shape == "K":
        return [(domain, "") for domain in domains]
    return [(domain, str(number)) for domain in domains for number in range(count // len(domains))]


def _of_pairs(signal: Signal) -> bool:
    return signal.info.shape == "KK" or signal.info.recorded == "products"


def _flush(rows: list[tuple], writer: pq.ParquetWriter) -> None:
    if rows:
        columns = zip(*rows, strict=True)
        writer.write_table(pa.table(dict(zip(SIGNALS.names, columns, strict=True)), schema=SIGNALS))
        rows.clear()
