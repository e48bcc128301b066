"""What fake workers share: sending real events, and running one of several functions."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import time
from collections.abc import Callable

from worker.protocol.codec import encode
from worker.protocol.messages import (
    EVENTS_FD_FLAG,
    Event,
    Memory,
    Passed,
    Phase,
    PhaseBegan,
    Started,
    Step,
)

GIVE_UP_SECONDS = 90
"""Lifetime of every fake, in case a test does not end it."""


class Reporter:
    """A fake worker's end of the event pipe, and its log."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._began = time.monotonic()

    def send(self, event: Event) -> None:
        self.write(encode(event))

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self.fd, left) :]

    def now(self) -> float:
        return time.monotonic() - self._began

    def start(self) -> None:
        self.send(Started(self.now(), os.getpid()))
        self.send(PhaseBegan(self.now(), Phase.IMPORT))
        self.send(PhaseBegan(self.now(), Phase.LOAD))

    def train(self, steps: int) -> None:
        """Send all events up to the last of ``steps`` relaxed steps."""
        self.start()
        for phase, count in ((Phase.TIGHT, 3), (Phase.RELAXED, steps)):
            self.send(PhaseBegan(self.now(), phase, 2**30))
            for index in range(1, count + 1):
                self.send(Step(self.now(), phase, index, 0.01, 256, 5.0 - index / 10, 2**20))

    def passed(self) -> Passed:
        return Passed(self.now(), 2**20, 2**19, 2**20, 2**30)

    def beat(self) -> None:
        self.send(Memory(self.now(), 2**20, 0))

    def say(self, text: str) -> None:
        """Write one line to the log."""
        print(text, flush=True)


def become_short_lived() -> None:
    """Limit the lifetime of this process, and disable core dumps."""
    signal.alarm(GIVE_UP_SECONDS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run_one_of(*behaviors: Callable[[Reporter], None]) -> None:
    """Run the function whose name is on the command line, then exit."""
    become_short_lived()
    by_name = {behavior.__name__: behavior for behavior in behaviors}
    parser = argparse.ArgumentParser()
    parser.add_argument("behavior", choices=by_name)
    parser.add_argument(EVENTS_FD_FLAG, type=int, required=True, dest="events_fd")
    arguments = parser.parse_args()
    by_name[arguments.behavior](Reporter(arguments.events_fd))
    sys.exit(0)
