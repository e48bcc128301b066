"""Checkpoints of a training: adapters, optimizer, random states, and the place in the data."""

from __future__ import annotations

import json
import os
import shutil
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from worker.protocol.messages import CHECKPOINT_PREFIX

_KEPT = 2
"""The last, and the one before it: a disk that goes down may lose what it said that it had."""

_ADAPTERS = "adapters.safetensors"
_COPY = ".adapters.safetensors"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, or none that is there can be read."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a training is: ``iteration`` batches were trained on, ``samples`` sequences.

    ``longest`` has the tokens of the longest of these.
    ``epoch_state`` is numpy's random state before the present pass over the data was shuffled, of
    which ``drawn`` batches were taken, and ``state`` the present one; ``random_key`` is MLX's.
    """

    iteration: int
    samples: int
    longest: int
    drawn: int
    epoch_state: list[Any]
    state: list[Any]
    random_key: int


def numpy_state() -> list[Any]:
    """Numpy's global random state, as JSON can hold it."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return [name, [int(key) for key in keys], position, has_gauss, gauss]


def set_numpy_state(state: list[Any]) -> None:
    """Set what `numpy_state` returned."""
    name, keys, *rest = state
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))


def save(folder: Path, model: nn.Module, optimizer: optim.Optimizer, place: Place) -> None:
    """Write a checkpoint into ``folder``: all of it or, should this process die, nothing.

    Raises:
        CheckpointError: when the disk is full, or the folder cannot be written to any more.
    """
    target = folder / f"{CHECKPOINT_PREFIX}{place.iteration:07d}"
    unfinished = folder / f".{target.name}"
    try:
        _write(target, unfinished, model, optimizer, place)
    except (OSError, RuntimeError) as error:  # MLX's own is the latter, and names no cause
        shutil.rmtree(unfinished, ignore_errors=True)
        (folder / _COPY).unlink(missing_ok=True)
        raise CheckpointError(
            f"a checkpoint cannot be written to {folder}, where {_free(folder)} bytes are free: "
            f"{error}"
        ) from error
    for old in _checkpoints(folder)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _write(
    target: Path, unfinished: Path, model: nn.Module, optimizer: optim.Optimizer, place: Place
) -> None:
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    adapters = dict(tree_flatten(model.trainable_parameters()))
    mx.save_safetensors(str(unfinished / "adapters.safetensors"), adapters)
    optimized = dict(tree_flatten(optimizer.state))
    mx.save_safetensors(str(unfinished / "optimizer.safetensors"), optimized)
    (unfinished / "place.json").write_text(json.dumps(asdict(place)))
    for file in unfinished.iterdir():
        sync(file)
    sync(unfinished)
    shutil.rmtree(target, ignore_errors=True)  # one that a killed worker had written, too
    unfinished.rename(target)
    sync(target.parent)
    # As mlx_lm.lora leaves them behind after so many iterations: what is stopped can be used.
    for name in (f"{place.iteration:07d}_{_ADAPTERS}", _ADAPTERS):
        copy = target.parent / _COPY
        shutil.copyfile(target / _ADAPTERS, copy)
        copy.replace(target.parent / name)


def write_adapters(folder: Path, model: nn.Module) -> None:
    """Write the adapters as mlx-lm loads them, on the disk itself when this returns."""
    aside = folder / _COPY
    mx.save_safetensors(str(aside), dict(tree_flatten(model.trainable_parameters())))
    sync(aside)
    aside.replace(folder / _ADAPTERS)
    sync(folder)


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def load_newest(folder: Path, model: nn.Module, optimizer: optim.Optimizer) -> Place | None:
    """Put model and optimizer where the newest checkpoint that can be read has them.

    MLX's random state too; numpy's follows the place in the data. ``None`` where there is none.

    Raises:
        CheckpointError: when there are some, and none can be read.
    """
    there = list(reversed(_checkpoints(folder)))
    for checkpoint in there:
        try:
            return _load(checkpoint, model, optimizer)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError):
            traceback.print_exc()  # the log says what is wrong with it; the one before may do
    if there:
        raise CheckpointError(
            f"none of the {len(there)} checkpoints in {folder} can be read; the log says why"
        )
    return None


def _load(checkpoint: Path, model: nn.Module, optimizer: optim.Optimizer) -> Place:
    model.load_weights(str(checkpoint / "adapters.safetensors"), strict=False)
    arrays = mx.load(str(checkpoint / "optimizer.safetensors"))
    assert isinstance(arrays, dict)
    optimizer.init(model.trainable_parameters())
    optimizer.state = tree_unflatten(list(arrays.items()))
    place: dict[str, Any] = json.loads((checkpoint / "place.json").read_bytes())
    found = Place(**place)
    mx.random.seed(found.random_key)
    return found


def random_key() -> int:
    """MLX's global random key as the seed that sets it: a key's two words are those of its seed."""
    state: Any = mx.random.state
    high, low = state[0].tolist()
    return (int(high) << 32) | int(low)


def _checkpoints(folder: Path) -> list[Path]:
    """Those in the folder, the oldest first."""
    found = (path for path in folder.glob(f"{CHECKPOINT_PREFIX}*") if _number(path).isdecimal())
    return sorted(found, key=lambda path: int(_number(path)))


def _number(path: Path) -> str:
    return path.name.removeprefix(CHECKPOINT_PREFIX)


def sync(path: Path) -> None:
    """Have a file's content, or the names in a folder, on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
