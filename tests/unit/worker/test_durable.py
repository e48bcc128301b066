"""Files and folders are flushed to the disk itself, on macOS with F_FULLFSYNC."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from worker import durable
from your_ai import files
from your_ai.runs.journal import Journal

F_FULLFSYNC = 51
"""From <sys/fcntl.h> of macOS."""


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Stand in for macOS; return the calls that flush, each with the inode of its file."""
    calls: list[tuple[str, int]] = []

    def control(descriptor: int, command: int) -> None:
        assert command == F_FULLFSYNC
        calls.append(("full", os.fstat(descriptor).st_ino))

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", F_FULLFSYNC, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.setattr(os, "fsync", lambda it: calls.append(("plain", os.fstat(it).st_ino)))
    return calls


def append(folder: Path) -> Path:
    with Journal.open(folder) as journal:
        journal.append("began", {})
    return folder / "journal.jsonl"


def write(folder: Path) -> Path:
    files.write_atomically(folder / "results.json", b"{}")
    return folder / "results.json"


def copy(folder: Path) -> Path:
    (folder / "copy").write_bytes(b"adapters")
    durable.replace(folder / "copy", folder / "adapters")
    return folder / "adapters"


@pytest.mark.parametrize("written", [append, write, copy])
def test_on_macos_every_durable_write_empties_the_disks_cache(
    written: Callable[[Path], Path], tmp_path: Path, flushed: list[tuple[str, int]]
) -> None:
    path = written(tmp_path)
    wanted = {("full", path.stat().st_ino), ("full", tmp_path.stat().st_ino)}
    assert {*flushed} == wanted


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.EINVAL, errno.ENOTTY, errno.EIO])
def test_only_a_file_system_without_f_fullfsync_gets_fsync(
    number: int,
    tmp_path: Path,
    flushed: list[tuple[str, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After EIO, fsync may succeed although data was lost."""

    def refuse(descriptor: int, command: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output"):
            durable.sync_folder(tmp_path)
        assert flushed == []
    else:
        durable.sync_folder(tmp_path)
        assert flushed == [("plain", tmp_path.stat().st_ino)]


@pytest.mark.parametrize(("number", "raises"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_only_a_folder_that_cannot_be_flushed_is_accepted(
    number: int, raises: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(durable, "sync", fail)
    if raises:
        with pytest.raises(OSError, match="Input/output"):
            durable.sync_folder(tmp_path)
    else:
        durable.sync_folder(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Input/output|Invalid argument"):
        durable.sync_file(tmp_path / "file")


def test_a_new_folder_and_its_parents_are_flushed_and_removed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(durable, "sync_folder", flushed.append)
    created = durable.make_folder(tmp_path / "a" / "b" / "c", mode=0o700)
    assert created == [tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"]
    assert flushed == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert created[-1].stat().st_mode & 0o777 == 0o700
    assert durable.make_folder(created[-1]) == []  # it exists
    (tmp_path / "a" / "kept").touch()
    durable.remove_empty(created)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept"]


def test_a_folder_that_cannot_be_created_leaves_no_parents(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        durable.make_folder(tmp_path / "a" / "b" / ("x" * 300))
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        durable.make_folder(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        durable.make_folder(tmp_path / "file" / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
