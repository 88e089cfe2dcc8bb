"""From the parts of all pieces to a domain's token files, each text once: the first of equal texts stays.

Texts are equal if 64 bits of their fingerprints are. Among n documents of a domain about n^2 / 2^65 are dropped by chance:
0.002 of them where there are 300 million.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.tokens.documents import SPLITS, Progress
from acodm_core.data.tokens.pieces import piece_folder, read_records
from acodm_core.data.tokens.token_files import token_files
from acodm_core.errors import UserError
from acodm_core.files import clear_leftovers
from acodm_core.seals import verify

_KEYS_AT_ONCE = 1 << 22  # 32 MB, and about five times that to sort them


def join_domain(
    spec: CorpusSpec, domain: str, parts_dir: Path, out_dir: Path, progress: Progress | None = None
) -> None:
    """Write ``out_dir/{train,valid,test}.{bin,idx.npy}`` from the domain's parts.

    Memory: one byte per document of the domain (repeats included), and about 300 MB; more only where one text is repeated
    tens of millions of times.

    Raises:
        UserError: a piece or a part is missing; a split gets no document.
    """
    entry, pieces = spec.entry(domain), spec.shards.pieces
    records = read_records(spec, parts_dir)
    dtype = np.dtype(records[0].dtype)
    parts = [piece_folder(parts_dir, piece, pieces) / f"{domain}.parquet" for piece in range(pieces)]
    for path, record in zip(parts, records, strict=True):
        verify(path.parent, record.files, path.name, fix="delete the piece's piece.json and make it again")
    clear_leftovers(out_dir)  # of a join that was killed: as large as the domain
    repeat_D = _repeats(parts, out_dir)
    kept = dict.fromkeys(SPLITS, 0)
    place = done_bytes = 0
    with ExitStack() as stack:
        append = [stack.enter_context(token_files(out_dir, split)) for split in SPLITS]
        for table in _row_groups(parts, ["split", "tokens"]):
            split_D = _numbers(table["split"], np.uint8)
            tokens, ends_D = _tokens(table["tokens"], dtype)
            fresh_D = ~repeat_D[place : place + len(split_D)]
            place += len(split_D)
            for number, split in enumerate(SPLITS):
                chosen_D = fresh_D & (split_D == number)
                if chosen_D.any():
                    lengths_D = np.diff(ends_D)
                    append[number](tokens[np.repeat(chosen_D, lengths_D)], lengths_D[chosen_D])
                    kept[split] += int(chosen_D.sum())
            done_bytes += tokens.nbytes
            if progress:
                progress(done_bytes)
        if empty := [split for split, documents in kept.items() if not documents]:
            raise UserError(
                f"no document for {' and '.join(empty)}: {place:,} rows bear the name {entry.name!r}, "
                f"{int(repeat_D.sum()):,} of them repeats",
                where=f"corpus.domains.{domain}",
                fix="correct `name`, raise `valid_fraction` and `test_fraction`, or drop the domain",
            )


def _repeats(parts: Sequence[Path], folder: Path) -> np.ndarray:
    """Whether each document of the parts repeats an earlier one: (D,) bool.

    Its keys go to a file once; then they are compared bucket by bucket, so that no more than ``_KEYS_AT_ONCE`` are held.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spool = folder / ".keys"
    try:
        with spool.open("wb") as file:
            for table in _row_groups(parts, ["key"]):
                file.write(_numbers(table["key"], np.uint64).data)
        count = spool.stat().st_size // 8
        repeat_D = np.zeros(count, bool)
        buckets = 1 + 2 * count // _KEYS_AT_ONCE  # half full on average: none overflows
        for bucket in range(buckets):
            keys, places = _bucket(spool, bucket, buckets)
            order = np.argsort(keys, kind="stable")  # equal keys keep their order: the first is not a repeat
            equal = keys[order[1:]] == keys[order[:-1]]
            repeat_D[places[order[1:][equal]]] = True
        return repeat_D
    finally:
        spool.unlink(missing_ok=True)


def _bucket(spool: Path, bucket: int, buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """The keys of a bucket and where they stand."""
    keys, places, start = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], 0
    with spool.open("rb") as file:
        while len(block := np.fromfile(file, np.uint64, _KEYS_AT_ONCE)):
            hits = np.flatnonzero(block % np.uint64(buckets) == bucket)
            keys.append(block[hits])
            places.append(start + hits)
            start += len(block)
    return np.concatenate(keys), np.concatenate(places)


def _row_groups(parts: Sequence[Path], columns: list[str]) -> Iterator[Any]:
    import pyarrow.parquet as pq

    for path in parts:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=columns)


def _numbers(column: Any, dtype: type) -> np.ndarray:
    """A column of numbers. (pyarrow's own ``to_numpy`` imports pandas, which takes longer than a small join.)"""
    array = column.combine_chunks()
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * np.dtype(dtype).itemsize)


def _tokens(column: Any, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of a binary column, one document after the other (T,), and where documents begin and end (D + 1,)."""
    array = column.combine_chunks()
    _, offsets, data = array.buffers()
    ends_D = np.frombuffer(offsets, np.int32, len(array) + 1, array.offset * 4).astype(np.int64)
    tokens = np.frombuffer(data, np.uint8)[ends_D[0] : ends_D[-1]].view(dtype)
    return tokens, (ends_D - ends_D[0]) // dtype.itemsize
