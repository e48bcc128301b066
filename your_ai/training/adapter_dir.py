"""The folder for a training's adapters, to which no other training may write."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from worker import durable
from worker.protocol.requests import CHECKPOINT_PREFIX
from your_ai.errors import UsageError
from your_ai.files import is_at

ADAPTERS = "adapters.safetensors"
OWNER = "your_ai_training"
"""Key in ``adapter_config.json`` for the id of the training; mlx-lm ignores it."""
_CONFIG = "adapter_config.json"
_LOCK = ".your_ai.lock"
_CHOOSE = "choose a different --adapter-path"


@dataclass(frozen=True)
class _Config:
    """The part of ``adapter_config.json`` that is read here."""

    your_ai_training: str


@contextlib.contextmanager
def claimed(folder: Path, owner: str) -> Iterator[bool]:
    """Create the folder if missing, and lock it; yield whether it already belongs to ``owner``.

    A folder that was created here is removed again if it is still empty at the end.

    Raises:
        UsageError: if another training is writing to the folder or has left adapters or checkpoints
            in it, or if it cannot be created or written.
    """
    with _locked(folder):
        is_owned = _owner(folder) == owner
        if not is_owned:
            check_free(folder)
        yield is_owned


def check_free(folder: Path) -> None:
    """Raise UsageError if the folder contains adapters or checkpoints."""
    if any(folder.glob("*.safetensors")) or any(_checkpoints(folder)):
        raise UsageError(f"{folder} already contains adapters from another training; {_CHOOSE}.")


def discard_checkpoints(folder: Path) -> None:
    """Delete all checkpoints. Called when the final adapters have been written."""
    for checkpoint in _checkpoints(folder):
        shutil.rmtree(checkpoint, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder, which exists meanwhile."""
    lock = folder / _LOCK
    created: list[Path] = []
    try:
        descriptor = _lock(lock, created)
    except BlockingIOError as error:
        raise UsageError(f"Another training is writing to {folder}; {_CHOOSE}.") from error
    except OSError as error:
        durable.remove_empty(created)
        problem = f"Cannot write adapters to {folder}: {error.strerror}"
        raise UsageError(f"{problem}; {_CHOOSE}.") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink()
        os.close(descriptor)
        durable.remove_empty(created)


def _lock(path: Path, created: list[Path]) -> int:
    """Return a descriptor that holds the lock on ``path``; add the folders that were created.

    It is a file, and open for writing, because NFS locks nothing else (flock(2)).
    """
    while True:
        created += durable.make_folder(path.parent)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            if path.parent.is_dir():
                raise
            continue  # the training that held the lock before has just removed the folder
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(path, descriptor):  # it may just have removed the file, too
                undo.pop_all()
                return descriptor


def _checkpoints(folder: Path) -> Iterator[Path]:
    return folder.glob(f"{CHECKPOINT_PREFIX}*")


def _owner(folder: Path) -> str | None:
    try:
        # Not orjson, which rejects paths that are not UTF-8.
        config = json.loads((folder / _CONFIG).read_bytes())
        return msgspec.convert(config, _Config).your_ai_training
    except (OSError, ValueError, RecursionError, msgspec.ValidationError):
        return None
