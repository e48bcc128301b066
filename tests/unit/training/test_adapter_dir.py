"""To which training a folder of adapters belongs."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from your_ai.errors import UsageError
from your_ai.runs import journal
from your_ai.runs.journal import Journal
from your_ai.training.adapter_dir import OWNER, claimed, discard_checkpoints


def describe(folder: Path, owner: str) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"num_layers": 4, OWNER: owner}))


def claim(folder: Path, owner: str) -> bool:
    with claimed(folder, owner) as is_ours:
        return is_ours


def test_a_new_folder_is_created_and_removed_if_empty(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "adapters"
    with claimed(folder, "mine") as is_ours:
        assert folder.is_dir()
        assert not is_ours
    assert not folder.exists()


def test_a_folder_of_the_user_is_kept(tmp_path: Path) -> None:
    (tmp_path / "adapters").mkdir()
    assert not claim(tmp_path / "adapters", "mine")
    assert [*tmp_path.iterdir()] == [tmp_path / "adapters"]
    assert not any((tmp_path / "adapters").iterdir())  # no lock is left


def test_a_refusal_leaves_no_parents(tmp_path: Path) -> None:
    assert not claim(tmp_path / "new" / "adapters", "mine")
    assert [*tmp_path.iterdir()] == []


def test_the_lock_left_by_a_killed_training_does_not_count(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from typing import BinaryIO
from your_ai.training.adapter_dir import claimed
with claimed(Path(sys.argv[1]), "theirs"):
    os._exit(0)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert [path.name for path in tmp_path.iterdir()] == [".your_ai.lock"]
    assert not claim(tmp_path, "mine")
    assert [*tmp_path.iterdir()] == []


def test_a_folder_can_be_locked_on_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS locks byte ranges instead: an exclusive lock needs a file open for writing (flock(2))."""
    lock = fcntl.flock

    def lock_on_nfs(file: int | BinaryIO, operation: int) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        access = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        if operation & fcntl.LOCK_EX and (access == os.O_RDONLY or not is_file):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lock_on_nfs)
    with claimed(tmp_path / "adapters", "mine"), pytest.raises(UsageError, match="Another"):
        claim(tmp_path / "adapters", "theirs")
    with Journal.open(tmp_path):
        assert journal.is_open(tmp_path / journal.JOURNAL)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"your_ai_training": 5}', b"\xff", b"[" * 100_000]
)
def test_a_folder_with_another_configuration_belongs_to_nobody(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_bytes(content)
    assert not claim(tmp_path, "mine")


def test_a_folder_belongs_to_the_training_in_its_configuration(tmp_path: Path) -> None:
    describe(tmp_path, "mine")
    (tmp_path / "adapters.safetensors").touch()
    assert claim(tmp_path, "mine")


def test_a_configuration_can_contain_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    config = {"data": os.fsdecode(b"/data/caf\xe9"), OWNER: "mine"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))  # as the worker writes it
    (tmp_path / "adapters.safetensors").touch()
    assert claim(tmp_path, "mine")


@pytest.mark.parametrize("name", ["adapters.safetensors", "checkpoint-0000005"])
def test_adapters_of_another_training_are_refused(name: str, tmp_path: Path) -> None:
    describe(tmp_path, "theirs")
    assert not claim(tmp_path, "mine")  # the folder has only a configuration so far
    (tmp_path / name).touch()
    with pytest.raises(
        UsageError, match="already contains adapters from another training; choose a different"
    ):
        claim(tmp_path, "mine")


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "adapters"
    with claimed(folder, "mine"):
        for _ in range(2):  # a refusal does not release the lock
            with pytest.raises(UsageError, match="Another training is writing"):
                claim(folder, "theirs")
        assert folder.is_dir()
    assert not claim(folder, "mine")


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UsageError, match=r"Cannot write adapters to .*: File exists; choose a different"
    ):
        claim(tmp_path / "file", "mine")


def test_only_checkpoints_are_discarded(tmp_path: Path) -> None:
    for name in ("checkpoint-0000005", "checkpoint-0000010", "0000005_adapters.safetensors"):
        (tmp_path / name).mkdir()
    discard_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["0000005_adapters.safetensors"]
