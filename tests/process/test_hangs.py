"""Workers that hang are killed, and leave no process behind."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace

import psutil
import pytest

from tests.support.fakes import hanging
from tests.support.trials import PATIENT, fake, observe
from worker.protocol.messages import Memory, Started, Step
from your_ai.supervision.classify import classify
from your_ai.supervision.observation import Kill, Notice, Observation, Stopping
from your_ai.supervision.outcome import OutcomeKind
from your_ai.supervision.supervisor import Limits, supervise
from your_ai.supervision.trial_log import TrialLog

SILENCE = Limits(deadline=60.0, silence=1.0, grace=0.3)
DEADLINE = Limits(deadline=2.0, silence=1.0, grace=0.3)
STALL = Limits(deadline=60.0, stall=1.0, grace=0.3)
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


def test_a_worker_that_only_beats_hangs(log: TrialLog) -> None:
    """The worker has finished steps, from which their duration is known."""
    seen = observe(hanging.beat_forever, log, STALL)
    assert (seen.killed, seen.returncode) == (Kill.STALL, -signal.SIGKILL)
    beats = [event.at for event in seen.events if isinstance(event, Memory)]
    assert beats[-1] > STALL.stall / 2
    outcome = classify(seen, steps=1)
    assert outcome.kind is OutcomeKind.TIMEOUT
    assert "the GPU probably hangs" in outcome.reason
    assert not psutil.pid_exists(_pid(seen))


def test_compiling_kernels_is_no_hang_and_does_not_count_as_time(log: TrialLog) -> None:
    limits = replace(STALL, deadline=hanging.COMPILE_SECONDS - 0.5)
    seen = observe(hanging.compile_and_pass, log, limits)
    assert seen.killed is None
    assert seen.wall_seconds > limits.deadline
    assert classify(seen, steps=1).kind is OutcomeKind.PASS


def test_an_interrupted_worker_may_finish_its_steps(log: TrialLog) -> None:
    told = list[Notice]()
    limits = replace(PATIENT, grace=0.0, grace_steps=3, step_seconds=10.0)
    seen = supervise(
        b"{}\n",
        log=log,
        limits=limits,
        command=fake(hanging.finish_the_step),
        must_stop=lambda: any(isinstance(notice, Step) for notice in told),
        on_event=told.append,
    )
    assert (seen.killed, seen.returncode) == (Kill.INTERRUPT, 1)
    assert Stopping(30.0) in told


def test_nothing_is_awaited_from_a_worker_that_has_closed_the_pipe(log: TrialLog) -> None:
    told = list[Notice]()
    seen = supervise(
        b"{}\n",
        log=log,
        limits=replace(PATIENT, grace=PATIENT.deadline, closing=PATIENT.deadline),
        command=fake(hanging.close_the_pipe_and_ignore_sigterm),
        must_stop=lambda: any(isinstance(notice, Step) for notice in told),
        on_event=told.append,
    )
    assert (seen.killed, seen.returncode) == (Kill.INTERRUPT, -signal.SIGKILL)


def test_a_worker_that_closes_the_pipe_must_exit_soon(log: TrialLog) -> None:
    patient = Limits(deadline=60.0, silence=60.0, grace=0.3, closing=0.3)
    seen = observe(hanging.close_the_pipe, log, patient)
    assert (seen.killed, seen.returncode) == (Kill.CLOSED, -signal.SIGKILL)
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
