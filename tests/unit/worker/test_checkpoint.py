"""Checkpoints are written atomically, and the newest readable one is loaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten

from tests.support.disks import small_disk
from worker import checkpoint, durable
from worker.checkpoint import CheckpointError, Progress


def trained(steps: int) -> tuple[nn.Module, optim.Optimizer]:
    """Return a layer of 4 KB and its optimizer after ``steps`` different steps."""
    mx.random.seed(0)
    model, optimizer = nn.Linear(32, 32), optim.AdamW(learning_rate=0.1)
    for step in range(steps):
        gradient = {"weight": mx.full((32, 32), step + 1.0), "bias": mx.zeros(32)}
        optimizer.update(model, gradient)
    mx.eval(model.parameters(), optimizer.state)
    return model, optimizer


def save(folder: Path, iteration: int) -> nn.Module:
    model, optimizer = trained(iteration)
    progress = replace(Progress.start(), iteration=iteration)
    checkpoint.save(folder, model, optimizer, progress)
    return model


def load(folder: Path) -> tuple[Progress | None, nn.Module]:
    model, optimizer = trained(0)
    found = checkpoint.load_newest(folder, model, optimizer)
    return found, model


def same(one: nn.Module, other: nn.Module) -> bool:
    return bool(mx.array_equal(one.weight, other.weight).item())


def test_a_checkpoint_restores_everything(tmp_path: Path) -> None:
    model, optimizer = trained(2)
    np.random.seed(3)
    mx.random.seed(5)
    key = checkpoint.random_key()
    saved = Progress(2, 4, 9, 1, epoch_state=[1], state=[], random_key=0)
    checkpoint.save(tmp_path, model, optimizer, saved)
    drawn = np.random.rand()
    restored, restored_optimizer = trained(0)
    assert checkpoint.load_newest(tmp_path, restored, restored_optimizer) == saved
    assert same(restored, model)
    expected = dict(tree_flatten(optimizer.state))
    for name, value in tree_flatten(restored_optimizer.state):
        assert mx.array_equal(value, expected[name]).item(), name
    assert checkpoint.random_key() == key
    np.random.set_state(saved.state)
    assert np.random.rand() == drawn


def test_without_checkpoints_nothing_is_loaded(tmp_path: Path) -> None:
    assert load(tmp_path)[0] is None


def test_the_last_two_checkpoints_and_all_adapter_files_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    model = save(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"000000{n}_adapters.safetensors" for n in (1, 2, 3)),
        "adapters.safetensors",
        *(f"checkpoint-000000{n}" for n in (2, 3)),
    ]
    assert same(load(tmp_path)[1], model)


def test_checkpoints_are_sorted_by_iteration(tmp_path: Path) -> None:
    save(tmp_path, 1)
    for name in ("checkpoint-9999999", "checkpoint-10000000"):
        (tmp_path / "checkpoint-0000001").rename(tmp_path / name)
        save(tmp_path, 1)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == [
        "checkpoint-9999999",
        "checkpoint-10000000",
    ]


FILES = ["adapters.safetensors", "optimizer.safetensors", "place.json", "SHA256SUMS"]


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def zero_the_end(path: Path) -> None:
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2] + bytes(size - size // 2))


def take_from_the_other(path: Path) -> None:
    shutil.copyfile(path.parent.parent / "checkpoint-0000001" / path.name, path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "zeros from the middle on": zero_the_end,
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b" "),
    "a flipped bit": flip_a_bit,
    "missing": Path.unlink,
    "the file of another checkpoint": take_from_the_other,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=[*DAMAGES])
def test_a_damaged_checkpoint_is_skipped(
    damage: Callable[[Path], object], name: str, tmp_path: Path
) -> None:
    before = save(tmp_path, 1)
    save(tmp_path, 2)
    damage(tmp_path / "checkpoint-0000002" / name)
    found, model = load(tmp_path)
    assert found is not None
    assert found.iteration == 1
    assert same(model, before)


def test_a_damaged_checkpoint_does_not_take_the_place_of_a_good_one(tmp_path: Path) -> None:
    save(tmp_path, 1)
    before = save(tmp_path, 2)
    for iteration in (3, 4):
        save(tmp_path, iteration)
        flip_a_bit(tmp_path / f"checkpoint-000000{iteration}" / "adapters.safetensors")
        found, model = load(tmp_path)
        assert found is not None
        assert found.iteration == 2
        assert same(model, before)
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["checkpoint-0000002"]


def test_checkpoints_are_kept_if_none_can_be_read(tmp_path: Path) -> None:
    for iteration in (1, 2):
        save(tmp_path, iteration)
        (tmp_path / f"checkpoint-000000{iteration}" / "place.json").unlink()
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints"):
        load(tmp_path)
    assert len(checkpoint.checkpoints(tmp_path)) == 2


def test_a_bug_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)
    monkeypatch.setattr(Progress, "__init__", lambda self: None)
    with pytest.raises(TypeError):
        load(tmp_path)


def test_everything_is_on_the_disk_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is flushed with its final content, and each rename with its folder's entries."""
    flushed: list[tuple[int, int]] = []
    renamed_to: list[tuple[Path, int]] = []
    rename = Path.replace

    def sync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        flushed.append((status.st_ino, status.st_size))

    def watched(source: Path, target: Path) -> Path:
        status = source.stat()
        assert (status.st_ino, status.st_size) in flushed, source
        renamed_to.append((target, len(flushed)))
        return rename(source, target)

    monkeypatch.setattr(durable, "sync", sync)
    for name in ("replace", "rename"):
        monkeypatch.setattr(Path, name, watched)
    model = save(tmp_path, 1)
    checkpoint.write_adapters(tmp_path, model)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {(path.stat().st_ino, path.stat().st_size) for path in written} <= {*flushed}
    assert [target.name for target, _ in renamed_to] == [
        "checkpoint-0000001",
        "0000001_adapters.safetensors",
        *("adapters.safetensors", "adapters.safetensors"),
    ]
    folder = tmp_path.stat().st_ino
    for _, count in renamed_to:
        assert folder in [inode for inode, _ in flushed[count:]]


def test_no_readable_checkpoint_is_an_error(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "checkpoint-0000001" / "place.json").unlink()
    with pytest.raises(CheckpointError, match=r"none of the 1 checkpoints in .* can be read"):
        load(tmp_path)


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=64k") as disk:
        save(disk, 1)
        (disk / "filler").write_bytes(bytes(8 * 2**10))
        with pytest.raises(
            CheckpointError, match=r"cannot write a checkpoint to .* \(\d+ bytes free\)"
        ):
            save(disk, 2)
        assert not any(disk.glob(".checkpoint*"))
        found, _ = load(disk)
        assert found is not None
        assert found.iteration == 1
