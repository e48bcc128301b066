"""A worker's log: everything that the worker and its libraries print, limited in size."""

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
_MAX_READS = 20
"""Maximum reads of the tail while the worker keeps writing."""


class TrialLog:
    """A log file, private to the user. The worker appends to it, and the parent keeps it short.

    If it is on a full, stale or failing disk, the trial continues without it, and `tail` says why.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.discarded_bytes = 0
        self._problem: str | None = None

    def open(self) -> BinaryIO:
        """Open the file for appending; create it if missing. If that fails, open /dev/null."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        if self._problem is None:
            with self._noting_errors("write"):
                return os.fdopen(os.open(self.path, flags, 0o600), "wb")
        return Path(os.devnull).open("wb")

    def discard(self) -> None:
        """Delete the file if it exists."""
        with self._noting_errors("replace"):
            self.path.unlink(missing_ok=True)

    def tail(self) -> str:
        """Return the last 16 KiB, which show why a worker died."""
        if self._problem is None:
            with self._noting_errors("read"):
                return self._tail().decode(errors="replace")
        return self._problem or ""

    @contextlib.contextmanager
    def _noting_errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._problem = f"[your_ai cannot {verb} this log: {error.strerror}]"

    @contextlib.contextmanager
    def kept_short(self) -> Iterator[None]:
        """Trim the log regularly, in a thread because the disk may be slow."""
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
        """Drop all but the tail of a log above its limit, so that no worker fills the disk.

        The worker opened the log with O_APPEND, so its next output follows what is kept.
        """
        with contextlib.suppress(OSError):  # a problem with its log must not end a trial
            size = self.path.stat().st_size
            if size > LIMIT_BYTES:
                self._cut(size)

    def _cut(self, size: int) -> None:
        kept, dropped = b"", 0
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            for _ in range(_MAX_READS):
                tail = os.pread(descriptor, TAIL_BYTES, size - TAIL_BYTES)
                dropped = self.discarded_bytes + size - len(tail)
                kept = f"[{dropped} bytes dropped]\n".encode() + tail
                # Write it over the start of the file, so that new output comes after it.
                os.pwrite(descriptor, kept, 0)
                before, size = size, os.fstat(descriptor).st_size
                if size == before:
                    break
            # Output between the last check and this call is lost.
            os.ftruncate(descriptor, len(kept))
            self.discarded_bytes = dropped
        finally:
            os.close(descriptor)

    def _tail(self) -> bytes:
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return b""
        with file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read(TAIL_BYTES)


def excerpt(tail: str) -> list[str]:
    """Return the last informative lines of a log: no traceback frames and no progress bars."""
    lines = (line.rpartition("\r")[2].rstrip() for line in tail.rstrip().splitlines())
    informative = [line[:EXCERPT_COLUMNS] for line in lines if line and not _NOISE.search(line)]
    return informative[-EXCERPT_LINES:]


# The frames of a traceback and their markers are indented; tqdm writes " 40%|####".
_NOISE = re.compile(r"^\s|^Traceback \(most recent call last\)|^(During|The above) .*:$|\d%\|")
