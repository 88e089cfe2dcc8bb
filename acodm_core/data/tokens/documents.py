"""From raw documents to one Parquet file per domain: cleaned, free of exact duplicates, capped, split by document.

Which documents are kept and where they go is decided by hashes of their text, never by their place. So adding documents
to a domain does not move the others between train, valid and test. One exception, for domains of a few long documents
(two dozen patents, fifty plays), where a hash threshold may leave a split nearly empty: while a held-out split has less
than half of its share of the bytes, the document with the next lowest hash joins it. Documents are never cut in two,
hence no book stands on both sides.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.tokens.hashing import fingerprint, unit
from acodm_core.data.tokens.raw_documents import read_domain
from acodm_core.errors import UserError
from acodm_core.seals import marked, verify_mark

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
SHORTEST_BYTES = 32  # less is a heading, a greeting or nothing
_ROW_GROUP_BYTES = 8_000_000

Progress = Callable[[int], None]  # called with the bytes of text read so far


@dataclass(frozen=True)
class Document:
    """What is remembered of a document while its text waits on disk."""

    key: bytes  # fingerprint of the text
    size: int  # bytes of UTF-8


@dataclass(frozen=True)
class Summary:
    """What became of the documents of a domain."""

    documents: int
    bytes: int
    duplicates: int
    short: int
    over_cap: int


def clean(text: str) -> str:
    """Unicode NFC, Unix newlines, no control characters, no trailing blanks, at most two empty lines in a row.

    Indentation stays: it is syntax in code and layout in verse.
    """
    text = text.encode("utf-8", "ignore").decode()  # lone surrogates, legal in JSON, have no UTF-8
    text = _BLANK.sub(" ", _CONTROL.sub("", _NEWLINE.sub("\n", text)))
    text = unicodedata.normalize("NFC", text)  # last: a letter and its accent may have met only now
    return _EMPTY_LINES.sub("\n\n\n", _TRAILING.sub("\n", text)).strip("\n").rstrip()


def build_documents(
    spec: CorpusSpec, domain: str, archives_dir: Path, out_path: Path, progress: Progress | None = None
) -> Summary:
    """Write the documents of a domain to ``out_path``: Parquet, columns ``split`` and ``text``, in reading order.

    The same spec and archives give the same bytes (for one version of pyarrow). Memory stays bounded: the text waits in
    a file beside ``out_path`` until its last document is known.

    Raises:
        UserError: see ``read_domain``; or fewer than three documents are left, so that a split would be empty.
    """
    out_path.parent.mkdir(parents=True, exist_ok=True)
    spool_path = out_path.with_name(f".{out_path.name}.spool")
    try:
        documents, duplicates, short = _spool(read_domain(spec, domain, archives_dir), spool_path, progress)
        kept = choose(documents, spec.cap_bytes(domain), spec.split_seed)
        splits = split_documents(kept, spec.valid_fraction, spec.test_fraction, spec.split_seed)
        if not splits:
            raise UserError(
                f"only {len(kept)} documents are left, and three splits need three",
                where=f"corpus.domains.{domain}",
                fix="raise `max_megabytes`, give the domain more text, or drop it",
            )
        with marked(out_path) as temporary:
            _write(
                temporary,
                ((splits[d.key], t) for d, t in zip(documents, _texts(spool_path), strict=True) if d.key in splits),
            )
    finally:
        spool_path.unlink(missing_ok=True)
    return Summary(len(kept), sum(d.size for d in kept), duplicates, short, len(documents) - len(kept))


def choose(documents: Sequence[Document], cap_bytes: int | None, seed: int) -> list[Document]:
    """The documents to keep under a cap: in the order of a hash of their own, until one does not fit."""
    if cap_bytes is None or sum(document.size for document in documents) <= cap_bytes:
        return list(documents)
    kept, size = [], 0
    for document in sorted(documents, key=lambda d: unit(d.key, f"cap:{seed}")):
        size += document.size
        if size > cap_bytes:
            break
        kept.append(document)
    return kept


def split_documents(documents: Sequence[Document], valid: float, test: float, seed: int) -> dict[bytes, Split]:
    """The split of each document by key; empty if three splits cannot be filled. The module's text has the rule."""
    if len(documents) < len(SPLITS):
        return {}
    ranked = sorted(((unit(d.key, f"split:{seed}"), d) for d in documents), key=lambda pair: pair[0])
    total = sum(document.size for document in documents)
    splits: dict[bytes, Split] = {}
    threshold, place = 0.0, 0
    for name, share, left_for_others in (("test", test, 2), ("valid", valid, 1)):
        threshold += share
        size = 0
        while place < len(ranked) - left_for_others and (ranked[place][0] < threshold or size < share * total / 2):
            splits[ranked[place][1].key] = name
            size += ranked[place][1].size
            place += 1
    return splits | {document.key: "train" for _, document in ranked[place:]}


def read_documents(path: Path, split: str) -> Iterator[str]:
    """Yield the texts of one split, in order, reading a few at a time.

    Raises:
        UserError: the file is missing, or not as it was written.
    """
    verify_mark(path, fix=f"delete {path}, and read the documents again: acodm data documents")
    yield from _read(path, split)


def _read(path: Path, split: str) -> Iterator[str]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(batch_size=256):
        for name, text in zip(batch["split"].to_pylist(), batch["text"].to_pylist(), strict=True):
            if name == split:
                yield text


def _spool(raw: Iterator[str], path: Path, progress: Progress | None) -> tuple[list[Document], int, int]:
    """Clean and de-duplicate into a waiting file. Returns the documents, and how many were repeats and too short."""
    documents: list[Document] = []
    seen: set[bytes] = set()
    counts = {"duplicates": 0, "short": 0, "bytes": 0}

    def fresh() -> Iterator[tuple[str, str]]:
        for text in map(clean, raw):
            size, key = len(text.encode()), fingerprint(text)
            if size < SHORTEST_BYTES:
                counts["short"] += 1
            elif key in seen:
                counts["duplicates"] += 1
            else:
                seen.add(key)
                documents.append(Document(key, size))
                counts["bytes"] += size
                if progress:
                    progress(counts["bytes"])
                yield "", text

    _write(path, fresh())
    return documents, counts["duplicates"], counts["short"]


def _texts(path: Path) -> Iterator[str]:
    return _read(path, "")  # the waiting file has no splits yet


def _write(path: Path, rows: Iterator[tuple[str, str]]) -> None:
    """Write (split, text) rows in row groups of bounded size."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("split", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        group: list[tuple[str, str]] = []
        size = 0
        for row in rows:
            group.append(row)
            size += len(row[1])
            if size >= _ROW_GROUP_BYTES:
                writer.write_table(pa.table(list(map(list, zip(*group, strict=True))), schema=schema))
                group, size = [], 0
        if group:
            writer.write_table(pa.table(list(map(list, zip(*group, strict=True))), schema=schema))


_NEWLINE = re.compile(r"\r\n?|\f|\u2028|\u2029|\x85")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufeff\u200b\u00ad]")
_BLANK = re.compile(r"[\u00a0\u2007\u202f]")
_TRAILING = re.compile(r"(?<![ \t])[ \t]+\n")  # looked for where blanks begin: else a long run takes its square
_EMPTY_LINES = re.compile(r"\n{4,}")
