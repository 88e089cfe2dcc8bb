"""The bytes and lines of a file, packed or not, in memory that does not grow with it, up to the place where it is damaged."""

from __future__ import annotations

import codecs
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO

from acodm_core.data.sources.formats import CODEC_NAMES, HEAD_BYTES, codec_of, encoding_of, no_text

_ISO_2022 = re.compile(r"\x1b\$[@B(]")
_READ_BYTES = 1 << 16  # of the packed file: what a block unpacks to stays small


class Damaged(Exception):
    """The rest of the file cannot be read: it ends, or breaks, in the middle of its compression."""


class NotText(Exception):
    """The file is no text. ``fix`` says what to do about it."""

    def __init__(self, what: str, fix: str) -> None:
        self.fix = fix
        super().__init__(what)


def lines(
    stream: BinaryIO, name: str, longest_bytes: int | None = None, encoding: str | None = None
) -> Iterator[bytes | None]:
    """Yield the lines of a stream as UTF-8 without their newlines, unpacked as its first bytes say, member after member.

    A line above ``longest_bytes`` is None: it was skipped without being held.

    Args:
        name: of the file. One that promises a codec and is not packed is taken as it is.
        encoding: of the text; None: what a byte-order mark says, or bytes as they are.

    Raises:
        Damaged: after the last whole line that can be read.
        NotText: at once, of a file that is something else.
    """
    tail: list[bytes] = []  # a line's beginning, block by block
    size = 0

    def line() -> bytes | None:
        return b"".join(tail) if longest_bytes is None or size <= longest_bytes else None

    for block in _as_utf8(text_blocks(stream, name), encoding):
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


def whole_text(stream: BinaryIO, name: str, encoding: str | None = None) -> str:
    """The text of a stream, unpacked as its first bytes say: UTF-8, what a byte-order mark says, or ``encoding``.

    Raises:
        Damaged: it ends or breaks in the middle of its compression.
        NotText: it is something else, or text in another encoding.
    """
    raw = b"".join(text_blocks(stream, name))
    marked = encoding_of(raw)
    given, encoding = encoding, encoding or (marked[0] if marked else "utf-8")
    advice = "write its `encoding:`, such as cp1252, latin-1 or utf-16-le; or take the file out"
    try:
        text = raw.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise NotText(
            f"not {encoding}: byte 0x{raw[error.start]:02x} at {error.start:,} ({error.reason})", advice
        ) from error
    if (place := text.find("\0")) >= 0:
        raise NotText(f"character {place:,} is NUL, which no text has: binary, or UTF-16 without its mark", advice)
    if not given and _ISO_2022.search(text):
        raise NotText(
            "it switches alphabets as the encodings of ISO 2022 do", "write its `encoding:`, such as iso2022_jp"
        )
    return text


def text_blocks(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """The bytes of a stream, unpacked if its first bytes say that it is packed.

    Raises:
        Damaged: after the last bytes that can be read.
        NotText: before the first ones, of a file, or the content of a packed one, that is something else than text.
    """
    head, blocks = _headed(iter(lambda: stream.read(_READ_BYTES), b""))
    if codec := codec_of(head):
        head, blocks = _headed(_unpacked(blocks, codec))
        if codec_of(head):
            raise NotText("packed twice", "unpack it once")
    elif name.lower().endswith((".gz", ".zst", ".zstd", ".xz", ".bz2")) and b"\0" in head:
        raise NotText(
            f"neither text nor packed with {CODEC_NAMES}, whatever its name says", "fetch it again, or take it out"
        )
    if found := no_text(head):
        raise NotText(f"not text: this is {found[0]}", found[1])
    return blocks


def _headed(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, as many as there are marks for, and all blocks."""
    taken: list[bytes] = []
    size = 0
    late: Damaged | None = None
    try:
        while size < HEAD_BYTES:
            taken.append(next(blocks))
            size += len(taken[-1])
    except StopIteration:
        pass
    except Damaged as error:
        late = error

    def all_blocks() -> Iterator[bytes]:
        yield from taken
        if late:
            raise late
        yield from blocks

    return b"".join(taken), all_blocks()


def _unpacked(blocks: Iterable[bytes], new_member: Callable[[], Any]) -> Iterator[bytes]:
    import zstandard

    member = None
    for block in blocks:
        while member or (block := block.lstrip(b"\0")):  # zeros may pad the end of a member
            try:
                member = member or new_member()
                yield member.decompress(block)
            except (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError) as error:
                raise Damaged(f"damaged: {error}") from error
            if not member.eof:
                break
            block, member = member.unused_data, None
    if member is not None:
        raise Damaged("cut short: it ends in the middle of its compression")


def _as_utf8(blocks: Iterator[bytes], encoding: str | None) -> Iterator[bytes]:
    head, blocks = _headed(blocks)
    marked = encoding_of(head)
    if encoding is None and (marked is None or marked[0] == "utf-8"):
        skip = marked[1] if marked else 0
        for block in blocks:
            yield block[skip:]
            skip = max(0, skip - len(block))
        return
    decoder = codecs.getincrementaldecoder(encoding or marked[0])()
    number = 0
    try:
        for number, block in enumerate(chain(blocks, [b""])):
            text = decoder.decode(block, final=not block)
            yield (text if number else text.removeprefix("\ufeff")).encode("utf-8", "surrogatepass")
    except UnicodeError as error:
        raise NotText(f"not {encoding or marked[0]}: {error}", "correct `encoding:`, or mend the file") from error
