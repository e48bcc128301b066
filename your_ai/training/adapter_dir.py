"""The folder for a training's adapters, to which no other training may write."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from worker.protocol.messages import CHECKPOINT_PREFIX
from your_ai.errors import UsageError

ADAPTERS = "adapters.safetensors"
OWNER = "your_ai_training"
"""Key in ``adapter_config.json`` for the id of the training; mlx-lm ignores it."""
_CONFIG = "adapter_config.json"
_CHOOSE = "choose a different --adapter-path"


@contextlib.contextmanager
def claimed(folder: Path, owner: str) -> Iterator[bool]:
    """Create the folder if missing, and lock it; yield whether it already belongs to ``owner``.

    Raises:
        UsageError: if another training is writing to the folder or has left adapters or checkpoints
            in it, or if it cannot be created or written.
    """
    descriptor = _lock(folder)
    try:
        is_owned = _owner(folder) == owner
        if not is_owned:
            check_free(folder)
        if not os.access(folder, os.W_OK):
            raise UsageError(f"Cannot write adapters to {folder}: permission denied; {_CHOOSE}.")
        yield is_owned
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only if it is empty
        os.close(descriptor)


def check_free(folder: Path) -> None:
    """Raise UsageError if the folder contains adapters or checkpoints."""
    if any(folder.glob("*.safetensors")) or any(_checkpoints(folder)):
        raise UsageError(f"{folder} already contains adapters from another training; {_CHOOSE}.")


def discard_checkpoints(folder: Path) -> None:
    """Delete all checkpoints. Called when the final adapters have been written."""
    for checkpoint in _checkpoints(folder):
        shutil.rmtree(checkpoint, ignore_errors=True)


def _lock(folder: Path) -> int:
    """Return a descriptor that holds a lock on the folder until it is closed."""
    while True:
        with contextlib.ExitStack() as undo:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
                undo.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"Another training is writing to {folder}; {_CHOOSE}.") from error
            except OSError as error:
                problem = f"Cannot write adapters to {folder}: {error.strerror}"
                raise UsageError(f"{problem}; {_CHOOSE}.") from error
            # The training that held the lock before may just have removed the folder.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), folder.stat()):
                    undo.pop_all()
                    return descriptor


def _checkpoints(folder: Path) -> Iterator[Path]:
    return folder.glob(f"{CHECKPOINT_PREFIX}*")


def _owner(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / _CONFIG).read_bytes())[OWNER])
    except (OSError, ValueError, KeyError, TypeError):
        return None
