"""Files that are whole or not there at all."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import orjson

from your_ai.errors import MachineError, UsageError


def check_writable(path: Path) -> None:
    """Raise UsageError unless `write_atomically` could write ``path`` now; leaves nothing behind.

    Asked before the first trial, because a result that cannot be kept is hours lost.
    """
    try:
        target = _target(path)
        if target.is_dir():
            raise UsageError(f"Cannot write {path}: it is a folder; name a file.")
        if is_special(target):
            target.open("ab").close()
        else:
            tempfile.TemporaryFile(dir=target.parent).close()
            with contextlib.suppress(FileNotFoundError):
                target.stat()  # refuses a name that is too long
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"Cannot write {path}: {reason}; choose another file.") from error


def refuse_to_replace(target: Path, *sources: Path) -> None:
    """Raise UsageError if ``target`` is the same file as one of ``sources``.

    Missing sources are ignored.
    """
    for source in sources:
        try:
            is_same = source.samefile(target)
        except OSError:  # one of them is not there
            continue
        if is_same:
            raise UsageError(f"{target} is also the input file; choose a different output file.")


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: a reader, or a crash, sees the old file or the new one.

    A device or pipe (``/dev/stdout``) is written to, never replaced, and neither is a symbolic
    link: what it points to is.

    Raises:
        OSError: when the disk is full or the folder gone; ``path`` is then as it was.
    """
    path = _target(path)
    if is_special(path):
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


def write_or_fail(path: Path, content: bytes) -> None:
    """`write_atomically`; raises MachineError if that fails."""
    try:
        write_atomically(path, content)
    except OSError as error:
        raise MachineError(f"Cannot write {path}: {error.strerror}.") from error


def to_json(content: Any) -> bytes:
    """``content`` (dataclasses included) as indented JSON; invalid UTF-8 in it is replaced."""
    option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    try:
        return orjson.dumps(content, option=option)
    except orjson.JSONEncodeError:  # a path that is not UTF-8
        return orjson.dumps(_encodable(content), option=option)


def _encodable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _target(path: Path) -> Path:
    # Not Path.resolve, which raises where links go in a circle; and what a pipe's link in /dev
    # says is no path.
    return path if is_special(path) else Path(os.path.realpath(path))


def is_special(path: Path) -> bool:
    """Whether it is a device, a pipe or a folder: there, and no file to be replaced."""
    return path.exists() and not path.is_file()
