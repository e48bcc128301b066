"""How a fake worker speaks: real events, in the protocol's own encoding."""

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
"""No fake outlives this, should a test fail to have it killed."""


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
        """As far as the last of the counted steps."""
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
        """One line in the log."""
        print(text, flush=True)


def become_short_lived() -> None:
    """Of every fake and what it starts; nor do they leave core dumps."""
    signal.alarm(GIVE_UP_SECONDS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def play(*parts: Callable[[Reporter], None]) -> None:
    """Run the part that is named on the command line, as a worker would be run."""
    become_short_lived()
    named = {part.__name__: part for part in parts}
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=named)
    parser.add_argument(EVENTS_FD_FLAG, type=int, required=True, dest="events_fd")
    arguments = parser.parse_args()
    named[arguments.part](Reporter(arguments.events_fd))
    sys.exit(0)
