"""A finished corpus: sealed once, opened often.

``manifest.json`` is written last, so a folder that has one is complete. Opening it checks the sizes of all
files, which is cheap; ``verify()`` checks their hashes.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.documents import SPLITS, Split
from acodm_core.errors import UserError, unknown_name
from acodm_core.files import atomic, sha256, write_json

FORMAT = 1
MANIFEST, CARD, TOKENIZER, TOKEN_BYTES = "manifest.json", "card.md", "tokenizer.json", "token_bytes.npy"
SHARDS, PARTS, SOURCES = "shards.json", "parts", "sources.json"  # of a corpus made of shards


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitRecord(_Model):
    """One split of one domain. ``tokens`` counts the end-of-text tokens, ``text_bytes`` is UTF-8 without them."""

    documents: int = Field(description="Documents.")
    tokens: int = Field(description="Tokens, one end-of-text a document included.")
    text_bytes: int = Field(description="Bytes of text.")
    bin_sha256: str = Field(description="Hash of the token file.")
    idx_sha256: str = Field(description="Hash of the offsets file.")

    @property
    def bytes_per_token(self) -> float:
        return self.text_bytes / self.tokens


class Manifest(_Model):
    """What is in a corpus folder."""

    format: int = Field(description="Version of this layout.")
    spec: CorpusSpec = Field(description="The spec that made it.")
    spec_digest: str = Field(description="CorpusSpec.digest() of the program that made it.")
    digest: str = Field(description="Hash of the content: token files, tokenizer, domain names.")
    vocab_size: int = Field(description="Tokens in the vocabulary.")
    dtype: str = Field(description="Type of a token in the .bin files.")
    end_of_text: int = Field(description="The token that ends a document.")
    tokenizer_sha256: str = Field(description="Hash of tokenizer.json.")
    domains: dict[str, dict[Split, SplitRecord]] = Field(description="Records by domain and split.")
    versions: dict[str, str] = Field(description="The libraries that made it.")


def seal(spec: CorpusSpec, corpus_dir: Path) -> Manifest:
    """Count and hash the token files, and write ``token_bytes.npy``, ``card.md`` and, last, ``manifest.json``.

    Of a corpus made of shards also ``sources.json``: their hashes, and what was left out of them and why.

    Raises:
        UserError: a token file is missing or does not end where its offsets say.
    """
    from acodm_core.data.card import card
    from acodm_core.data.tokenizer import end_of_text, load_tokenizer, token_bytes
    from acodm_core.data.tokens import token_dtype

    tokenizer = load_tokenizer(corpus_dir / TOKENIZER)
    length_V = token_bytes(tokenizer)
    dtype = token_dtype(len(length_V))
    with atomic(corpus_dir / TOKEN_BYTES) as temporary, temporary.open("wb") as file:
        np.save(file, length_V.astype("<i8"))
    records = {
        domain: {split: _record(corpus_dir / "tokens" / domain, split, dtype, length_V) for split in SPLITS}
        for domain in spec.domains
    }
    tokenizer_sha256 = sha256(corpus_dir / TOKENIZER)
    if spec.shards:
        from acodm_core.data.pieces import read_records, total

        sources = total(read_records(spec, corpus_dir / PARTS))
        kept = {domain: sum(split.documents for split in records[domain].values()) for domain in spec.sharded}
        write_json(
            corpus_dir / SOURCES, sources | {"repeats": {d: sources["documents"][d] - kept[d] for d in spec.sharded}}
        )
    manifest = Manifest(
        format=FORMAT,
        spec=spec,
        spec_digest=spec.digest(),
        digest=_content_digest(tokenizer_sha256, records),
        vocab_size=len(length_V),
        dtype=dtype.str,
        end_of_text=end_of_text(spec, tokenizer),
        tokenizer_sha256=tokenizer_sha256,
        domains=records,
        versions={"python": platform.python_version()} | {p: version(p) for p in ("numpy", "pyarrow", "tokenizers")},
    )
    for name, content in ((CARD, card(manifest)), (MANIFEST, manifest.model_dump_json(indent=1) + "\n")):
        with atomic(corpus_dir / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return manifest


class Corpus:
    """Memory-mapped tokens by split and domain.

    Attributes:
        manifest: everything recorded about it.
        domains: names, in order; K of them.
        vocab_size: V.
        digest: hash of the content, 64 hexadecimal digits.
        end_of_text: the token that ends a document.
        train_tokens: tokens of each domain's train split, (K,) int64.
        token_bytes: bytes of each token, (V,) int64.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.domains: tuple[str, ...] = tuple(manifest.domains)
        self.vocab_size = manifest.vocab_size
        self.digest = manifest.digest
        self.end_of_text = manifest.end_of_text
        self.dtype = np.dtype(manifest.dtype)
        self.train_tokens = np.array([manifest.domains[name]["train"].tokens for name in self.domains], np.int64)
        self._map = lru_cache(maxsize=None)(self._open)

    @classmethod
    def open(cls, folder: Path | str) -> Corpus:
        """Open a sealed corpus after checking that every file is there and has its size.

        Raises:
            UserError: not a corpus, unfinished, of another format, or a file is missing or cut short.
        """
        folder = Path(folder)
        try:
            manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        except OSError as error:
            raise UserError(
                "no manifest.json: not a corpus, or one that was not finished",
                where=str(folder),
                fix=f"`acodm data build SPEC.json` or `acodm data seal SPEC.json {folder}`",
            ) from error
        except ValidationError as error:
            raise UserError(
                f"damaged manifest: {error}", where=str(folder / MANIFEST), fix="build the corpus again"
            ) from error
        if manifest.format != FORMAT:
            raise UserError(
                f"format {manifest.format}, this program reads {FORMAT}", where=str(folder), fix="build it again"
            )
        corpus = cls(folder, manifest)
        corpus._check_sizes()
        return corpus

    @property
    def token_bytes(self) -> np.ndarray:
        return np.load(self.folder / TOKEN_BYTES)

    @property
    def tokenizer_path(self) -> Path:
        return self.folder / TOKENIZER

    def tokens(self, split: Split, domain: str) -> np.memmap:
        """All tokens of a domain's split, (T,), read-only; ``dtype`` is uint16 or uint32."""
        return self._map(split, domain)

    def offsets(self, split: Split, domain: str) -> np.ndarray:
        """Where documents begin: (D + 1,) int64; document d is ``tokens[offsets[d]:offsets[d + 1]]``."""
        self.record(split, domain)
        return np.load(self._path(split, domain, "idx.npy"))

    def record(self, split: Split, domain: str) -> SplitRecord:
        """Counts and hashes of a domain's split, or a UserError that names the nearest one."""
        if domain not in self.manifest.domains:
            raise unknown_name("domain", domain, self.domains, where=str(self.folder))
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        return self.manifest.domains[domain][split]

    def require_context(self, context: int) -> None:
        """Refuse a corpus that has a split too short for one sequence of ``context`` tokens and the last one's target.

        Raises:
            UserError: naming every such domain and split, its tokens and how many it needs.
        """
        short = [
            f"domain {domain!r} has {record.tokens:,} {split} tokens"
            for domain, splits in self.manifest.domains.items()
            for split, record in splits.items()
            if record.tokens < context + 1
        ]
        if short:
            raise UserError(
                "\n  ".join([f"shorter than one context, which needs {context + 1:,} tokens:", *short]),
                where=str(self.folder),
                fix="give the domain more text, raise `corpus.valid_fraction` and `corpus.test_fraction`, drop the domain, or"
                " lower `training.context`",
            )

    def verify(self, full: bool = False) -> None:
        """Check sizes and, if ``full``, the hash of every file.

        Raises:
            UserError: naming the file that differs.
        """
        self._check_sizes()
        if not full:
            return
        expected = {self.tokenizer_path: self.manifest.tokenizer_sha256}
        for domain in self.domains:
            for split, record in self.manifest.domains[domain].items():
                expected[self._path(split, domain, "bin")] = record.bin_sha256
                expected[self._path(split, domain, "idx.npy")] = record.idx_sha256
        for path, recorded in expected.items():
            if (found := sha256(path)) != recorded:
                raise UserError(
                    f"changed: sha256 {found}, sealed as {recorded}", where=str(path), fix="build the corpus again"
                )

    def _path(self, split: str, domain: str, suffix: str) -> Path:
        return self.folder / "tokens" / domain / f"{split}.{suffix}"

    def _open(self, split: Split, domain: str) -> np.memmap:
        shape = (self.record(split, domain).tokens,)
        return np.memmap(self._path(split, domain, "bin"), self.dtype, mode="r", shape=shape)

    def _check_sizes(self) -> None:
        for domain in self.domains:
            for split, record in self.manifest.domains[domain].items():
                _require_size(self._path(split, domain, "bin"), record.tokens * self.dtype.itemsize)
                _require_size(self._path(split, domain, "idx.npy"), _NPY_HEADER_BYTES + 8 * (record.documents + 1))
        _require_size(self.folder / TOKEN_BYTES, _NPY_HEADER_BYTES + 8 * self.vocab_size)
        if not self.tokenizer_path.is_file():
            raise UserError("missing", where=str(self.tokenizer_path), fix="build the corpus again")


_READ_BYTES = 1 << 24
_NPY_HEADER_BYTES = 128  # of a one-dimensional array, padded to a multiple of 64


def _record(folder: Path, split: Split, dtype: np.dtype, length_V: np.ndarray) -> SplitRecord:
    bin_path, idx_path = folder / f"{split}.bin", folder / f"{split}.idx.npy"
    for path in (bin_path, idx_path):
        if not path.is_file():
            raise UserError("missing", where=str(path), fix="run the tokenize step of this domain")
    offsets = np.load(idx_path, mmap_mode="r")
    tokens = int(offsets[-1])
    if not tokens:
        raise UserError("no token", where=str(bin_path), fix="give the domain more text, or drop it")
    _require_size(bin_path, tokens * dtype.itemsize)
    text_bytes, digest = 0, hashlib.sha256()
    with bin_path.open("rb") as file:  # mapped, the file would count as this process's memory
        while block := file.read(_READ_BYTES):
            digest.update(block)
            text_bytes += int(length_V[np.frombuffer(block, dtype)].sum())
    return SplitRecord(
        documents=len(offsets) - 1,
        tokens=tokens,
        text_bytes=text_bytes,
        bin_sha256=digest.hexdigest(),
        idx_sha256=sha256(idx_path),
    )


def _content_digest(tokenizer_sha256: str, records: Mapping[str, Mapping[Split, SplitRecord]]) -> str:
    lines = [f"{FORMAT} {tokenizer_sha256}"]
    lines += [
        f"{d} {split} {r.bin_sha256} {r.idx_sha256}" for d, splits in records.items() for split, r in splits.items()
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _require_size(path: Path, expected_bytes: int) -> None:
    found = path.stat().st_size if path.is_file() else 0
    if found != expected_bytes:
        state = "missing" if not path.is_file() else "cut short" if found < expected_bytes else "too long"
        raise UserError(
            f"{state}: {found} bytes, sealed with {expected_bytes}", where=str(path), fix="build the corpus again"
        )
