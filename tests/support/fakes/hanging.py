"""Fake workers that never end by themselves."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from tests.support.fakes.reporting import Reporter, run_one_of
from worker.protocol.messages import (
    Advanced,
    Compiled,
    Event,
    Loaded,
    Phase,
    PhaseBegan,
    Saved,
    Step,
)

BEAT_SECONDS = 0.05
NEVER_READ_SECONDS = 5
COMPILE_SECONDS = 2.5
FINISH_SECONDS = 0.5


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


def compile_and_pass(reporter: Reporter) -> None:
    """Compile kernels for `COMPILE_SECONDS` after some steps, so their duration is known."""
    reporter.train(1)
    while reporter.now() < COMPILE_SECONDS:
        reporter.send(Compiled(reporter.now()))
        reporter.beat()
        time.sleep(BEAT_SECONDS)
    reporter.send(reporter.passed())


def follow(reporter: Reporter) -> None:
    """Follow the script on stdin: (action, seconds to wait before it) pairs. Beat while waiting.

    Actions are step, advance, compile and save. Then hang if the last action is hang, else pass.
    """
    reporter.start()
    reporter.send(PhaseBegan(reporter.now(), Phase.RELAXED))
    done = 0
    for action, seconds in json.loads(sys.stdin.readline()):
        until = time.monotonic() + seconds
        while time.monotonic() < until or action == "hang":
            reporter.beat()
            time.sleep(BEAT_SECONDS)
        done += action == "step"
        now = reporter.now()
        events: dict[str, Event] = {
            "step": Step(now, Phase.RELAXED, done, seconds, 256, 5.0 - done / 10, 2**20),
            "advance": Advanced(now),
            "compile": Compiled(now),
            "save": Saved(now, done),
        }
        reporter.send(events[action])
    reporter.send(reporter.passed())


def finish_the_step(reporter: Reporter) -> None:
    """Exit in the usual way, but only some time after SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    reporter.send(Loaded(reporter.now(), 1.0, 2**20, 2**20, 1000, 10))
    reporter.train(1)
    signal.sigwait([signal.SIGTERM])
    time.sleep(FINISH_SECONDS)
    sys.exit(1)


def close_the_pipe_and_ignore_sigterm(reporter: Reporter) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    close_the_pipe(reporter)


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
        compile_and_pass,
        follow,
        finish_the_step,
        close_the_pipe,
        close_the_pipe_and_ignore_sigterm,
        pass_and_hang,
    )
