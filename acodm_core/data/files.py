"""Small file habits shared by the steps: write whole or not at all, hash in blocks, number a text."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BLOCK_BYTES = 1 << 20


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes the name ``path`` only if the block succeeds.

    A reader therefore sees the old file or the whole new one, and a killed program leaves no half-written output.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp makes files nobody else can read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(text: str) -> bytes:
    """Sixteen bytes that name a text: equal texts are duplicates (a chance collision needs about 2^64 documents)."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def unit(fingerprint: bytes, purpose: str) -> float:
    """A number in [0, 1) fixed by a text and a purpose; two purposes give independent numbers."""
    digest = hashlib.blake2b(fingerprint, digest_size=8, key=purpose.encode()).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
