"""What a mixer was shown and what it made of it, step by step: a line's worth in the journal, ``signals.parquet`` at the end.

Schedulers can so be studied without training: the file has what a run's mixer learned from, docs/data.md says how to read it.
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

# Of these the inner products of the domains' rows are kept: what mixers take from them, and far fewer numbers.
PRODUCTS = frozenset({Signal.GRAD_SKETCH, Signal.ADAM_SKETCH, Signal.EMBEDDING})
MATRICES = PRODUCTS | {Signal.GRAD_GRAM}
OF_TENSORS = frozenset({Signal.PARAM_NORM, Signal.PARAM_STEP_NORM})
OF_MODELS = frozenset({Signal.ADAPTER_LOSS})  # a row a domain, a column a model
ELSEWHERE = frozenset({Signal.LOSS, Signal.LEARNING_RATE})  # in metrics.parquet
_SIGNALS = frozenset(map(str, Signal))
BATCH = 100_000  # rows in memory at a time


def kept(signals: Mapping[Signal, np.ndarray], found: Mapping[str, float | np.ndarray]) -> dict[str, list[float]]:
    """Name -> numbers of one step, in eight digits: signals but ELSEWHERE, and the mixer's own vectors among ``found``.

    A matrix is symmetric and leaves its upper triangle, row by row, with the diagonal.
    """
    values = {name: value for name, value in found.items() if np.ndim(value)}
    values |= {str(signal): value for signal, value in signals.items() if signal not in ELSEWHERE}
    for signal in MATRICES & set(signals):
        gram_KK = signals[signal] @ signals[signal].T if signal in PRODUCTS else signals[signal]
        values[str(signal)] = gram_KK[np.triu_indices(len(gram_KK))]
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
    if name in MATRICES:
        return [(domains[i], domains[j]) for i, j in zip(*np.triu_indices(len(domains)), strict=True)]
    if name in OF_TENSORS:
        return [(str(number), "") for number in range(count)]
    if name in OF_MODELS:
        return [(domain, str(number)) for domain in domains for number in range(count // len(domains))]
    return [(item, "") for item in (domains if name in _SIGNALS else seen)]


def _flush(rows: list[tuple], writer: pq.ParquetWriter) -> None:
    if rows:
        columns = zip(*rows, strict=True)
        writer.write_table(pa.table(dict(zip(SIGNALS.names, columns, strict=True)), schema=SIGNALS))
        rows.clear()
