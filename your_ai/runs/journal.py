"""A run's journal: append-only, and each record durable before what it announces happens.

One JSON object a line, with the version of its form and a checksum over all before it. A last line
without its end is torn: nobody was told of it, and it is dropped. Damage anywhere else is reported
with its line, because what was written there is lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from your_ai.errors import MachineError, UsageError

JOURNAL = "journal.jsonl"
VERSION = 2
"""Raised whenever a record changes its meaning."""

BEGAN, RESUMED, CLOSED = "began", "resumed", "closed"
STARTED, ENDED = "started", "ended"

_SAVED = " Finished trials are saved. Fix the problem and continue with --resume."
_CHECKSUM = b',"crc32":"%08x"}'
_CHECKSUM_BYTES = len(_CHECKSUM % 0)


class DamagedError(UsageError):
    """A line of the journal is not what was written; those before it are intact."""

    def __init__(self, path: Path, line: int) -> None:
        before = (
            f"; earlier trials are intact. Keep the first {line - 1} lines (head -n {line - 1}) to "
            "resume from there, or start"
        )
        super().__init__(
            f"{path} is corrupt at line {line}{before if line > 1 else ': start'} a new run."
        )


class OtherVersionError(UsageError):
    """The journal is of another version of this program."""

    def __init__(self) -> None:
        super().__init__(
            "The run was written by another version of your_ai; use that one, or start a new run."
        )


@dataclass(frozen=True, slots=True)
class Record:
    """What one line says."""

    kind: str
    fields: dict[str, Any]


class Journal:
    """A run's journal, open in this process alone until it is closed."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._end = os.fstat(descriptor).st_size

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path) -> Iterator[Self]:
        """The journal of the run in ``folder``, created if missing, its end repaired.

        Raises:
            UsageError: if another process has it open.
            MachineError: if it cannot be opened or written.
        """
        path = folder / JOURNAL
        with contextlib.ExitStack() as closing:
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                descriptor = os.open(path, flags, 0o600)
                closing.callback(os.close, descriptor)
                # Released with the process, however that ends; workers do not inherit it.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _repair(path, descriptor)
                _sync_folder(folder)
                journal = cls(path, descriptor)
            except BlockingIOError as error:
                raise _under_way(folder) from error
            except OSError as error:
                raise MachineError(f"Cannot open {path}: {error.strerror}.") from error
            try:
                yield journal
            finally:
                journal._descriptor = -1  # a thread that is late must not write elsewhere

    def append(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Write one record; it is on disk when this returns.

        Raises:
            MachineError: if it cannot be written; the journal is then as it was before.
        """
        line = encode(Record(kind, dict(fields)))
        try:
            _write(self._descriptor, line)
            _sync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            saved = "" if self.is_empty else _SAVED
            raise MachineError(f"Cannot write {self._path}: {error.strerror}.{saved}") from error
        self._end += len(line)

    @property
    def is_empty(self) -> bool:
        """Whether it has no record."""
        return self._end == 0

    def discard(self) -> None:
        """Remove the file of a run that never began."""
        self._path.unlink(missing_ok=True)

    def records(self) -> list[Record]:
        """Every record; raises DamagedError and OtherVersionError as `read` does."""
        return list(read(self._path))


def read(path: Path) -> Iterator[Record]:
    """Every record of a journal that may be another process's; a torn last line is skipped.

    Raises:
        DamagedError: at the first line that is not what was written.
        OtherVersionError: if another version of this program wrote it.
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            record = decode(line)
            if record is None:
                if not line.endswith(b"\n"):
                    return
                raise DamagedError(path, number)
            yield record


def is_open(path: Path) -> bool:
    """Whether some process has this journal open; raises OSError if it cannot be read."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def refuse_open(folder: Path) -> None:
    """Raise UsageError if some process has the journal of the run in ``folder`` open."""
    with contextlib.suppress(OSError):
        if is_open(folder / JOURNAL):
            raise _under_way(folder)


def encode(record: Record) -> bytes:
    """The record's line, newline included.

    Not by orjson: configs in the wild hold Infinity, and paths bytes that are not UTF-8.
    """
    content = {"v": VERSION, "kind": record.kind, **record.fields}
    body = json.dumps(content, separators=(",", ":")).encode()[:-1]
    return body + _CHECKSUM % zlib.crc32(body) + b"\n"


def decode(line: bytes) -> Record | None:
    """The record on a line, with or without its newline; ``None`` if it is not what was written.

    Raises:
        OtherVersionError: if another version of this program wrote it.
    """
    line = line.removesuffix(b"\n")
    body, checksum = line[:-_CHECKSUM_BYTES], line[-_CHECKSUM_BYTES:]
    if checksum != _CHECKSUM % zlib.crc32(body):
        return None
    fields = json.loads(body + b"}")
    if fields.pop("v") != VERSION:
        raise OtherVersionError
    return Record(fields.pop("kind"), fields)


def _repair(path: Path, descriptor: int) -> None:
    """Complete a last line that lacks only its newline, and drop one that lacks more."""
    last, begin = b"", 0
    with path.open("rb") as file:
        for line in file:
            last, begin = line, begin + len(last)
    if last and not last.endswith(b"\n"):
        if decode(last) is None:
            os.ftruncate(descriptor, begin)
        else:
            _write(descriptor, b"\n")
        _sync(descriptor)


def _under_way(folder: Path) -> UsageError:
    return UsageError(
        f"The run in {folder} is under way in process {_owner(folder / JOURNAL)}; wait for it to "
        "end, or choose another --run-dir."
    )


def _owner(path: Path) -> int | str:
    """The process that opened the run last."""
    owner: int | str = "unknown"
    with contextlib.suppress(UsageError, OSError):
        for record in read(path):
            owner = record.fields.get("pid", owner)
    return owner


def _write(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _sync(descriptor: int) -> None:
    """Have the file on the disk itself, which on macOS fsync alone does not promise (fcntl(2))."""
    if sys.platform == "darwin":
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError:  # a file system that refuses it
            pass
        else:
            return
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    """Have the journal's own name on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
