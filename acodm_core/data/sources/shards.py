"""Shards: files that hold documents of many domains, each with its domain's name. Found once, divided, read row by row."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import xxhash
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from acodm_core.data.sources.fields import parse, rows_of, text_of
from acodm_core.data.sources.formats import HEAD_BYTES, is_parquet
from acodm_core.data.sources.lines import Damaged, NotText, lines
from acodm_core.data.sources.specs import Shards, remote
from acodm_core.errors import UserError
from acodm_core.files import contents, read_json, write_json

LONGEST_BYTES = 1 << 25  # a longer line is a fault: it could not be held in bounded memory


class Shard(BaseModel):
    """One file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(description="Path or URL.")
    bytes: int = Field(description="Its size.")
    content: str | None = Field(None, description="XXH3-128 of a local file.")


_LISTING = TypeAdapter(list[Shard])


def find_shards(shards: Shards) -> list[Shard]:
    """All files that the patterns match, sorted by path.

    Raises:
        UserError: a pattern matches nothing, or its host cannot be reached.
    """
    shards.check("corpus.shards")
    local = shards.files()
    found = {
        str(path): Shard(path=str(path), bytes=path.stat().st_size, content=content)
        for path, content in zip(local, contents(local), strict=True)
    }
    for pattern in filter(remote, shards.paths):
        found |= {path: Shard(path=path, bytes=size) for path, size in _remote(pattern).items()}
    return [found[path] for path in sorted(found)]


def write_listing(listing: Sequence[Shard], path: Path) -> None:
    """Fix the shards of a corpus: every later step reads this list and looks for no files."""
    write_json(path, {"shards": _LISTING.dump_python(list(listing), mode="json")})


def read_listing(path: Path) -> list[Shard]:
    """What ``write_listing`` wrote, or a UserError."""
    fix = f"`acodm data shards SPEC --out {path}`"
    try:
        return _LISTING.validate_python(read_json(path, fix=fix).get("shards"))
    except ValidationError as error:
        raise UserError(f"not a list of shards: {error}", where=str(path), fix=fix) from error


def divide(listing: Sequence[Shard], pieces: int) -> list[list[Shard]]:
    """Runs of neighbouring shards of about equal size, ``pieces`` of them; with fewer shards some are empty.

    Put together they are the listing in its order, so that the number of pieces decides no byte of a corpus.
    """
    divided: list[list[Shard]] = [[] for _ in range(pieces)]
    total = max(1, sum(shard.bytes for shard in listing))
    ends = accumulate(shard.bytes for shard in listing)
    for shard, end in zip(listing, ends, strict=True):
        divided[min(pieces - 1, int((end - shard.bytes / 2) / total * pieces))].append(shard)
    return divided


@dataclass(frozen=True)
class Row:
    """One document of a shard as it stands there; ``fault`` says why there is none."""

    number: int  # line of a JSON file, row of a Parquet file, from 1
    domain: str = ""
    text: str = ""
    fault: str = ""


class ShardReader:
    """Iterate it once: the rows of a shard. Then it knows the shard's hash, its rows and its damage.

    Attributes:
        sha256: of the file, 64 hexadecimal digits.
        rows: how many there were.
        damage: why the rest of the file cannot be read; empty if it is whole.
    """

    def __init__(self, shard: Shard, shards: Shards) -> None:
        self.shard, self.shards = shard, shards
        self.sha256, self.rows, self.damage = "", 0, ""

    def __iter__(self) -> Iterator[Row]:
        with _open(self.shard) as stream:
            hashed = _Hashed(stream, self.shard.path)
            try:
                read = self._parquet if is_parquet(hashed.peek(HEAD_BYTES)) else self._json
                for self.rows, row in enumerate(read(hashed), 1):
                    yield self._row(self.rows, row)
            except (Damaged, NotText) as error:
                self.damage = str(error)
            hashed.rest()
        if hashed.bytes != self.shard.bytes or self.shard.content not in (None, hashed.content()):
            raise UserError(
                f"not what was listed ({hashed.bytes} bytes, {self.shard.bytes} then): changed, or cut off on its way",
                where=self.shard.path,
                fix="try again; if the file was changed, list the shards again and begin the corpus anew",
            )
        self.sha256 = hashed.hexdigest()

    def _json(self, stream: BinaryIO) -> Iterator[Any]:
        for line in lines(stream, self.shard.path, LONGEST_BYTES):
            if line is None:
                yield _Fault(f"longer than {LONGEST_BYTES:,} bytes")
                continue
            try:
                yield parse(line) if line.strip() else _Fault("empty line")
            except UserError as error:
                yield _Fault(error.what)

    def _parquet(self, stream: BinaryIO) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with tempfile.TemporaryFile() as whole:  # its footer, at the end, must be read first
            shutil.copyfileobj(stream, whole, 1 << 20)
            try:
                file = pq.ParquetFile(whole, pre_buffer=False)
                yield from rows_of(file, [self.shards.text, self.shards.domain], rows=64)
            except UserError as error:
                raise NotText(error.what, error.fix) from error
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                raise Damaged(f"damaged: {error}") from error

    def _row(self, number: int, found: Any) -> Row:
        if isinstance(found, _Fault):
            return Row(number, fault=found)
        try:
            values = [text_of(found, dotted) for dotted in (self.shards.domain, self.shards.text)]
        except UserError as error:
            return Row(number, fault=error.what)
        return Row(number, fault="null in place of text") if None in values else Row(number, *values)


class _Fault(str):
    """Why a line holds no document."""


class _Hashed:
    """A stream that hashes and counts what is read of it."""

    def __init__(self, stream: BinaryIO, path: str) -> None:
        self._stream, self._path, self.bytes, self._peeked = stream, path, 0, b""
        self._hashes = hashlib.sha256(), xxhash.xxh3_128()
        self.hexdigest, self.content = (one.hexdigest for one in self._hashes)

    def peek(self, size: int) -> bytes:
        """The first bytes, which the next ``read`` gives."""
        self._peeked = self.read(size)
        return self._peeked

    def read(self, size: int) -> bytes:
        if self._peeked:
            block, self._peeked = self._peeked, b""
            return block
        try:
            block = self._stream.read(size)
        except Exception as error:  # a failing disk, or whatever a host raises when its line goes dead
            raise UserError(
                f"reading broke off after {self.bytes} bytes: {type(error).__name__}: {error}",
                where=self._path,
                fix="run the same command again: finished pieces are kept",
            ) from error
        for one in self._hashes:
            one.update(block)
        self.bytes += len(block)
        return block

    def rest(self) -> None:
        while self.read(1 << 20):
            pass


def _remote(pattern: str) -> dict[str, int]:
    import fsspec

    try:
        files, path = fsspec.url_to_fs(pattern)
        found = files.glob(path, detail=True)
    except Exception as error:  # every host raises its own: no network, no such place, no right to read
        raise UserError(
            f"cannot list {pattern}: {type(error).__name__}: {error}",
            where="corpus.shards.paths",
            fix="check the address and the network, or give the path of a local copy",
        ) from error
    matches = {files.unstrip_protocol(name): info["size"] for name, info in found.items() if info["type"] == "file"}
    if not matches:
        raise UserError(f"no file matches {pattern!r}", where="corpus.shards.paths", fix="correct the pattern")
    return matches


def _open(shard: Shard) -> BinaryIO:
    try:
        if not remote(shard.path):
            return open(shard.path, "rb")
        import fsspec

        return fsspec.open(shard.path, "rb").open()
    except Exception as error:
        raise UserError(
            f"cannot be read: {type(error).__name__}: {error}",
            where=shard.path,
            fix="bring the file back, or list the shards again and begin the corpus anew",
        ) from error
