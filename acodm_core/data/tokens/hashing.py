"""Numbers fixed by a text: the name that finds duplicates, and the draw that splits documents."""

from __future__ import annotations

import hashlib


def fingerprint(text: str) -> bytes:
    """Sixteen bytes that name a text: equal texts are duplicates (a chance collision needs about 2^64 documents)."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def unit(fingerprint: bytes, purpose: str) -> float:
    """A number in [0, 1) fixed by a text and a purpose; two purposes give independent numbers."""
    digest = hashlib.blake2b(fingerprint, digest_size=8, key=purpose.encode()).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
