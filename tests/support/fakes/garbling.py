"""Fake workers that write invalid data to the event pipe."""

from __future__ import annotations

import json
import os
import signal

from tests.support.fakes.reporting import Reporter, run_one_of
from worker.protocol.codec import encode
from worker.protocol.messages import VERSION

STEPS = 2


def write_binary(reporter: Reporter) -> None:
    reporter.train(STEPS)
    reporter.write(bytes(range(256)) * 16)


def write_another_version(reporter: Reporter) -> None:
    reporter.train(STEPS)
    event = json.loads(encode(reporter.passed()))
    reporter.write(json.dumps({**event, "v": VERSION + 1}).encode() + b"\n")


def write_an_unknown_kind(reporter: Reporter) -> None:
    reporter.train(STEPS)
    reporter.write(json.dumps({"v": VERSION, "type": "triumph", "at": 1.0}).encode() + b"\n")


def write_an_endless_line(reporter: Reporter) -> None:
    reporter.train(STEPS)
    while True:
        reporter.write(b"x" * 2**16)


def write_bottomless_brackets(reporter: Reporter) -> None:
    reporter.train(STEPS)
    reporter.write(b"[" * 2**17 + b"\n")


def write_after_the_end(reporter: Reporter) -> None:
    reporter.train(STEPS)
    reporter.send(reporter.passed())
    reporter.write(b"Exception ignored in: <function>\n")


def tear_and_exit(reporter: Reporter) -> None:
    _tear(reporter)


def tear_and_be_killed(reporter: Reporter) -> None:
    _tear(reporter)
    os.kill(os.getpid(), signal.SIGKILL)


def _tear(reporter: Reporter) -> None:
    reporter.train(STEPS)
    reporter.write(encode(reporter.passed())[:-2])


if __name__ == "__main__":
    run_one_of(
        write_binary,
        write_another_version,
        write_an_unknown_kind,
        write_an_endless_line,
        write_bottomless_brackets,
        write_after_the_end,
        tear_and_exit,
        tear_and_be_killed,
    )
