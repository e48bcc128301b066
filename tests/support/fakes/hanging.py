"""Fake workers that never end by themselves."""

from __future__ import annotations

import os
import signal
import time

from tests.support.fakes.reporting import Reporter, run_one_of

BEAT_SECONDS = 0.05
NEVER_READ_SECONDS = 5


def stay_silent(reporter: Reporter) -> None:
    reporter.train(1)
    reporter.say(str(os.getpid()))
    _wait_forever()


def ignore_sigterm(reporter: Reporter) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    reporter.train(1)
    _wait_forever()


def never_read(reporter: Reporter) -> None:
    """Leave the request in the pipe. An alarm ends the process if the parent does not."""
    signal.alarm(NEVER_READ_SECONDS)
    reporter.train(1)
    _wait_forever()


def stop(reporter: Reporter) -> None:
    """Stop, so that SIGTERM has no effect, like a process that is stuck in a driver."""
    reporter.train(1)
    os.kill(os.getpid(), signal.SIGSTOP)


def beat_forever(reporter: Reporter) -> None:
    reporter.train(1)
    while True:
        reporter.beat()
        time.sleep(BEAT_SECONDS)


def close_the_pipe(reporter: Reporter) -> None:
    reporter.train(1)
    os.close(reporter.fd)
    _wait_forever()


def pass_and_hang(reporter: Reporter) -> None:
    reporter.train(1)
    reporter.send(reporter.passed())
    _wait_forever()


def _wait_forever() -> None:
    while True:
        signal.pause()


if __name__ == "__main__":
    run_one_of(
        stay_silent,
        ignore_sigterm,
        never_read,
        stop,
        beat_forever,
        close_the_pipe,
        pass_and_hang,
    )
