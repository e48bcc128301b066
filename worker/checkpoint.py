"""Checkpoints of a training: adapters, optimizer state, random states and progress.

A checkpoint also has the digests of its files, so that one that a power cut or a failing disk has
damaged is noticed, and the one before it is used.
"""

from __future__ import annotations

import hashlib
import json
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

from worker import durable
from worker.protocol.requests import CHECKPOINT_PREFIX

_KEPT = 2
"""Number of checkpoints to keep: the newest may be damaged."""

ADAPTERS = "adapters.safetensors"
_OPTIMIZER = "optimizer.safetensors"
_PROGRESS = "place.json"
_DIGESTS = "SHA256SUMS"
"""The digests of the other files, in the format of sha256sum(1)."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or is damaged, or none of those present can be read."""


@dataclass(slots=True)
class Progress:
    """How far a training has got: ``iteration`` batches and ``samples`` sequences trained on.

    ``longest`` is the length in tokens of the longest sequence. ``epoch_state`` is numpy's random
    state before the current epoch was shuffled; ``drawn`` counts the batches taken from this epoch.
    ``state`` and ``random_key`` are numpy's and MLX's random states at the last checkpoint.
    """

    iteration: int
    samples: int
    longest: int
    drawn: int
    epoch_state: Any
    state: Any
    random_key: int

    @classmethod
    def start(cls) -> Progress:
        """Return the progress of a new training."""
        state = numpy_state()
        return cls(0, 0, 0, 0, state, state, random_key())


def numpy_state() -> list[Any]:
    """Return numpy's global random state as JSON values."""
    state: Any = np.random.get_state(legacy=True)
    name, keys, *rest = state
    return [name, keys.tolist(), *rest]


def random_key() -> int:
    """Return the seed that restores MLX's random key, which is the seed's two 32-bit halves."""
    state: Any = mx.random.state
    high, low = state[0].tolist()
    return (int(high) << 32) | int(low)


def save(folder: Path, model: nn.Module, optimizer: optim.Optimizer, progress: Progress) -> None:
    """Write a checkpoint atomically, update the adapters in ``folder``, delete old checkpoints.

    Updates the random states in ``progress``. Raises CheckpointError if a file cannot be written.
    """
    progress.state, progress.random_key = numpy_state(), random_key()
    target = folder / f"{CHECKPOINT_PREFIX}{progress.iteration:07d}"
    unfinished = folder / f".{target.name}"
    copy = folder / f".{ADAPTERS}"
    try:
        _write(unfinished, model, optimizer, progress)
        shutil.rmtree(target, ignore_errors=True)  # may exist if an earlier worker was killed
        unfinished.rename(target)
        durable.sync_folder(folder)
        # mlx_lm.lora writes the same two files, so the adapters are usable if training stops here.
        for name in (f"{progress.iteration:07d}_{ADAPTERS}", ADAPTERS):
            shutil.copyfile(target / ADAPTERS, copy)
            durable.replace(copy, folder / name)
    except (OSError, RuntimeError) as error:  # MLX reports a failed write as RuntimeError
        shutil.rmtree(unfinished, ignore_errors=True)
        copy.unlink(missing_ok=True)
        problem = f"cannot write a checkpoint to {folder} ({_free_bytes(folder)} bytes free)"
        raise CheckpointError(f"{problem}: {error}") from error
    for old in checkpoints(folder)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _write(folder: Path, model: nn.Module, optimizer: optim.Optimizer, progress: Progress) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _save_arrays(folder / ADAPTERS, model.trainable_parameters())
    _save_arrays(folder / _OPTIMIZER, optimizer.state)
    (folder / _PROGRESS).write_text(json.dumps(asdict(progress)))
    (folder / _DIGESTS).write_text(_digests(folder))
    for file in folder.iterdir():
        durable.sync_file(file)
    durable.sync_folder(folder)


def _digests(folder: Path) -> str:
    """Return the content of the file of digests.

    One core of an EPYC hashes 1.4 GB/s, more than most disks write.
    """
    lines = []
    for name in (ADAPTERS, _OPTIMIZER, _PROGRESS):
        with (folder / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return "".join(lines)


def _save_arrays(path: Path, tree: Any) -> None:
    mx.save_safetensors(str(path), dict(tree_flatten(tree)))


def write_adapters(folder: Path, model: nn.Module) -> None:
    """Write the adapters in mlx-lm's format, atomically, and flush them to the disk."""
    copy = folder / f".{ADAPTERS}"
    _save_arrays(copy, model.trainable_parameters())
    durable.replace(copy, folder / ADAPTERS)


def load_newest(folder: Path, model: nn.Module, optimizer: optim.Optimizer) -> Progress | None:
    """Restore model, optimizer and MLX's random state from the newest undamaged checkpoint.

    Returns its progress, or ``None`` if there are no checkpoints. Newer ones are deleted, so that
    they do not count among those to keep. Raises CheckpointError if none can be read.
    """
    found = checkpoints(folder)
    for position, checkpoint in reversed([*enumerate(found)]):
        try:
            progress = _load(checkpoint, model, optimizer)
        except (OSError, CheckpointError):
            traceback.print_exc()  # goes to the log; then try the previous checkpoint
            continue
        for damaged in found[position + 1 :]:
            shutil.rmtree(damaged, ignore_errors=True)
        return progress
    if not found:
        return None
    problem = f"none of the {len(found)} checkpoints in {folder} can be read"
    raise CheckpointError(f"{problem}; see the log, or start a new training")


def _load(checkpoint: Path, model: nn.Module, optimizer: optim.Optimizer) -> Progress:
    if _digests(checkpoint).encode() != (checkpoint / _DIGESTS).read_bytes():
        raise CheckpointError(f"{checkpoint} is damaged: its files do not match {_DIGESTS}")
    model.load_weights(str(checkpoint / ADAPTERS), strict=False)
    arrays = mx.load(str(checkpoint / _OPTIMIZER))
    assert isinstance(arrays, dict)
    optimizer.init(model.trainable_parameters())
    optimizer.state = tree_unflatten(list(arrays.items()))
    progress = Progress(**json.loads((checkpoint / _PROGRESS).read_bytes()))
    mx.random.seed(progress.random_key)
    return progress


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, oldest first."""
    found = folder.glob(f"{CHECKPOINT_PREFIX}*")
    numbered = (path for path in found if path.name.removeprefix(CHECKPOINT_PREFIX).isdecimal())
    return sorted(numbered, key=lambda path: (len(path.name), path.name))


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0
