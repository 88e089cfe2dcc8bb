"""What the first bytes of a file say it is: packed, marked with an encoding, or something that is no text at all."""

from __future__ import annotations

import bz2
import codecs
import lzma
import re
import zlib
from collections.abc import Callable
from typing import Any

HEAD_BYTES = 1 << 12  # enough for every mark below
CODEC_NAMES = "gzip, zstandard, xz and bzip2"


def _zstandard() -> Any:
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()


#: Marks of packed files, and what unpacks one member of them.
CODECS: dict[bytes, Callable[[], Any]] = {
    rb"\x1f\x8b\x08": lambda: zlib.decompressobj(zlib.MAX_WBITS | 16),
    rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18": _zstandard,
    rb"\xfd7zXZ\x00": lzma.LZMADecompressor,
    rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)": bz2.BZ2Decompressor,
}

#: Byte-order marks, the longer ones first, and the encodings that they mean.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}

_UNPACK = "unpack it, and name what was in it"
_EXPORT = "export its text (UTF-8), or take it out"
_NO_TEXT: dict[bytes, tuple[str, str]] = {
    rb"PAR[1E][^ -~\n\r]": ("a Parquet file", "write `format: parquet`"),
    rb"PK(?:\x03\x04|\x05\x06)": ("a zip archive (as docx, xlsx, odt and epub are, too)", _EXPORT),
    rb"%PDF-": ("a PDF", _EXPORT),
    rb"\{\\rtf": ("a document in rich text (RTF)", _EXPORT),
    rb"\xd0\xcf\x11\xe0": ("an old office document (doc, xls, ppt)", _EXPORT),
    rb"ARROW1\x00|FEA1\x00|\xff\xff\xff\xff.\x00": ("an Arrow file", "write it as Parquet, and `format: parquet`"),
    rb"(?s:.{257})ustar": ("a tar archive", _UNPACK),
    rb"7z\xbc\xaf\x27\x1c": ("a 7z archive", _UNPACK),
    rb"Rar!\x1a\x07": ("a rar archive", _UNPACK),
    rb"\x04\x22\x4d\x18": ("an lz4 file", _UNPACK),
    rb"\xff\x06\x00\x00sNaPpY": ("a snappy file", _UNPACK),
    rb"\x1f[\x9d\xa0]": ("a file of the old `compress`", _UNPACK),
    rb"SQLite format 3": ("an SQLite database", _EXPORT),
    rb"\x89HDF\r\n": ("an HDF5 file", _EXPORT),
    rb"Obj\x01": ("an Avro file", "write it as Parquet or JSON Lines"),
    rb"ORC[^ -~\n\r]": ("an ORC file", "write it as Parquet or JSON Lines"),
    rb"\x93NUMPY": ("a numpy array", _EXPORT),
    rb"\x80[\x02-\x05][\x80-\x95c}\]]": ("a pickle", "write it as Parquet or JSON Lines"),
    rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|RIFF....WEBP|II\*\x00|MM\x00\*": ("an image", "take it out"),
    rb"RIFF....WAVE|ID3[\x02-\x04]|OggS\x00|fLaC\x00": ("a sound", "take it out"),
    rb"\x7fELF|MZ.{0,64}\x00|\xca\xfe\xba\xbe": ("a program", "take it out"),
    rb"version https://git-lfs": ("the pointer of Git LFS and not the file itself", "fetch the file: `git lfs pull`"),
}  # fmt: skip
_KNOWN = [(re.compile(mark, re.DOTALL), *told) for mark, told in _NO_TEXT.items()]
_PACKED = [(re.compile(mark, re.DOTALL), codec) for mark, codec in CODECS.items()]


def codec_of(head: bytes) -> Callable[[], Any] | None:
    """What unpacks a file that begins with ``head``; None if it is not packed, or not by a codec of ``CODECS``."""
    return next((codec for mark, codec in _PACKED if mark.match(head)), None)


def encoding_of(head: bytes) -> tuple[str, int] | None:
    """The encoding that a byte-order mark means, and the bytes of the mark; None if there is no mark."""
    return next(((name, len(mark)) for mark, name in MARKS.items() if head.startswith(mark)), None)


def no_text(head: bytes) -> tuple[str, str] | None:
    """What a file is that begins with ``head``, if that is known and is no text; and what to do about it."""
    if encoding_of(head):
        return None
    return next(((name, fix) for mark, name, fix in _KNOWN if mark.match(head)), None)


def is_parquet(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a Parquet file."""
    return head.startswith(b"PAR1") and no_text(head) is not None
