"""Files whose bytes are known: a manifest that was written last holds their checksums, or a mark lies beside a file.

Who reads such a file checks it first. XXH3-128 tells every change by accident, at the speed of the disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from acodm_core.errors import UserError
from acodm_core.files import atomic, xxh3


def checksum(path: Path) -> str:
    """Hex XXH3-128 of a file's bytes, at several GB a second; free when asked again of a file that did not change since."""
    stat = os.stat(path)
    return _checksum(os.path.abspath(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@cache
def _checksum(path: str, *_state: int) -> str:
    return xxh3(path)


def checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Name -> checksum of these files of a folder, for its manifest."""
    return {name: checksum(folder / name) for name in names}


def verify(folder: Path, recorded: Mapping[str, str], *names: str, fix: str) -> None:
    """Compare files of ``folder`` with what its manifest recorded of them: the ``names``, or all.

    Raises:
        UserError: one is missing, or its bytes are not those that were written.
    """
    for name in names or recorded:
        path = folder / name
        if name not in recorded or not path.is_file():
            what = "not one of its manifest's files" if path.is_file() else "file not found"
            raise UserError(what, where=str(path), fix=fix)
        if checksum(path) != recorded[name]:
            raise UserError(
                "truncated or changed since it was written: its checksum is another", where=str(path), fix=fix
            )


@contextlib.contextmanager
def marked(path: Path) -> Iterator[Path]:
    """As ``atomic``, for a file that no manifest names: its checksum lies in a hidden file beside it."""
    with atomic(path) as temporary:
        yield temporary
        found = checksum(temporary)
    with atomic(mark_of(path)) as temporary:
        temporary.write_text(found + "\n")


def verify_mark(path: Path, *, fix: str) -> None:
    """Check a file that was written under ``marked``.

    Raises:
        UserError: it or its mark is missing, or its bytes are not those that were written.
    """
    mark = mark_of(path)
    if path.is_file() and not mark.is_file():
        raise UserError(f"its checksum, {mark.name} beside it, is missing", where=str(path), fix=fix)
    recorded = mark.read_text(encoding="utf-8", errors="replace").strip() if mark.is_file() else ""
    verify(path.parent, {path.name: recorded}, fix=fix)


def was_written(path: Path) -> bool:
    """Whether a marked file is there or was: its mark alone says that it was lost, and its reader will say so."""
    return path.exists() or mark_of(path).exists()


def mark_of(path: Path) -> Path:
    """Where the checksum of a marked file lies."""
    return path.with_name(f".{path.name}.xxh3")
