"""To which training a folder of adapters belongs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from your_ai.errors import UsageError
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


def test_a_folder_belongs_to_the_training_in_its_configuration(tmp_path: Path) -> None:
    describe(tmp_path, "mine")
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
