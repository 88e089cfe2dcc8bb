"""Archives: read in place, refused when damaged, fetched by hash."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from acodm_core.data.sources import archives
from acodm_core.data.sources.specs import Archive
from acodm_core.errors import UserError
from acodm_core.files import sha256

FILES = {"pkg/data/a.txt": "alpha", "pkg/data/sub/b.txt": "beta", "pkg/code.py": "x = 1"}


@pytest.fixture(params=["pkg-1-py3-none-any.whl", "pkg-1.tar.gz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    if path.suffix == ".whl":
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in FILES.items():
                archive.writestr(name, text)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name, text in FILES.items():
                info = tarfile.TarInfo(name)
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
    return path


def pinned(path: Path, digest: str | None = None) -> Archive:
    return Archive(package="pkg", version="1", filename=path.name, sha256=digest or sha256(path))


def texts(path: Path, *patterns: str, exclude: tuple[str, ...] = ()) -> dict[str, str]:
    return {member.name: member.text() for member in archives.members(path, patterns, exclude)}


def test_members_are_found_by_pattern_in_the_archives_order(path: Path) -> None:
    assert texts(path, "*/data/*.txt") == {"pkg/data/a.txt": "alpha", "pkg/data/sub/b.txt": "beta"}
    assert list(texts(path, "*", exclude=("*.txt",))) == ["pkg/code.py"]


def test_pattern_that_matches_nothing_is_an_error(path: Path) -> None:
    with pytest.raises(UserError, match="no member matches"):
        texts(path, "*/data/*.txt", "*.xml")


def test_truncated_archive_is_an_error(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(UserError, match="damaged archive"):
        texts(path, "*")


def test_check_names_domain_file_and_both_hashes(path: Path) -> None:
    archive = pinned(path)
    assert archives.check(archive, path.parent) == path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError) as error:
        archives.check(archive, path.parent, needed_by=["books"])
    for piece in ("books", path.name, archive.sha256, sha256(path), "drop 'books' from `corpus.domains`"):
        assert piece in str(error.value)


def test_missing_archive_says_how_to_get_it(path: Path) -> None:
    archive = pinned(path)
    path.unlink()
    with pytest.raises(UserError, match="acodm data build"):
        archives.check(archive, path.parent, needed_by=["books"])


def fake_pip(
    monkeypatch: pytest.MonkeyPatch, *, gives: Path | None = None, says: str = "", fails: int = 0
) -> list[list[str]]:
    """Replace pip: fail ``fails`` times with ``says``, then put a copy of ``gives`` where it was told to."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        if len(calls) <= fails:
            return subprocess.CompletedProcess(command, 1, "", says)
        Path(command[command.index("--dest") + 1], gives.name).write_bytes(gives.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(archives.subprocess, "run", run)
    monkeypatch.setattr(archives, "_RETRY_SECONDS", 0)
    return calls


def test_fetch_downloads_once(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_pip(monkeypatch, gives=path)
    folder = tmp_path / "archives"
    assert archives.fetch(pinned(path), folder).read_bytes() == path.read_bytes()
    assert archives.fetch(pinned(path), folder) == folder / path.name
    assert len(calls) == 1 and "--require-hashes" in calls[0]
    assert [p.name for p in folder.iterdir()] == [path.name]


def test_fetch_tries_twice_then_explains(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_pip(monkeypatch, gives=path, says="ERROR: no route to host", fails=1)
    archives.fetch(pinned(path), tmp_path / "archives")
    assert len(calls) == 2
    fake_pip(monkeypatch, says="ERROR: no route to host", fails=2)
    with pytest.raises(UserError, match="no route to host") as error:
        archives.fetch(pinned(path), tmp_path / "elsewhere", needed_by=["books"])
    assert "drop 'books'" in str(error.value)


def test_fetch_refuses_another_file_and_leaves_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pip(monkeypatch, gives=path)
    with pytest.raises(UserError, match="not the pinned file"):
        archives.fetch(pinned(path, "0" * 64), tmp_path / "archives")
    assert list((tmp_path / "archives").iterdir()) == []


def test_fetch_reads_the_hash_that_pip_found(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_pip(monkeypatch, says=f"Expected sha256 {'0' * 64}\n   Got        {'a' * 64}", fails=2)
    with pytest.raises(UserError, match="a" * 64):
        archives.fetch(pinned(path, "0" * 64), tmp_path / "archives")
    assert len(calls) == 1, "a wrong hash is not a network failure"


def test_wheel_for_one_python_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "pkg-1-cp311-none-any.whl"
    wheel.write_bytes(b"x")
    calls = fake_pip(monkeypatch, gives=wheel)
    archives.fetch(pinned(wheel), tmp_path / "archives")
    assert calls[0][calls[0].index("--python-version") + 1] == "3.11"
