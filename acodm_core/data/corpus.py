"""A finished corpus, opened often.

Opening it checks the sizes of all files; each file's checksum is checked where it is first read in a process, and ``verify()``
checks all.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from acodm_core.data.manifest import (
    FIX,
    FORMAT,
    MANIFEST,
    TOKEN_BYTES,
    TOKENIZER,
    Manifest,
    SplitRecord,
    require_size,
    token_file,
)
from acodm_core.data.tokens.documents import SPLITS, Split
from acodm_core.errors import UserError, unknown_name
from acodm_core.files import read_json
from acodm_core.seals import verify

_NPY_HEADER_BYTES = 128  # of a one-dimensional array, padded to a multiple of 64


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
            found = read_json(folder / MANIFEST, fix=FIX)
            if found.get("format") != FORMAT:
                raise UserError(
                    f"format {found.get('format')}, this program reads {FORMAT}",
                    where=str(folder / MANIFEST),
                    fix="build the corpus again",
                )
            manifest = Manifest.model_validate(found)
        except ValidationError as error:
            raise UserError(f"damaged manifest: {error}", where=str(folder / MANIFEST), fix=FIX) from error
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
        verify(self.folder, self.manifest.files, fix=FIX)

    def _whole(self, name: str) -> Path:
        """The path of a file that was checked."""
        verify(self.folder, self.manifest.files, name, fix=FIX)
        return self.folder / name

    def _open(self, split: Split, domain: str) -> np.memmap:
        shape = (self.record(split, domain).tokens,)
        return np.memmap(self._whole(token_file(domain, split, "bin")), self.dtype, mode="r", shape=shape)

    def _check_sizes(self) -> None:
        for domain in self.domains:
            for split, record in self.manifest.domains[domain].items():
                folder = self.folder / "tokens" / domain
                require_size(folder / f"{split}.bin", record.tokens * self.dtype.itemsize)
                require_size(folder / f"{split}.idx.npy", _NPY_HEADER_BYTES + 8 * (record.documents + 1))
        require_size(self.folder / TOKEN_BYTES, _NPY_HEADER_BYTES + 8 * self.vocab_size)
        if not (path := self.folder / TOKENIZER).is_file():
            raise UserError("missing", where=str(path), fix=FIX)
