"""Pauses between workers, in which the machine cools down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from your_ai.system.signals import interrupts

_MAX_SECONDS = threading.TIMEOUT_MAX / 2
"""More may overflow: the system adds it to its clock, and rejects the sum."""


def _ignore(seconds: float) -> None:
    """Announce nothing."""


class Cooldown:
    """Leaves at least ``seconds`` between the end of a worker and the start of the next one.

    ``announce`` is called before each wait, with the seconds that it will take.
    """

    def __init__(self, seconds: float, announce: Callable[[float], None] = _ignore) -> None:
        self._seconds = seconds
        self._announce = announce
        self._until = 0.0

    def begin(self) -> None:
        """Note that a worker has just ended."""
        self._until = time.monotonic() + self._seconds

    def wait(self) -> None:
        """Wait until the machine has cooled down; KeyboardInterrupt if the user stops the run."""
        left = self._until - time.monotonic()
        if left > 0:
            self._announce(left)
            with interrupts.immediate():
                time.sleep(min(left, _MAX_SECONDS))
