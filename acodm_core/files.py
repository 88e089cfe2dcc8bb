"""Files that are either whole or absent."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acodm_core.errors import UserError

_NO_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it, synced to disk, when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writable(folder: Path, *, fix: str) -> Iterator[None]:
    """A UserError in place of what goes wrong where ``folder`` takes no more writing: full, over quota, read-only, failing."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and getattr(cause, "errno", None) not in _NO_WRITING:
            cause = cause.__cause__ or cause.__context__  # some libraries hide it behind an error of their own
        if not isinstance(cause, OSError):
            raise
        reason = cause.strerror or str(cause)
        raise UserError(f"cannot be written: {reason}", where=str(cause.filename or folder), fix=fix) from error


def clear_leftovers(folder: Path) -> None:
    """Remove what processes that were killed inside ``atomic`` left anywhere below ``folder``."""
    for left in Path(folder).rglob(".*.part"):
        left.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON that a person can read; whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file; a UserError that names the file when it is missing, cut short or something else."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("file not found", where=str(path)) from None
    except ValueError as error:  # not JSON, or not even text
        raise UserError(f"not valid JSON ({error}): truncated or foreign", where=str(path)) from None
    if not isinstance(value, dict):
        raise UserError(f"must hold a JSON object, got {type(value).__name__}", where=str(path))
    return value


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any, length: int = 10) -> str:
    """The first ``length`` hex digits of the SHA-256 of a JSON-able value: equal values, equal digests."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]
