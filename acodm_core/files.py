"""Files that are either whole or absent; files that are found, held by one process, and known by their content."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from glob import escape, iglob
from pathlib import Path
from typing import Any

import xxhash

from acodm_core.errors import UserError

#: Remembers the hashes of large files by path, size and times, so that they are read once. Safe to delete.
CONTENTS = Path("data", ".contents.json")
_ALWAYS_READ_BYTES = 1 << 27  # so much is read in a tenth of a second: remembering it would save nothing
_SETTLED_NS = 3 * 10**9  # a file changed within this time may change again without a new time stamp
_RECURSIVE = re.compile(r"((?:.*?/)?)\*\*(?:/(.*))?", re.DOTALL)
_SLOW_BYTES = 1 << 31  # a person should know what takes so long

_FULL = "make room, and run the same command again: what is finished is kept"
_FORBIDDEN = "change the folder's rights, or name another folder"
# Why a disk takes no more writing, and what to do about it.
_NO_WRITING = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), and run the same command again",
    errno.EROFS: "name a folder on a disk that can be written to",
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EIO: "look after the disk: it fails",
}
# What else a path may be refused for: told only where the error itself names the path.
_NO_PATH = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
_NO_NAME = {errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTEMPTY, errno.EXDEV, errno.ETXTBSY, errno.EMFILE, errno.ENFILE}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how libraries that are written in Rust say it


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it, synced to disk, when the block ends without an error.

    The file's mode is what the umask leaves, whoever wrote it: some libraries make files that only their owner may read.
    An error of the disk that names no file gets the name of ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno and error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writable(folder: Path, *, fix: str = "") -> Iterator[None]:
    """A UserError in place of what goes wrong where ``folder`` takes no more writing: full, over quota, read-only, failing.

    Args:
        fix: what to do; by default what fits the reason.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if trouble := disk_trouble(error, folder, fix=fix):
            raise trouble from error
        raise


def disk_trouble(error: BaseException, folder: Path | str = "", *, fix: str = "") -> UserError | None:
    """The UserError for an error that comes of a disk that takes no more writing; None for any other.

    Args:
        folder: named where the error names no file.
        fix: what to do; by default what fits the reason.
    """
    cause: BaseException | None = error
    while cause is not None:  # some libraries hide it behind an error of their own
        number = getattr(cause, "errno", None)
        if number is None and not isinstance(cause, OSError) and (told := _OS_ERROR.search(str(cause))):
            number = int(told[1])
        if number in _NO_WRITING:
            where = getattr(cause, "filename", None) or folder
            return UserError(
                f"cannot be written: {os.strerror(number)}", where=str(where), fix=fix or _NO_WRITING[number]
            )
        cause = cause.__cause__ or cause.__context__
    return None


def path_trouble(error: BaseException) -> UserError | None:
    """The UserError for an error that says of a path that it is not there, or not what is needed; None for any other."""
    if isinstance(error, OSError) and error.filename and (isinstance(error, _NO_PATH) or error.errno in _NO_NAME):
        return UserError(str(error.strerror), where=str(error.filename), fix="name another path, or mend this one")
    return None


def clear_leftovers(folder: Path) -> None:
    """Remove what processes that were killed inside ``atomic`` left anywhere below ``folder``."""
    for left in Path(folder).rglob(".*.part"):
        left.unlink()


@contextlib.contextmanager
def exclusive(folder: Path, doing: str) -> Iterator[None]:
    """Hold a folder for this process by a lock that ends with it; UserError if another process holds it.

    Args:
        doing: what the other one does there, as in "training this run".
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"another process is {doing}", where=str(folder), fix="wait for it, or stop it, and try again"
            ) from None
        yield


def find_files(patterns: Sequence[str], *, where: str) -> list[Path]:
    """The regular files that the patterns match, sorted by name, each once however many names it has.

    A pattern that is the name of a file means this file, whatever brackets it has.

    Raises:
        UserError: a pattern matches no file, or it is the name of something else: a folder, a pipe, a broken link.
    """
    found: set[str] = set()
    for pattern in patterns:
        name = os.path.expanduser(pattern.removeprefix("file://"))
        if os.path.lexists(name) and not os.path.isfile(name):
            raise UserError(f"{_kind(name)}, not a file: {pattern!r}", where=where, fix="name files, or write a glob")
        matches = [name] if os.path.isfile(name) else [path for path in _expand(name) if os.path.isfile(path)]
        if not matches:
            raise UserError(
                f"no file matches {pattern!r}",
                where=where,
                fix="correct `paths`, or bring the files (docs/how-to/real-corpora.md says where from)",
            )
        found.update(matches)
    once: dict[str, str] = {}
    for path in sorted(found):
        once.setdefault(os.path.realpath(path), path)
    return [Path(path) for path in once.values()]


def _expand(pattern: str) -> Iterator[str]:
    """What a glob matches. ``**`` enters each folder once: by links that form a loop the standard library walks for ever."""
    recursive = _RECURSIVE.fullmatch(pattern)
    if not recursive:
        yield from iglob(pattern)
        return
    before, after = recursive.groups()
    for root in iglob(before) if before else [os.curdir]:
        seen: set[str] = set()
        for folder, below, _ in os.walk(root, followlinks=True):
            below[:] = sorted(name for name in below if not name.startswith("."))
            if (real := os.path.realpath(folder)) in seen:
                below.clear()
                continue
            seen.add(real)
            inner = folder if before else folder.removeprefix(os.curdir).removeprefix(os.sep)
            yield from _expand(os.path.join(escape(inner), after or "*"))


def _kind(path: str) -> str:
    if os.path.isdir(path):
        return "a folder"
    return "a pipe or device" if os.path.exists(path) else "a broken link"


def contents(paths: Sequence[Path]) -> list[str]:
    """Hex XXH3-128 of the bytes of each file. Large files are read once: ``CONTENTS`` remembers them.

    What is remembered counts only while a file's inode, size and times are the same, and had settled when it was read.

    Raises:
        UserError: a file cannot be read.
    """
    try:
        marks = {str(path.absolute()): _mark(path) for path in paths}
        if sum(size for size, *_ in marks.values()) <= _ALWAYS_READ_BYTES:
            return [xxh3(path) for path in paths]
        known = _remembered()
        left = [path for path, mark in marks.items() if known.get(path, [None])[0] != mark]
        if (unread := sum(marks[path][0] for path in left)) > _SLOW_BYTES:
            print(f"Reading {unread / 1e9:.1f} GB in {len(left)} files, once, to know their content", file=sys.stderr)
        now = time.time_ns()
        with ThreadPoolExecutor(4) as pool:
            fresh = {path: [marks[path], hashed] for path, hashed in zip(left, pool.map(xxh3, left), strict=True)}
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(error.filename)) from error
    if settled := {path: entry for path, entry in fresh.items() if now - max(entry[0][1:3]) > _SETTLED_NS}:
        with contextlib.suppress(OSError):  # it only saves time
            write_json(CONTENTS, _remembered() | settled)
    return [(known | fresh)[str(path.absolute())][1] for path in paths]


def _mark(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _remembered() -> dict[str, Any]:
    try:
        return read_json(CONTENTS)
    except (UserError, OSError):
        return {}


def sealed_json(value: Any) -> str:
    """``value`` as JSON that a person can read; an object ends in a checksum of all that stands before it."""
    if isinstance(value, Mapping):
        value = {key: one for key, one in value.items() if key != CHECKSUM}
        value[CHECKSUM] = _of_values(value)
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def sealed_line(value: Mapping[str, Any]) -> str:
    """``value`` as a line of a file that grows; it ends in a checksum of its own."""
    return json.dumps({**value, CHECKSUM: _of_values(value)}) + "\n"


def read_line(line: bytes, *, where: str, fix: str) -> dict[str, Any]:
    """What ``sealed_line`` wrote, or a UserError: its values are not those of its checksum."""
    try:
        value = json.loads(line)
        recorded = value.pop(CHECKSUM)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise UserError("not a line of ours: damaged or foreign", where=where, fix=fix) from None
    if recorded != _of_values(value):
        raise UserError("damaged or edited: its checksum is another", where=where, fix=fix)
    return value


def write_json(path: Path, value: Any) -> None:
    """Write ``sealed_json``; whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(sealed_json(value), encoding="utf-8")


def read_json(path: Path, *, fix: str = "make it again with the program that wrote it") -> dict[str, Any]:
    """A JSON object in a file, without its checksum.

    Args:
        fix: what to do where the file is not whole.

    Raises:
        UserError: the file is missing, cut short, something else, or its values are not those of its checksum.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        what = "file not found" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise UserError(what, where=str(path), fix=fix) from None
    except (ValueError, RecursionError) as error:  # not JSON, or not even text
        raise UserError(f"not valid JSON ({error}): truncated or foreign", where=str(path), fix=fix) from None
    if not isinstance(value, dict):
        raise UserError(f"must hold a JSON object, got {type(value).__name__}", where=str(path), fix=fix)
    recorded = value.pop(CHECKSUM, None)
    if recorded not in (None, _of_values(value)):
        edited = f"; where you edited it on purpose, delete its {CHECKSUM!r}"
        raise UserError("damaged or edited: its checksum is another", where=str(path), fix=fix + edited)
    return value


CHECKSUM = "checksum"  # the last key of a JSON object that we wrote


def _of_values(value: Mapping[str, Any]) -> str:
    """A hash of an object's values as they will be read: a tuple as a list, a number as a key as text."""
    plain = json.loads(json.dumps(value))
    return xxhash.xxh3_128_hexdigest(json.dumps(plain, separators=(",", ":")).encode())


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def xxh3(path: Path | str) -> str:
    """Hex XXH3-128 of a file's bytes: tells any change by accident, at the speed of the disk."""
    hasher = xxhash.xxh3_128()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def digest(value: Any, length: int = 10) -> str:
    """The first ``length`` hex digits of the SHA-256 of a JSON-able value: equal values, equal digests."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]
