"""A worker's log: everything that it and its libraries print, bounded."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

LIMIT_BYTES = 8 * 2**20
TAIL_BYTES = 16 * 2**10
EXCERPT_LINES = 3
EXCERPT_COLUMNS = 200
_MOST_READINGS = 20
"""Of the tail of a log that is written to all the time, before it is cut all the same."""


class TrialLog:
    """A log file, private to the user, that a worker appends to and the parent keeps small."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.discarded_bytes = 0

    def open(self) -> BinaryIO:
        """The file, to append to; created when it is not there."""
        return os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb")

    def discard(self) -> None:
        """Remove the file, if there is one."""
        self.path.unlink(missing_ok=True)

    def tail(self) -> str:
        """The last 16 KiB, where the cause of a death is to be found."""
        return self._tail().decode(errors="replace")

    def trim(self) -> None:
        """Past its limit, drop all but the tail: a worker that floods must not fill the disk.

        The worker appends (O_APPEND), so what it prints next lands behind what is kept.
        """
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:  # somebody tidied up; the trial is worth more than its log
            return
        if size <= LIMIT_BYTES:
            return
        kept = self._tail()
        # What is printed between reading and cutting is lost: the less time, the less of it.
        for _ in range(_MOST_READINGS):
            before, size = size, self.path.stat().st_size
            if size == before:
                break
            kept = self._tail()
        os.truncate(self.path, 0)
        self.discarded_bytes += size - len(kept)
        with self.open() as file:
            file.write(f"[{self.discarded_bytes} bytes dropped]\n".encode() + kept)

    def _tail(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                return file.read(TAIL_BYTES)
        except FileNotFoundError:
            return b""


def excerpt(tail: str) -> list[str]:
    """The last lines that matter of a log: neither a traceback's frames nor a progress bar's."""
    lines = (line.rpartition("\r")[2].rstrip() for line in tail.rstrip().splitlines())
    telling = [line[:EXCERPT_COLUMNS] for line in lines if line and not _NOISE.search(line)]
    return telling[-EXCERPT_LINES:]


# A frame of a traceback is indented, as are its marks; tqdm writes " 40%|####".
_NOISE = re.compile(r"^\s|^Traceback \(most recent call last\)|^(During|The above) .*:$|\d%\|")
