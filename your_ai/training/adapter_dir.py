"""The folder that a training writes its adapters to, which is its own while it lasts."""

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
_CONFIG = "adapter_config.json"
OWNER = "your_ai_training"
"""A key of the configuration that mlx-lm reads over: which training the folder belongs to."""


@contextlib.contextmanager
def claimed(folder: Path, owner: str) -> Iterator[bool]:
    """Hold the folder, made where there is none; whether it is this owner's already.

    Raises:
        UsageError: when it cannot be had: another training is writing to it, has left adapters or
            checkpoints there, or it cannot be made.
    """
    descriptor = _locked(folder)  # gone with this process
    try:
        is_ours = _owner(folder) == owner
        if not is_ours:
            check_free(folder)
        if not os.access(folder, os.W_OK):
            raise UsageError(f"Cannot write adapters to {folder}: permission denied.")
        yield is_ours
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # if nothing came of it, and it is empty
        os.close(descriptor)


def _locked(folder: Path) -> int:
    """The folder's descriptor, with a lock on what still goes by that name."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(
                f"Cannot write adapters to {folder}: {error.strerror}; name another --adapter-path."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        except FileNotFoundError:
            pass  # who held it has just removed it, empty
        except OSError as error:
            os.close(descriptor)
            busy = isinstance(error, BlockingIOError)
            problem = (
                f"Another training is writing to {folder}"
                if busy
                else f"Cannot lock {folder}: {error.strerror}"
            )
            raise UsageError(f"{problem}; name another --adapter-path.") from error
        os.close(descriptor)


def check_free(folder: Path) -> None:
    """Raise UsageError where somebody's adapters or checkpoints are already."""
    if any(folder.glob("*.safetensors")) or any(_checkpoints(folder)):
        raise UsageError(f"{folder} holds other adapters already; name another --adapter-path.")


def discard_checkpoints(folder: Path) -> None:
    """Nothing is left to go on with: what is wanted of them is in the adapters."""
    for checkpoint in _checkpoints(folder):
        shutil.rmtree(checkpoint, ignore_errors=True)


def _checkpoints(folder: Path) -> Iterator[Path]:
    return folder.glob(f"{CHECKPOINT_PREFIX}*")


def _owner(folder: Path) -> str | None:
    try:
        owner = json.loads((folder / _CONFIG).read_bytes())[OWNER]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(owner)
