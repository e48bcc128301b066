"""Handle Ctrl-C, SIGTERM and SIGHUP: the first asks the run to stop, the second stops it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Turns signals into a request to stop while they are deferred, else into KeyboardInterrupt."""

    def __init__(self) -> None:
        self.requested = False
        self._is_deferring = False

    def install(self) -> None:
        """Handle the signals, except those already ignored, as under nohup or in the background."""
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    @contextlib.contextmanager
    def deferred(self, *, is_on: bool = True) -> Iterator[None]:
        """Within this context, the first signal only sets ``requested``."""
        previous, self._is_deferring = self._is_deferring, is_on
        try:
            yield
        finally:
            self._is_deferring = previous

    @contextlib.contextmanager
    def immediate(self) -> Iterator[None]:
        """Within `deferred`, let signals interrupt work that can stop anywhere, like a download."""
        with self.deferred(is_on=False):
            if self.requested:  # after this line, a signal interrupts by itself
                raise KeyboardInterrupt
            yield

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        is_first, self.requested = not self.requested, True
        if not (is_first and self._is_deferring):
            raise KeyboardInterrupt


interrupts = Interrupts()
"""The only instance, because signal handlers belong to the process."""
