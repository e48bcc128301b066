"""Workers that hang are killed, and leave no process behind."""

from __future__ import annotations

import signal
from collections.abc import Callable

import psutil
import pytest

from tests.support.fakes import hanging
from tests.support.trials import fake, observe
from worker.protocol.messages import Memory, Started
from your_ai.supervision.observation import Kill, Observation
from your_ai.supervision.outcome import OutcomeKind, classify
from your_ai.supervision.supervisor import Limits, supervise
from your_ai.supervision.trial_log import TrialLog

SILENCE = Limits(deadline=60.0, silence=1.0, grace=0.3)
DEADLINE = Limits(deadline=2.0, silence=1.0, grace=0.3)
MARGIN_SECONDS = 5.0


@pytest.mark.parametrize(
    ("part", "ended_by"),
    [
        (hanging.stay_silent, signal.SIGTERM),
        (hanging.ignore_sigterm, signal.SIGKILL),
        (hanging.stop, signal.SIGKILL),
    ],
)
def test_a_worker_that_stops_reporting_times_out(
    part: Callable[..., None], ended_by: signal.Signals, log: TrialLog
) -> None:
    seen = observe(part, log, SILENCE)
    assert (seen.killed, seen.returncode) == (Kill.SILENCE, -ended_by)
    assert seen.wall_seconds < SILENCE.silence + SILENCE.grace + MARGIN_SECONDS
    outcome = classify(seen, steps=1)
    assert outcome.kind is OutcomeKind.TIMEOUT
    assert outcome.reason == "the worker stopped reporting"
    assert not psutil.pid_exists(_pid(seen))


def test_a_worker_that_closes_the_pipe_must_exit_soon(log: TrialLog) -> None:
    patient = Limits(deadline=60.0, silence=60.0, grace=0.3, closing=0.3)
    seen = observe(hanging.close_the_pipe, log, patient)
    assert (seen.killed, seen.returncode) == (Kill.CLOSED, -signal.SIGTERM)
    assert seen.wall_seconds < MARGIN_SECONDS
    assert classify(seen, steps=1).kind is OutcomeKind.TIMEOUT


def test_a_worker_that_never_reads_a_long_request_times_out(log: TrialLog) -> None:
    request, command = b"x" * 2**21 + b"\n", fake(hanging.never_read)
    seen = supervise(request, log=log, limits=SILENCE, command=command)
    assert (seen.killed, seen.returncode) == (Kill.SILENCE, -signal.SIGTERM)
    assert seen.wall_seconds < hanging.NEVER_READ_SECONDS


def test_the_deadline_applies_despite_heartbeats(log: TrialLog) -> None:
    seen = observe(hanging.beat_forever, log, DEADLINE)
    assert (seen.killed, seen.returncode) == (Kill.DEADLINE, -signal.SIGTERM)
    assert DEADLINE.deadline <= seen.wall_seconds < DEADLINE.deadline + MARGIN_SECONDS
    beats = [event.at for event in seen.events if isinstance(event, Memory)]
    assert beats[-1] > DEADLINE.silence  # the limit for silence did not apply
    outcome = classify(seen, steps=1)
    assert outcome.kind is OutcomeKind.TIMEOUT
    assert "--timeout" in outcome.reason
    assert not psutil.pid_exists(_pid(seen))


def test_a_hang_after_the_final_event_is_a_pass(log: TrialLog) -> None:
    seen = observe(hanging.pass_and_hang, log, SILENCE)
    assert seen.killed is Kill.SILENCE
    assert classify(seen, steps=1).kind is OutcomeKind.PASS
    assert not psutil.pid_exists(_pid(seen))


def _pid(seen: Observation) -> int:
    started = seen.events[0]
    assert isinstance(started, Started)
    return started.pid
