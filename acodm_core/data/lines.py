"""The lines of a file, compressed or not, in memory that does not grow with it, up to the place where it is damaged."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

_READ_BYTES = 1 << 16  # of the compressed file: what a block unpacks to stays small


class Damaged(Exception):
    """The rest of the file cannot be read: it ends, or breaks, in the middle of its compression."""


def lines(stream: BinaryIO, name: str, longest_bytes: int | None = None) -> Iterator[bytes | None]:
    """Yield the lines of a stream without their newlines; a name in .gz or .zst is unpacked, member after member.

    A line above ``longest_bytes`` is None: it was skipped without being held.

    Raises:
        Damaged: after the last whole line that can be read.
    """
    tail: list[bytes] = []  # a line's beginning, block by block
    size = 0

    def line() -> bytes | None:
        return b"".join(tail) if longest_bytes is None or size <= longest_bytes else None

    for block in _unpacked(iter(lambda: stream.read(_READ_BYTES), b""), name):
        for number, part in enumerate(block.split(b"\n")):
            if number:
                yield line()
                tail, size = [], 0
            size += len(part)
            if longest_bytes is None or size <= longest_bytes:
                tail.append(part)
            else:
                tail.clear()
    if size:
        yield line()


def _unpacked(blocks: Iterable[bytes], name: str) -> Iterator[bytes]:
    if name.endswith(".gz"):
        return _decompressed(blocks, lambda: zlib.decompressobj(zlib.MAX_WBITS | 16))
    if name.endswith(".zst"):
        import zstandard

        return _decompressed(blocks, lambda: zstandard.ZstdDecompressor().decompressobj())
    return iter(blocks)


def _decompressed(blocks: Iterable[bytes], new_member: Callable[[], Any]) -> Iterator[bytes]:
    import zstandard

    member = None
    for block in blocks:
        while block:
            member = member or new_member()
            try:
                yield member.decompress(block)
            except (zlib.error, zstandard.ZstdError) as error:
                raise Damaged(f"damaged: {error}") from error
            block = member.unused_data if member.eof else b""
            if member.eof:
                member = None
    if member is not None:
        raise Damaged("cut short: it ends in the middle of its compression")
