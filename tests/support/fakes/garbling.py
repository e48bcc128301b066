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


def write_an_unknown_type(reporter: Reporter) -> None:
    reporter.train(STEPS)
    reporter.write(json.dumps({"v": VERSION, "type": "triumph", "at": 1.0}).encode() + b"\n")


def write_an_endless_line(reporter: Reporter) -> None:
    reporter.train(STEPS)
    while True:
        reporter.write(b"x" * 2**16)


def write_deeply_nested_json(reporter: Reporter) -> None:
    reporter.train(STEPS)
    reporter.write(b"[" * 2**17 + b"\n")


def write_after_the_end(reporter: Reporter) -> None:
    reporter.train(STEPS)
    reporter.send(reporter.passed())
    reporter.write(b"Exception ignored in: <function>\n")


def exit_in_the_middle_of_a_line(reporter: Reporter) -> None:
    _write_incomplete_line(reporter)


def die_in_the_middle_of_a_line(reporter: Reporter) -> None:
    _write_incomplete_line(reporter)
    os.kill(os.getpid(), signal.SIGKILL)


def _write_incomplete_line(reporter: Reporter) -> None:
    reporter.train(STEPS)
    reporter.write(encode(reporter.passed())[:-2])


if __name__ == "__main__":
    run_one_of(
        write_binary,
        write_another_version,
        write_an_unknown_type,
        write_an_endless_line,
        write_deeply_nested_json,
        write_after_the_end,
        exit_in_the_middle_of_a_line,
        die_in_the_middle_of_a_line,
    )
