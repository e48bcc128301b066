"""Files that are whole or not there at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import orjson

from your_ai.errors import UsageError


def check_writable(path: Path) -> None:
    """Raise UsageError unless `write_atomically` could write ``path`` now; leaves nothing behind.

    Asked before the first trial, because a result that cannot be kept is hours lost.
    """
    try:
        target = _target(path)
        if target.is_dir():
            raise UsageError(f"Cannot write {path}: it is a folder; name a file.")
        if _is_special(target):
            target.open("ab").close()
        else:
            tempfile.TemporaryFile(dir=target.parent).close()
            with contextlib.suppress(FileNotFoundError):
                target.stat()  # refuses a name that is too long
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"Cannot write {path}: {reason}; choose another file.") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: a reader, or a crash, sees the old file or the new one.

    A device or pipe (``/dev/stdout``) is written to, never replaced, and neither is a symbolic
    link: what it points to is.

    Raises:
        OSError: when the disk is full or the folder gone; ``path`` is then as it was.
    """
    path = _target(path)
    if _is_special(path):
        path.write_bytes(content)
        return
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".your_ai.")
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


def json_document(content: dict[str, Any]) -> bytes:
    """``content`` as JSON for people too; a path that is not UTF-8 must not cost the rest of it."""
    return orjson.dumps(_encodable(content), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _encodable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _target(path: Path) -> Path:
    # Not Path.resolve, which raises where links go in a circle; and what a pipe's link in /dev
    # says is no path.
    return path if _is_special(path) else Path(os.path.realpath(path))


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()
