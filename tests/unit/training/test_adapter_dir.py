"""Whose a folder of adapters is."""

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


def test_a_new_folder_is_made_and_goes_if_nothing_came_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "adapters"
    with claimed(folder, "mine") as is_ours:
        assert folder.is_dir()
        assert not is_ours
    assert not folder.exists()


def test_who_wrote_the_configuration_owns_it(tmp_path: Path) -> None:
    describe(tmp_path, "mine")
    (tmp_path / "adapters.safetensors").touch()
    assert claim(tmp_path, "mine")


@pytest.mark.parametrize("name", ["adapters.safetensors", "checkpoint-0000005"])
def test_anothers_adapters_are_left_alone(name: str, tmp_path: Path) -> None:
    describe(tmp_path, "theirs")
    assert not claim(tmp_path, "mine")  # nothing is lost: theirs never came to a checkpoint
    (tmp_path / name).touch()
    with pytest.raises(
        UsageError, match="already contains adapters from another training; choose a different"
    ):
        claim(tmp_path, "mine")


def test_where_one_is_writing_no_other_does(tmp_path: Path) -> None:
    folder = tmp_path / "adapters"
    with claimed(folder, "mine"):
        for _ in range(2):  # who was refused has not taken away what the first one holds
            with pytest.raises(UsageError, match="Another training is writing"):
                claim(folder, "theirs")
        assert folder.is_dir()
    assert not claim(folder, "mine")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UsageError, match=r"Cannot write adapters to .*: File exists; choose a different"
    ):
        claim(tmp_path / "file", "mine")


def test_checkpoints_go_and_the_rest_stays(tmp_path: Path) -> None:
    for name in ("checkpoint-0000005", "checkpoint-0000010", "0000005_adapters.safetensors"):
        (tmp_path / name).mkdir()
    discard_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["0000005_adapters.safetensors"]
