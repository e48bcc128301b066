"""Files that are whole or not there at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from your_ai.errors import UsageError


def check_writable(path: Path) -> None:
    """Raise UsageError unless `write_atomically` could write ``path`` now; leaves nothing behind.

    Asked before the first trial, because a result that cannot be kept is hours lost.
    """
    if path.is_dir():
        raise UsageError(f"Cannot write {path}: it is a folder; name a file.")
    try:
        if _is_special(path):
            path.open("ab").close()
        else:
            tempfile.TemporaryFile(dir=path.parent).close()  # noqa: SIM115 - closed at once
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"Cannot write {path}: {reason}; choose another file.") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: a reader, or a crash, sees the old file or the new one.

    A device or pipe (``/dev/stdout``) is written to, never replaced.

    Raises:
        OSError: when the disk is full or the folder gone; ``path`` is then as it was.
    """
    if _is_special(path):
        path.write_bytes(content)
        return
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp's files are the user's alone; results are as readable as any other file.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()
