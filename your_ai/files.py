"""Write files atomically, and check output paths."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import orjson

from worker import durable
from your_ai.errors import MachineError, UsageError


def check_writable(path: Path) -> None:
    """Raise UsageError if `write_atomically` could not write ``path``. Creates no file.

    Called before the first trial, so that a bad path is not found only after hours of trials.
    """
    try:
        target = _target(path)
        if target.is_dir():
            raise UsageError(f"Cannot write {path}: it is a folder. Choose a file.")
        if target.is_fifo() and not _is_open(target):
            raise UsageError(f"Cannot write {path}: it is a named pipe. Choose a file.")
        if is_special(target):
            target.open("ab").close()
        else:
            tempfile.TemporaryFile(dir=target.parent).close()
            with contextlib.suppress(FileNotFoundError):
                target.stat()  # raises if the name is too long
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError):
            reason = "its folder does not exist"
        raise UsageError(f"Cannot write {path}: {reason}. Choose another file.") from error


def refuse_to_replace(target: Path, *sources: Path) -> None:
    """Raise UsageError if ``target`` is the same file as one of ``sources``.

    Missing sources are ignored.
    """
    for source in sources:
        try:
            is_same = source.samefile(target)
        except OSError:  # one of them does not exist
            continue
        if is_same:
            raise UsageError(f"{target} is also the input file; choose a different output file.")


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that the file is never seen or left half-written.

    It is on the disk itself when this returns.

    A device or pipe (``/dev/stdout``) is written to directly. A symbolic link is kept and its
    target replaced.

    Raises:
        OSError: if the disk is full or the folder is missing; ``path`` is then unchanged. It has
            the new content if only its folder could not be flushed.
    """
    path = _target(path)
    if is_special(path):
        path.write_bytes(content)
        return
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".your_ai.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            # mkstemp makes files that only the user can read; apply the usual permissions instead.
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(descriptor, 0o666 & ~umask)
            file.flush()
            durable.sync(descriptor)  # not after closing: the umask may forbid to open the file
        durable.rename(Path(temporary), path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_or_fail(path: Path, content: bytes) -> None:
    """Call `write_atomically`; raise MachineError if it fails."""
    try:
        write_atomically(path, content)
    except OSError as error:
        raise MachineError(
            f"Cannot write {path}: {error.strerror}. Check its permissions and the free disk space."
        ) from error


def to_json(content: Any) -> bytes:
    """Serialize ``content``, including dataclasses, to indented JSON; replace invalid UTF-8."""
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
    # os.path, because Path.resolve raises if links form a cycle. The links to pipes in /dev
    # cannot be resolved to a path.
    return path if is_special(path) else Path(os.path.realpath(path))


def _is_open(path: Path) -> bool:
    """Return whether this process has the pipe at ``path`` open, such as /dev/stdout in `a | b`.

    To open any other pipe would wait for a reader.
    """
    status = path.stat()
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - numbers
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(int(name)), status):
                return True
    return False


def is_at(path: Path, descriptor: int) -> bool:
    """Return whether the open file is still the one at ``path``, neither deleted nor replaced."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def is_special(path: Path) -> bool:
    """Return whether ``path`` exists but is not a regular file: a device, a pipe or a folder."""
    return path.exists() and not path.is_file()
