"""A worker's log: everything that it and its libraries print, bounded."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LIMIT_BYTES = 8 * 2**20
TAIL_BYTES = 16 * 2**10
EXCERPT_LINES = 3
EXCERPT_COLUMNS = 200
TRIM_SECONDS = 0.1
_MOST_READINGS = 20
"""How often the tail of a log that is being written to is read again before the log is cut."""


class TrialLog:
    """A log file, private to the user, that a worker appends to and the parent keeps short."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.discarded_bytes = 0

    def open(self) -> BinaryIO:
        """The file, to append to; created when missing."""
        return os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb")

    def discard(self) -> None:
        """Remove the file, if there is one."""
        self.path.unlink(missing_ok=True)

    def tail(self) -> str:
        """The last 16 KiB, which have the cause of a death."""
        try:
            return self._tail().decode(errors="replace")
        except FileNotFoundError:
            return ""

    @contextlib.contextmanager
    def kept_short(self) -> Iterator[None]:
        """Trim the log from a thread: the disk may be slow."""
        ended = threading.Event()

        def trim_until_ended() -> None:
            while not ended.wait(TRIM_SECONDS):
                self.trim()

        thread = threading.Thread(target=trim_until_ended, name="log", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.trim()

    def trim(self) -> None:
        """Drop all but the tail of a log past its limit, so that no worker fills the disk.

        The worker appends (O_APPEND), so what it prints next lands behind what is kept.
        """
        with contextlib.suppress(OSError):  # the trial is worth more than its log
            size = self.path.stat().st_size
            if size > LIMIT_BYTES:
                self._cut(size)

    def _cut(self, size: int) -> None:
        kept, dropped = b"", 0
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            for _ in range(_MOST_READINGS):
                tail = os.pread(descriptor, TAIL_BYTES, size - TAIL_BYTES)
                dropped = self.discarded_bytes + size - len(tail)
                kept = f"[{dropped} bytes dropped]\n".encode() + tail
                # Over what is dropped, so that what is printed next comes after it.
                os.pwrite(descriptor, kept, 0)
                before, size = size, os.fstat(descriptor).st_size
                if size == before:
                    break
            # What is printed between the last look and this is lost.
            os.ftruncate(descriptor, len(kept))
            self.discarded_bytes = dropped
        finally:
            os.close(descriptor)

    def _tail(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read(TAIL_BYTES)


def excerpt(tail: str) -> list[str]:
    """The last lines that matter of a log: neither a traceback's frames nor a progress bar's."""
    lines = (line.rpartition("\r")[2].rstrip() for line in tail.rstrip().splitlines())
    telling = [line[:EXCERPT_COLUMNS] for line in lines if line and not _NOISE.search(line)]
    return telling[-EXCERPT_LINES:]


# A frame of a traceback is indented, as are its marks; tqdm writes " 40%|####".
_NOISE = re.compile(r"^\s|^Traceback \(most recent call last\)|^(During|The above) .*:$|\d%\|")
