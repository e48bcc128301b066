"""The worker's end of the event pipe."""

from __future__ import annotations

import os
import threading
import time
from typing import NoReturn

from worker.protocol.codec import encode
from worker.protocol.messages import Event, FinalEvent, Passed, Phase, PhaseBegan, Trained


class EventPipe:
    """Writes events, one whole line at a time, from any thread.

    The descriptor is made non-inheritable, so that a child of the worker can neither hold the pipe
    open nor write to it. If the parent is gone, writing ends the process. ``phase`` is the current
    phase.
    """

    phase = Phase.IMPORT

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._started = time.monotonic()
        # `finish` never releases the lock, so that nothing follows a final event. The lock is
        # re-entrant, so that `finish` itself can send.
        self._lock = threading.RLock()
        os.set_inheritable(fd, False)

    def now(self) -> float:
        """Return the seconds since the worker started."""
        return time.monotonic() - self._started

    def send(self, event: Event) -> None:
        """Write one event. Blocks until the pipe has accepted all of it."""
        line = memoryview(encode(event))
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._fd, line) :]
            except OSError:
                os._exit(1)

    def enter(self, phase: Phase, limit_bytes: int | None = None) -> None:
        """Report that ``phase`` begins. ``limit_bytes`` is the MLX memory limit that it sets."""
        self.phase = phase
        self.send(PhaseBegan(self.now(), phase, limit_bytes))

    def finish(self, event: FinalEvent) -> NoReturn:
        """Write the final event and exit immediately, because MLX can crash at a normal exit."""
        self._lock.acquire()
        self.send(event)
        os._exit(0 if isinstance(event, Passed | Trained) else 1)
