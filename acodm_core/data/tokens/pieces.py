"""From a piece (some shards) to its parts (one Parquet file per domain): cleaned, split and tokenised in one pass.

A part's rows are documents in reading order: ``key`` (64 bits of the text's fingerprint), ``split`` (its place in
``SPLITS``) and ``tokens`` (their bytes, as in a ``.bin``). What needs all documents of a domain, finding repeats, is left to
``join``. ``piece.json`` is written last, so a piece that has one is complete.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field, ValidationError

from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.sources.shards import Row, Shard, ShardReader, divide
from acodm_core.data.tokens.documents import SHORTEST_BYTES, SPLITS, Progress, clean
from acodm_core.data.tokens.hashing import fingerprint, unit
from acodm_core.data.tokens.token_files import BATCH_CHARACTERS, Encoder
from acodm_core.errors import UserError
from acodm_core.files import atomic, clear_leftovers, read_json, sha256, write_json
from acodm_core.seals import checksums
from acodm_core.settings.types import Strict

RECORD = "piece.json"
EXAMPLES = 20  # faults that are described; the others are counted
_SMALL_LINES = 100_000  # before so many, a piece is not given up in the middle
_ROW_GROUP_BYTES = 8_000_000


class _Record(Strict):
    """Filled while rows are read."""

    model_config = ConfigDict(frozen=False)


class ShardRecord(_Record):
    """A shard as it was read."""

    path: str = Field(description="Path or URL.")
    bytes: int = Field(description="Its size.")
    sha256: str = Field(description="Its hash.")
    rows: int = Field(description="Lines or rows in it, as far as it could be read.")
    damage: str = Field(description="Why the rest could not be read; empty for a whole shard.")


class DomainRecord(_Record):
    """What a piece gave to a domain, repeats included."""

    documents: int = Field(0, description="Documents.")
    text_bytes: int = Field(0, description="Bytes of cleaned text.")
    tokens: int = Field(0, description="Tokens, one end-of-text per document included.")


class PieceRecord(_Record):
    """What became of the rows of a piece: ``rows`` are the documents of all domains, the faults and what was left out."""

    tokenizer_sha256: str = Field(description="Hash of the tokenizer.json.")
    dtype: str = Field(description="Type of a token in the parts.")
    shards: list[ShardRecord] = Field([], description="The shards, in order.")
    rows: int = Field(0, description="Lines or rows read.")
    faults: dict[str, int] = Field({}, description="Rows that are no document, by reason.")
    examples: list[str] = Field([], description="The first faults: shard:line: reason.")
    left_out: dict[str, int] = Field({}, description="Good rows not taken: other names, short ones, beyond a share.")
    domains: dict[str, DomainRecord] = Field({}, description="What each domain got.")
    files: dict[str, str] = Field({}, description="XXH3-128 of the parts, by name.")


def piece_folder(parts_dir: Path, piece: int, pieces: int) -> Path:
    """Where the parts of a piece lie."""
    return parts_dir / f"{piece:05d}-of-{pieces:05d}"


def tokenize_piece(
    spec: CorpusSpec,
    listing: Sequence[Shard],
    piece: int,
    tokenizer_path: Path,
    parts_dir: Path,
    progress: Progress | None = None,
) -> PieceRecord:
    """Write a piece's parts and, last, its ``piece.json``.

    The same shards give the same bytes. Memory is bounded, whatever the size of shards and documents: a megabyte of text and
    eight of tokens wait for each domain.

    Raises:
        UserError: no such piece; a shard cannot be read or changed; too many faults or damaged shards.
    """
    if not 0 <= piece < spec.shards.pieces:
        raise UserError(f"no piece {piece}: there are {spec.shards.pieces}, from 0", where="PIECE")
    encoder = Encoder(spec, tokenizer_path)
    record = PieceRecord(tokenizer_sha256=sha256(tokenizer_path), dtype=encoder.dtype.str)
    tally = _Tally(spec, record, len(listing))
    folder = piece_folder(parts_dir, piece, spec.shards.pieces)
    clear_leftovers(folder)
    (folder / RECORD).unlink(missing_ok=True)
    with ExitStack() as stack:
        parts = {
            spec.domains[domain].name: _Part(
                spec, domain, stack.enter_context(atomic(folder / f"{domain}.parquet")), encoder, tally
            )
            for domain in spec.sharded
        }
        for shard in divide(listing, spec.shards.pieces)[piece]:
            reader = ShardReader(shard, spec.shards)
            for row in reader:
                record.rows += 1
                if row.fault:
                    tally.fault("broken line", shard, row.number, row.fault)
                elif part := parts.get(row.domain):
                    part.take(row, shard)
                elif row.domain in spec.shards.others:
                    tally.leave_out("other names")
                else:
                    tally.fault("unknown domain", shard, row.number, f"no domain is named {row.domain!r}")
                if progress and record.rows % 100 == 0:
                    progress(sum(domain.text_bytes for domain in record.domains.values()))
            tally.finished(reader)
        for part in parts.values():
            part.close()
        tally.check()
    record.files = checksums(folder, [f"{domain}.parquet" for domain in spec.sharded])
    write_json(folder / RECORD, record.model_dump())
    return record


class _Tally:
    """Counts what is not taken, and gives up when that is too much."""

    def __init__(self, spec: CorpusSpec, record: PieceRecord, shards: int) -> None:
        self.limit, self.record, self.shards = spec.shards.bad_share, record, shards

    def fault(self, kind: str, shard: Shard, number: int, what: str) -> None:
        self.record.faults[kind] = self.record.faults.get(kind, 0) + 1
        self._example(f"{shard.path}:{number}: {what}")
        if self.record.rows >= _SMALL_LINES:
            self.check()

    def leave_out(self, why: str) -> None:
        self.record.left_out[why] = self.record.left_out.get(why, 0) + 1

    def finished(self, reader: ShardReader) -> None:
        shard = reader.shard
        self.record.shards.append(
            ShardRecord(
                path=shard.path, bytes=shard.bytes, sha256=reader.sha256, rows=reader.rows, damage=reader.damage
            )
        )
        if reader.damage:
            self._example(f"{shard.path}:{reader.rows}: {reader.damage}")
            check_damage([self.record], self.shards, self.limit)

    def check(self) -> None:
        faults = sum(self.record.faults.values())
        if faults > self.limit * self.record.rows:
            counts = ", ".join(f"{count:,} {kind}" for kind, count in self.record.faults.items())
            raise UserError(
                "\n  ".join(
                    [
                        f"{faults / self.record.rows:.2%} of {self.record.rows:,} lines are bad ({counts}), "
                        f"above shards.bad_share {self.limit:.2%}; the first:",
                        *self.record.examples,
                    ]
                ),
                where="corpus.shards",
                fix="mend the files, raise `bad_share`, or name domains left out on purpose in `others`",
            )

    def _example(self, text: str) -> None:
        if len(self.record.examples) < EXAMPLES:
            self.record.examples.append(text)


def check_damage(records: Sequence[PieceRecord], shards: int, limit: float) -> None:
    """Raise a UserError if more than a share ``limit`` of the corpus's ``shards`` are damaged in these pieces."""
    damaged = [shard for record in records for shard in record.shards if shard.damage]
    if len(damaged) > limit * shards:
        raise UserError(
            "\n  ".join(
                [
                    f"{len(damaged)} of {shards} shards are damaged, above shards.bad_share {limit:.2%}; the first:",
                    *(f"{shard.path}:{shard.rows}: {shard.damage}" for shard in damaged[:EXAMPLES]),
                ]
            ),
            where="corpus.shards",
            fix="fetch them again (the list of shards stays as it is), or raise `bad_share` to do without their rest",
        )


class _Part:
    """A domain's documents of one piece, on their way into its Parquet file."""

    def __init__(self, spec: CorpusSpec, domain: str, path: Path, encoder: Encoder, tally: _Tally) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._spec, self._encoder, self._tally = spec, encoder, tally
        self._share = spec.domains[domain].share
        self._record = tally.record.domains.setdefault(domain, DomainRecord())
        self._texts: list[str] = []
        self._waiting: list[tuple[Shard, int, bytes, int]] = []  # shard, line, fingerprint, bytes of each text
        self._characters = 0
        self._rows: list[tuple[int, int, bytes]] = []
        self._row_bytes = 0
        self._schema = pa.schema([("key", pa.uint64()), ("split", pa.uint8()), ("tokens", pa.binary())])
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=False)

    def take(self, row: Row, shard: Shard) -> None:
        text = clean(row.text)
        size, key = len(text.encode()), fingerprint(text)
        if size < SHORTEST_BYTES:
            self._tally.leave_out("short")
        elif unit(key, f"share:{self._spec.split_seed}") >= self._share:
            self._tally.leave_out("beyond the share")
        else:
            self._texts.append(text)
            self._waiting.append((shard, row.number, key, size))
            self._characters += len(text)
            if self._characters >= BATCH_CHARACTERS:
                self._encode()

    def close(self) -> None:
        self._encode()
        self._write()
        self._writer.close()

    def _encode(self) -> None:
        if not self._texts:
            return
        tokens, lengths_D = self._encoder(self._texts)
        backs = self._encoder.spell(tokens, lengths_D)
        start = 0
        for (shard, number, key, size), text, length, back in zip(
            self._waiting, self._texts, lengths_D, backs, strict=True
        ):
            if back != text.encode():
                self._tally.fault("changed by the tokenizer", shard, number, "the tokenizer does not spell this text")
            else:
                raw = tokens[start : start + length].tobytes()
                self._rows.append((int.from_bytes(key[:8]), split_of(key, self._spec), raw))
                self._row_bytes += len(raw)
                self._record.documents += 1
                self._record.text_bytes += size
                self._record.tokens += int(length)
            start += int(length)
        self._texts, self._waiting, self._characters = [], [], 0
        if self._row_bytes >= _ROW_GROUP_BYTES:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa

        if self._rows:
            keys, splits, raw = zip(*self._rows, strict=True)
            ends = np.cumsum([0, *map(len, raw)], dtype=np.int32)
            # From buffers: given lists or arrays, pyarrow would import pandas to ask it whether they are its own.
            columns = (
                [np.array(keys, np.uint64)],
                [np.array(splits, np.uint8)],
                [ends, b"".join(raw)],
            )
            arrays = [
                pa.Array.from_buffers(field.type, len(keys), [None, *map(pa.py_buffer, buffers)])
                for field, buffers in zip(self._schema, columns, strict=True)
            ]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows, self._row_bytes = [], 0


def split_of(key: bytes, spec: CorpusSpec) -> int:
    """Place in ``SPLITS`` of a document by its fingerprint: the rule of ``split_documents``, where hashes alone decide."""
    place = unit(key, f"split:{spec.split_seed}")
    if place < spec.test_fraction:
        return SPLITS.index("test")
    return SPLITS.index("valid" if place < spec.test_fraction + spec.valid_fraction else "train")


def read_records(spec: CorpusSpec, parts_dir: Path) -> list[PieceRecord]:
    """The records of all pieces, in order.

    Raises:
        UserError: a piece is not finished, they were made with different tokenizers, or too many shards are damaged.
    """
    records = []
    for piece in range(spec.shards.pieces):
        path = piece_folder(parts_dir, piece, spec.shards.pieces) / RECORD
        if not path.is_file():
            raise UserError("piece not finished", where=str(path), fix="run the piece step for it")
        try:
            records.append(PieceRecord.model_validate(read_json(path, fix="make the piece again: acodm data piece")))
        except ValidationError as error:
            raise UserError(
                f"not the record of a piece: {error}", where=str(path), fix="make the piece again"
            ) from None
    if len({record.tokenizer_sha256 for record in records}) > 1:
        raise UserError("pieces were made with different tokenizers", where=str(parts_dir), fix="delete it, begin anew")
    check_damage(records, sum(len(record.shards) for record in records), spec.shards.bad_share)
    return records


def total(records: Sequence[PieceRecord]) -> dict[str, Any]:
    """All pieces as one: the shards with their hashes, and every count."""
    faults, left_out = Counter(), Counter()
    documents: Counter[str] = Counter()
    for record in records:
        faults.update(record.faults)
        left_out.update(record.left_out)
        documents.update({domain: found.documents for domain, found in record.domains.items()})
    return {
        "rows": sum(record.rows for record in records),
        "faults": dict(faults),
        "examples": [example for record in records for example in record.examples][:EXAMPLES],
        "left_out": dict(left_out),
        "documents": dict(documents),
        "shards": [shard.model_dump() for record in records for shard in record.shards],
    }
