"""Fake workers that leave something behind: floods of output, or processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

from tests.support.fakes.reporting import GIVE_UP_SECONDS, Reporter, become_short_lived, run_one_of

STEPS = 2
BURSTS = 10
BURST_BYTES = 20 * 2**20
LAST_WORDS = "end of the output"

_LINE = b"the same line again and again, from a library that prints too much\n"


def flood(reporter: Reporter) -> None:
    """Print bursts of output. Wait before each but the first until the parent has cut the log."""
    reporter.train(STEPS)
    for burst in range(BURSTS):
        if burst:
            _wait_until(lambda: os.fstat(1).st_size < BURST_BYTES)
        _print(_LINE * (BURST_BYTES // len(_LINE) + 1))
    reporter.say(LAST_WORDS)
    reporter.send(reporter.passed())


def flood_when_asked_to_end(reporter: Reporter) -> None:
    def flood_and_exit(*_: object) -> None:
        _print(_LINE * (BURST_BYTES // len(_LINE) + 1))
        reporter.say(LAST_WORDS)
        sys.exit(0)

    signal.signal(signal.SIGTERM, flood_and_exit)
    reporter.train(STEPS)
    signal.pause()


def leave_a_grandchild(reporter: Reporter) -> None:
    reporter.train(STEPS)
    _fork(reporter, os.close)
    reporter.send(reporter.passed())


def leave_a_grandchild_on_the_pipe(reporter: Reporter) -> None:
    reporter.train(STEPS)
    _fork(reporter, lambda _: None)
    reporter.send(reporter.passed())


def leave_a_daemon_on_the_pipe(reporter: Reporter) -> None:
    """Leave a process in its own session, which signals to the worker's group do not reach."""
    reporter.train(STEPS)
    _fork(reporter, lambda _: os.setsid())
    reporter.send(reporter.passed())


def leave_a_grandchild_and_hang(reporter: Reporter) -> None:
    reporter.train(STEPS)
    _fork(reporter, lambda _: None)
    signal.pause()


def _fork(reporter: Reporter, prepare: Callable[[int], object]) -> None:
    """Start a process that ignores SIGTERM, and write its pid to the log."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pid = os.fork()
    if pid == 0:
        become_short_lived()
        prepare(reporter.fd)
        while True:
            signal.pause()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    reporter.say(f"grandchild {pid}")


def _print(data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(1, left) :]


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


if __name__ == "__main__":
    run_one_of(
        flood,
        flood_when_asked_to_end,
        leave_a_grandchild,
        leave_a_grandchild_on_the_pipe,
        leave_a_daemon_on_the_pipe,
        leave_a_grandchild_and_hang,
    )
