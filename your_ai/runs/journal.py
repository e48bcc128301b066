"""The journal of a run: an append-only file of durable records.

Each line is a JSON object with the version of the format and a checksum of the line. A record is on
disk before your_ai acts on it. So an incomplete last line can be dropped: nothing depends on it.
Any other damage is an error that reports the line, because data is lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from worker import durable
from your_ai.errors import MachineError, UsageError
from your_ai.files import is_at

JOURNAL = "journal.jsonl"
VERSION = 5
"""Version of the format, incremented whenever the meaning of a record changes."""

BEGAN, RESUMED, CLOSED = "began", "resumed", "closed"
STARTED, ENDED = "started", "ended"

_SAVED = " Finished trials are saved. Fix the problem and continue with --resume."
_RETRY_SECONDS = 0.01
_CHECKSUM = b',"crc32":"%08x"}'
_CHECKSUM_BYTES = len(_CHECKSUM % 0)


class DamagedError(UsageError):
    """A line of the journal is corrupt; the lines before it are intact."""

    def __init__(self, path: Path, line: int) -> None:
        before = (
            f"; the lines before it are intact. Keep only its first {line - 1} lines "
            f"(head -n {line - 1}) to resume from there, or start"
        )
        super().__init__(
            f"{path} is corrupt at line {line}{before if line > 1 else ': start'} a new run."
        )


class OtherVersionError(UsageError):
    """The journal was written by another version of your_ai."""

    def __init__(self) -> None:
        super().__init__(
            "This run was made by another version of your_ai. Use that version, or start a new run."
        )


@dataclass(frozen=True, slots=True)
class Record:
    """The content of a line."""

    kind: str
    fields: dict[str, Any]


class Journal:
    """A run's journal. While it is open, no other process can open it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._end = os.fstat(descriptor).st_size

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path) -> Iterator[Self]:
        """Open the journal of the run in ``folder``: create it if missing, or repair its end.

        Raises:
            UsageError: if another process has it open.
            MachineError: if it cannot be opened or written.
        """
        path = folder / JOURNAL
        with contextlib.ExitStack() as closing:
            try:
                descriptor = _open_locked(path)
                closing.callback(os.close, descriptor)
                _repair(path, descriptor)
                durable.sync_folder(folder)
                journal = cls(path, descriptor)
            except BlockingIOError as error:
                raise _still_running(folder) from error
            except OSError as error:
                raise MachineError(
                    f"Cannot open {path}: {error.strerror}. Check its permissions, or choose a "
                    "different --run-dir."
                ) from error
            try:
                yield journal
            finally:
                journal._descriptor = -1  # a late thread must not write to another file

    def append(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Append a record; it is on disk when this returns.

        Raises:
            MachineError: if it cannot be written; the journal is then unchanged.
        """
        line = encode(Record(kind, dict(fields)))
        try:
            _write(self._descriptor, line)
            durable.sync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            saved = "" if self.is_empty else _SAVED
            raise MachineError(f"Cannot write {self._path}: {error.strerror}.{saved}") from error
        self._end += len(line)

    @property
    def is_empty(self) -> bool:
        """Whether the journal has no records."""
        return self._end == 0

    def discard(self) -> None:
        """Delete the journal of a run that was never started."""
        self._path.unlink(missing_ok=True)

    def records(self) -> list[Record]:
        """Return all records; raise the same errors as `read`."""
        return list(read(self._path))


def read(path: Path) -> Iterator[Record]:
    """Yield the records of a journal, even if another process has it open.

    An incomplete last line is skipped.

    Raises:
        DamagedError: at the first corrupt line.
        OtherVersionError: if another version of your_ai wrote it.
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
    """Return whether a process has this journal open; raise OSError if it cannot be read."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def refuse_open(folder: Path) -> None:
    """Raise UsageError if a process has the journal of the run in ``folder`` open."""
    with contextlib.suppress(OSError):
        if is_open(folder / JOURNAL):
            raise _still_running(folder)


def encode(record: Record) -> bytes:
    """Return the record's line, including the newline.

    Not with orjson, which rejects the Infinity of some model configs, and paths that are not UTF-8.
    """
    content = {"v": VERSION, "kind": record.kind, **record.fields}
    body = json.dumps(content, separators=(",", ":")).encode()[:-1]
    return body + _CHECKSUM % zlib.crc32(body) + b"\n"


def decode(line: bytes) -> Record | None:
    """Return the record on a line, with or without its newline; ``None`` if the line is corrupt.

    Raises:
        OtherVersionError: if another version of your_ai wrote it.
    """
    line = line.removesuffix(b"\n")
    body, checksum = line[:-_CHECKSUM_BYTES], line[-_CHECKSUM_BYTES:]
    if checksum != _CHECKSUM % zlib.crc32(body):
        return None
    fields = json.loads(body + b"}")
    if fields.pop("v") != VERSION:
        raise OtherVersionError
    return Record(fields.pop("kind"), fields)


def _open_locked(path: Path) -> int:
    """Return a descriptor of the journal, which is created if missing, with the lock on it."""
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, descriptor)
            _lock(descriptor)
            if is_at(path, descriptor):  # the process that held the lock may have discarded it
                undo.pop_all()
                return descriptor


def _lock(descriptor: int) -> None:
    """Lock the journal for this process; raise BlockingIOError if another one has it open.

    The lock is released when this process ends, and workers do not inherit it.
    """
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # If a shared lock is possible, there is no run, only `is_open` in other processes.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            time.sleep(_RETRY_SECONDS)
        else:
            return


def _repair(path: Path, descriptor: int) -> None:
    """Complete the last line if only its newline is missing; drop it if more is missing."""
    last, begin = b"", 0
    with path.open("rb") as file:
        for line in file:
            last, begin = line, begin + len(last)
    if last and not last.endswith(b"\n"):
        if decode(last) is None:
            os.ftruncate(descriptor, begin)
        else:
            _write(descriptor, b"\n")
        durable.sync(descriptor)


def _still_running(folder: Path) -> UsageError:
    return UsageError(
        f"The run in {folder} is still running (process {_owner(folder / JOURNAL)}). Wait for it "
        "to end, or choose a different --run-dir."
    )


def _owner(path: Path) -> int | str:
    """Return the process that opened the run last."""
    owner: int | str = "unknown"
    with contextlib.suppress(UsageError, OSError):
        for record in read(path):
            owner = record.fields.get("pid", owner)
    return owner


def _write(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
