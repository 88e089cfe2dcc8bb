"""Files that are whole or absent, and what a folder that takes no more writing is told as."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from acodm_core.errors import UserError
from acodm_core.files import atomic, clear_leftovers, writable


def full(path: Path) -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", str(path))


def test_a_full_disk_is_told_with_the_file_and_the_fix(tmp_path: Path) -> None:
    with pytest.raises(UserError) as told, writable(tmp_path, fix="make room"):
        raise full(tmp_path / "big.pt")
    assert str(told.value) == f"{tmp_path / 'big.pt'}: cannot be written: No space left on device\n  -> make room"


@pytest.mark.parametrize("explicit", [True, False])
def test_a_full_disk_is_seen_behind_a_librarys_own_error(explicit: bool, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No space left"), writable(tmp_path, fix=""):
        try:
            raise full(tmp_path)
        except OSError as error:
            if explicit:
                raise RuntimeError("stream writer failed") from error
            raise RuntimeError("stream writer failed")  # noqa: B904


@pytest.mark.parametrize("error", [RuntimeError("shape"), FileNotFoundError(2, "No such file"), KeyError("x")])
def test_other_errors_pass_as_they_are(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as seen, writable(tmp_path, fix=""):
        raise error
    assert seen.value is error


def test_leftovers_of_killed_writers_go_and_nothing_else(tmp_path: Path) -> None:
    for name in (".a.json.7.part", "deep/er/.b.pt.8.part", "a.json", "deep/c.part", ".d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    clear_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [".d", "a.json", "c.part"]


def test_an_atomic_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "value"
    with atomic(path) as temporary:
        temporary.write_text("first")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("second, not wh")
        raise RuntimeError
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]
