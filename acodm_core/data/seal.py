"""Sealing a corpus: its token files are counted and hashed, and the manifest written last: a folder that has one is complete."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from acodm_core.data.card import card
from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.manifest import (
    CARD,
    FIX,
    FORMAT,
    KINDS,
    MANIFEST,
    PARTS,
    SOURCES,
    TOKEN_BYTES,
    TOKENIZER,
    Manifest,
    SplitRecord,
    require_size,
    token_file,
)
from acodm_core.data.tokens.documents import SPLITS, Split
from acodm_core.data.tokens.pieces import read_records, total
from acodm_core.data.tokens.token_files import token_dtype
from acodm_core.data.tokens.tokenizer import end_of_text, load_tokenizer, token_bytes
from acodm_core.errors import UserError
from acodm_core.files import atomic, digest, write_json
from acodm_core.seals import checksums, verify_mark

_READ_BYTES = 1 << 24


def seal(spec: CorpusSpec, corpus_dir: Path) -> Manifest:
    """Count and hash the token files, and write ``token_bytes.npy``, ``card.md`` and, last, ``manifest.json``.

    Of a corpus made of shards also ``sources.json``: their hashes, and what was left out of them and why.

    Raises:
        UserError: the tokenizer or a token file is missing, or not as it was written.
    """
    verify_mark(corpus_dir / TOKENIZER, fix=FIX)
    tokenizer = load_tokenizer(corpus_dir / TOKENIZER)
    length_V = token_bytes(tokenizer)
    dtype = token_dtype(len(length_V))
    with atomic(corpus_dir / TOKEN_BYTES) as temporary, temporary.open("wb") as file:
        np.save(file, length_V.astype("<i8"))
    records = {
        domain: {split: _record(corpus_dir / "tokens" / domain, split, dtype, length_V) for split in SPLITS}
        for domain in spec.domains
    }
    files = checksums(
        corpus_dir, [TOKENIZER, TOKEN_BYTES, *(token_file(d, s, k) for d in records for s in SPLITS for k in KINDS)]
    )
    if spec.shards:
        write_json(corpus_dir / SOURCES, _sources(spec, corpus_dir, records))
    manifest = Manifest(
        format=FORMAT,
        spec=spec,
        spec_digest=spec.digest(),
        digest=digest([FORMAT, *files.items()], 64),
        vocab_size=len(length_V),
        dtype=dtype.str,
        end_of_text=end_of_text(spec, tokenizer),
        files=files,
        domains=records,
        versions={"python": platform.python_version()} | {p: version(p) for p in ("numpy", "pyarrow", "tokenizers")},
    )
    with atomic(corpus_dir / CARD) as temporary:
        temporary.write_text(card(manifest), encoding="utf-8")
    write_json(corpus_dir / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def _sources(spec: CorpusSpec, corpus_dir: Path, records: dict[str, dict[Split, SplitRecord]]) -> dict[str, Any]:
    """What became of the rows of the shards, and how many documents of each domain were repeats."""
    sources = total(read_records(spec, corpus_dir / PARTS))
    kept = {domain: sum(split.documents for split in records[domain].values()) for domain in spec.sharded}
    return sources | {"repeats": {d: sources["documents"][d] - kept[d] for d in spec.sharded}}


def _record(folder: Path, split: Split, dtype: np.dtype, length_V: np.ndarray) -> SplitRecord:
    bin_path, idx_path = folder / f"{split}.bin", folder / f"{split}.idx.npy"
    for path in (bin_path, idx_path):
        if not path.is_file():
            raise UserError("missing", where=str(path), fix="run the tokenize step of this domain")
        verify_mark(path, fix=f"delete {path}, and run the tokenize (or join) step of this domain again")
    offsets = np.load(idx_path, mmap_mode="r")
    tokens = int(offsets[-1])
    if not tokens:
        raise UserError("no token", where=str(bin_path), fix="give the domain more text, or drop it")
    require_size(bin_path, tokens * dtype.itemsize)
    text_bytes = 0
    with bin_path.open("rb") as file:  # mapped, the file would count as this process's memory
        while block := file.read(_READ_BYTES):
            text_bytes += int(length_V[np.frombuffer(block, dtype)].sum())
    return SplitRecord(documents=len(offsets) - 1, tokens=tokens, text_bytes=text_bytes)
