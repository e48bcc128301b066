"""Read a worker's events from a pipe, and deliver them from a thread."""

from __future__ import annotations

import math
import os
import queue
import selectors
import threading
import time
from collections.abc import Callable
from typing import Self

from worker.protocol.codec import ProtocolError, decode_event
from worker.protocol.messages import Event
from your_ai.supervision.observation import Notice, Stopping
from your_ai.supervision.pace import Pace

OnEvent = Callable[[Notice], None]
"""A function that is called with each notice of a worker, to show or record it."""

MAX_LINE_BYTES = 4 * 2**20
SHOWN_BYTES = 200


class EventReader:
    """Reads events from a pipe, and passes each of them to ``on_event``.

    ``pace`` is the worker's progress, with the expected duration of a step. ``events`` has the
    events for which ``keeps`` is true, and always the last one. ``corrupt`` describes the first
    line that is not an event; all lines after it are ignored. Times are from `time.monotonic`.
    ``on_event`` is called in a thread, where it may wait for a terminal or disk. Close
    ``write_end`` after the worker has inherited it, or the pipe never ends.
    """

    def __init__(
        self,
        on_event: OnEvent,
        keeps: Callable[[Event], bool],
        delivery_seconds: float,
        step_seconds: float | None = None,
    ) -> None:
        self._fd, self.write_end = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._fd, selectors.EVENT_READ)
        self._keeps = keeps
        self._pending = b""
        self.events: list[Event] = []
        self.corrupt: str | None = None
        self.ended = False
        self.first_heard = self.last_heard = time.monotonic()
        self.pace = Pace(self.last_heard, step_seconds)
        self._on_event = on_event
        self._delivery_seconds = delivery_seconds
        self._is_abandoned = False
        self._undelivered: queue.SimpleQueue[Notice | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        # A daemon thread, or a blocked terminal would keep your_ai from exiting after Ctrl-C.
        self._delivery = threading.Thread(target=self._deliver, name="on_event", daemon=True)
        self._delivery.start()

    def read(self, timeout: float) -> None:
        """Read what arrives within ``timeout`` seconds; re-raise an error of ``on_event``."""
        if self._error is not None:
            raise self._error
        if self.ended:
            time.sleep(min(timeout, 0.01))
        elif self._selector.select(timeout):
            self._take(os.read(self._fd, 2**16))

    def drain(self) -> None:
        """Read what is in the pipe. Do not wait: another process may keep it open."""
        while not self.ended and self._selector.select(0):
            self.read(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until all events are delivered; re-raise an error of ``on_event``.

        The wait is limited: if a terminal is blocked, the measurements must not be lost.
        """
        self._selector.close()
        os.close(self._fd)
        self._undelivered.put(None)
        self._delivery.join(None if self._delivery_seconds == math.inf else self._delivery_seconds)
        self._is_abandoned = True
        if self._error is not None:
            raise self._error

    def _take(self, chunk: bytes) -> None:
        self.last_heard = time.monotonic()
        if not self.events:
            self.first_heard = self.last_heard
        self.ended = not chunk
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        if len(self._pending) > MAX_LINE_BYTES:
            lines, self._pending = [*lines, self._pending], b""
        for line in lines:
            if self.corrupt is None:
                self._take_line(line)

    def _take_line(self, line: bytes) -> None:
        try:
            event = decode_event(line)
        except ProtocolError as error:
            self.corrupt = f"{error}: {line[:SHOWN_BYTES].decode(errors='replace')}"
            return
        if self.events and not self._keeps(self.events[-1]):
            self.events.pop()
        self.events.append(event)
        self.pace = self.pace.after(event, self.last_heard)
        self._undelivered.put(event)

    def tell(self, notice: Stopping) -> None:
        """Pass a notice to ``on_event``, after all events so far."""
        self._undelivered.put(notice)

    def _deliver(self) -> None:
        try:
            while (event := self._undelivered.get()) is not None and not self._is_abandoned:
                self._on_event(event)
        except BaseException as error:  # noqa: BLE001 - raised by read() and __exit__()
            self._error = error
