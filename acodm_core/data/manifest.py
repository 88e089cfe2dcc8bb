"""What a corpus's folder holds: the names of its files, and the manifest that is written last and has the checksum of each."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from acodm_core.data.catalogue import CorpusSpec
from acodm_core.data.tokens.documents import Split
from acodm_core.errors import UserError
from acodm_core.settings.types import Strict

FORMAT = 2
MANIFEST, CARD, TOKENIZER, TOKEN_BYTES = "manifest.json", "card.md", "tokenizer.json", "token_bytes.npy"
SHARDS, PARTS, SOURCES = "shards.json", "parts", "sources.json"  # of a corpus made of shards
KINDS = ("bin", "idx.npy")  # the two files of a split
FIX = "build the corpus again: delete its folder, then `acodm data build`"


class SplitRecord(Strict):
    """One split of one domain. ``tokens`` counts the end-of-text tokens, ``text_bytes`` is UTF-8 without them."""

    documents: int = Field(description="Documents.")
    tokens: int = Field(description="Tokens, one end-of-text per document included.")
    text_bytes: int = Field(description="Bytes of text.")


class Manifest(Strict):
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


def token_file(domain: str, split: str, kind: str) -> str:
    """Where a corpus's folder has one of the KINDS of files of a split."""
    return f"tokens/{domain}/{split}.{kind}"


def require_size(path: Path, expected_bytes: int) -> None:
    """Refuse a file that is missing, cut short or too long."""
    found = path.stat().st_size if path.is_file() else 0
    if found != expected_bytes:
        state = "missing" if not path.is_file() else "cut short" if found < expected_bytes else "too long"
        raise UserError(f"{state}: {found} bytes, sealed with {expected_bytes}", where=str(path), fix=FIX)
