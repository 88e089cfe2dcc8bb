"""A finished corpus: sealed once, opened often.

``manifest.json`` is written last, so a folder that has one is complete. Opening it checks the sizes of all files; each file's
checksum is checked where it is first read in a process, and ``verify()`` checks all.
"""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.tokens.documents import SPLITS, Split
from acodm_core.errors import UserError, unknown_name
from acodm_core.files import atomic, digest, read_json, write_json
from acodm_core.seals import checksums, verify, verify_mark

FORMAT = 2
MANIFEST, CARD, TOKENIZER, TOKEN_BYTES = "manifest.json", "card.md", "tokenizer.json", "token_bytes.npy"
SHARDS, PARTS, SOURCES = "shards.json", "parts", "sources.json"  # of a corpus made of shards


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitRecord(_Model):
    """One split of one domain. ``tokens`` counts the end-of-text tokens, ``text_bytes`` is UTF-8 without them."""

    documents: int = Field(description="Documents.")
    tokens: int = Field(description="Tokens, one end-of-text a document included.")
    text_bytes: int = Field(description="Bytes of text.")

    @property
    def bytes_per_token(self) -> float:
        return self.text_bytes / self.tokens


class Manifest(_Model):
    """What is in a corpus folder."""

    format: int = Field(description="Version of this layout.")
    spec: CorpusSpec = Field(description="The spec that made it.")
    spec_digest: str = Field(description="CorpusSpec.digest() of the program that made it.")
    digest: str = Field(description="Hash of `files`: token files in the order of the domains, and the tokenizer.")
    vocab_size: int = Field(description="Tokens in the vocabulary.")
    dtype: str = Field(description="Type of a token in the .bin files.")
    end_of_text: int = Field(description="The token that ends a document.")
    files: dict[str, str] = Field(description="XXH3-128 of every file that is read, by its path in the folder.")
    domains: dict[str, dict[Split, SplitRecord]] = Field(description="Records by domain and split.")
    versions: dict[str, str] = Field(description="The libraries that made it.")


def seal(spec: CorpusSpec, corpus_dir: Path) -> Manifest:
    """Count and hash the token files, and write ``token_bytes.npy``, ``card.md`` and, last, ``manifest.json``.

    Of a corpus made of shards also ``sources.json``: their hashes, and what was left out of them and why.

    Raises:
        UserError: the tokenizer or a token file is missing, or not as it was written.
    """
    from acodm_core.data.card import card
    from acodm_core.data.tokens.token_files import token_dtype
    from acodm_core.data.tokens.tokenizer import end_of_text, load_tokenizer, token_bytes

    verify_mark(corpus_dir / TOKENIZER, fix=_FIX)
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
        from acodm_core.data.tokens.pieces import read_records, total

        sources = total(read_records(spec, corpus_dir / PARTS))
        kept = {domain: sum(split.documents for split in records[domain].values()) for domain in spec.sharded}
        write_json(
            corpus_dir / SOURCES, sources | {"repeats": {d: sources["documents"][d] - kept[d] for d in spec.sharded}}
        )
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
        if not (folder / MANIFEST).is_file():
            raise UserError(
                "no manifest.json: not a corpus, or one that was not finished",
                where=str(folder),
                fix=f"`acodm data build SPEC.json` or `acodm data seal SPEC.json {folder}`",
            )
        try:
            found = read_json(folder / MANIFEST, fix=_FIX)
            if found.get("format") != FORMAT:
                raise UserError(
                    f"format {found.get('format')}, this program reads {FORMAT}",
                    where=str(folder / MANIFEST),
                    fix="build the corpus again",
                )
            manifest = Manifest.model_validate(found)
        except ValidationError as error:
            raise UserError(f"damaged manifest: {error}", where=str(folder / MANIFEST), fix=_FIX) from error
        corpus = cls(folder, manifest)
        corpus._check_sizes()
        return corpus

    @property
    def token_bytes(self) -> np.ndarray:
        return np.load(self._whole(TOKEN_BYTES))

    @property
    def tokenizer_path(self) -> Path:
        return self._whole(TOKENIZER)

    def tokens(self, split: Split, domain: str) -> np.memmap:
        """All tokens of a domain's split, (T,), read-only; ``dtype`` is uint16 or uint32."""
        return self._map(split, domain)

    def offsets(self, split: Split, domain: str) -> np.ndarray:
        """Where documents begin: (D + 1,) int64; document d is ``tokens[offsets[d]:offsets[d + 1]]``."""
        self.record(split, domain)
        return np.load(self._whole(token_file(domain, split, "idx.npy")))

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

    def verify(self) -> None:
        """Check every file, before anything rests on them; a file that this process has checked already costs nothing.

        Raises:
            UserError: naming the file that is missing or not as it was sealed.
        """
        verify(self.folder, self.manifest.files, fix=_FIX)

    def _whole(self, name: str) -> Path:
        """The path of a file that was checked."""
        verify(self.folder, self.manifest.files, name, fix=_FIX)
        return self.folder / name

    def _open(self, split: Split, domain: str) -> np.memmap:
        shape = (self.record(split, domain).tokens,)
        return np.memmap(self._whole(token_file(domain, split, "bin")), self.dtype, mode="r", shape=shape)

    def _check_sizes(self) -> None:
        for domain in self.domains:
            for split, record in self.manifest.domains[domain].items():
                folder = self.folder / "tokens" / domain
                _require_size(folder / f"{split}.bin", record.tokens * self.dtype.itemsize)
                _require_size(folder / f"{split}.idx.npy", _NPY_HEADER_BYTES + 8 * (record.documents + 1))
        _require_size(self.folder / TOKEN_BYTES, _NPY_HEADER_BYTES + 8 * self.vocab_size)
        if not (path := self.folder / TOKENIZER).is_file():
            raise UserError("missing", where=str(path), fix=_FIX)


KINDS = ("bin", "idx.npy")  # the two files of a split
_FIX = "build the corpus again: delete its folder, then `acodm data build`"
_READ_BYTES = 1 << 24
_NPY_HEADER_BYTES = 128  # of a one-dimensional array, padded to a multiple of 64


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
    _require_size(bin_path, tokens * dtype.itemsize)
    text_bytes = 0
    with bin_path.open("rb") as file:  # mapped, the file would count as this process's memory
        while block := file.read(_READ_BYTES):
            text_bytes += int(length_V[np.frombuffer(block, dtype)].sum())
    return SplitRecord(documents=len(offsets) - 1, tokens=tokens, text_bytes=text_bytes)


def token_file(domain: str, split: str, kind: str) -> str:
    """Where a corpus's folder has one of the KINDS of files of a split."""
    return f"tokens/{domain}/{split}.{kind}"


def _require_size(path: Path, expected_bytes: int) -> None:
    found = path.stat().st_size if path.is_file() else 0
    if found != expected_bytes:
        state = "missing" if not path.is_file() else "cut short" if found < expected_bytes else "too long"
        raise UserError(f"{state}: {found} bytes, sealed with {expected_bytes}", where=str(path), fix=_FIX)
