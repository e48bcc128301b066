"""Whether a worker makes progress."""

from __future__ import annotations

import pytest

from worker.protocol.messages import (
    Advanced,
    Compiled,
    Device,
    Event,
    Memory,
    Phase,
    PhaseBegan,
    Saved,
    Step,
    Validated,
)
from your_ai.supervision.pace import STALL_STEPS, Pace

LEAST = 300.0
GB = 2**30


def step(seconds: float, compile_seconds: float = 0.0) -> Step:
    return Step(1.0, Phase.TRAIN, 1, seconds, 100, 2.0, GB, compile_seconds)


def after(*events: Event, expected: float | None = None) -> Pace:
    """Return the pace after events that arrived 10 s after another, from 0 s on."""
    pace = Pace(0.0, expected)
    for number, event in enumerate(events):
        pace = pace.after(event, 10.0 * number)
    return pace


def stalled_after(pace: Pace) -> float | None:
    """Return the seconds since the last progress from which the worker is considered hung."""
    for seconds in range(1, 100_000):
        if pace.is_stalled(pace.last + seconds, LEAST):
            return seconds - 1
    return None


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        (after(), None),
        (after(PhaseBegan(1.0, Phase.LOAD)), None),
        (after(expected=0.1), LEAST),
        (after(expected=60.0), STALL_STEPS * 60),
        (after(step(0.1)), LEAST),
        (after(step(20.0), step(40.0)), STALL_STEPS * 30),
        (after(step(20.0), expected=60.0), STALL_STEPS * 60),
        (after(step(90.0), expected=60.0), STALL_STEPS * 90),
        (after(step(1000.0, compile_seconds=980.0)), None),
        (after(step(1000.0, compile_seconds=980.0), step(20.0)), STALL_STEPS * 20),
    ],
)
def test_when_a_worker_is_considered_hung(pace: Pace, expected: float | None) -> None:
    assert stalled_after(pace) == expected


@pytest.mark.parametrize(
    ("event", "is_progress"),
    [
        (step(1.0), True),
        (Advanced(1.0), True),
        (Validated(1.0, 1, 2.0, 3.0), True),
        (Saved(1.0, 1), True),
        (Compiled(1.0), True),
        (Memory(1.0, 2 * GB, 0), True),  # as while loading
        (Memory(1.0, GB, 5 * GB), False),
        (Memory(1.0, 0, 0), False),
    ],
)
def test_what_is_progress(event: Event, is_progress: bool) -> None:
    pace = after(Memory(1.0, GB, 0))
    assert (pace.after(event, 50.0).last == 50.0) is is_progress


def cuda(*events: Event) -> Pace:
    return after(Device(1.0, "cuda", {}, {}), *events)


@pytest.mark.parametrize(
    ("pace", "late_from"),
    [
        (after(), 60.0),
        (after(step(1.0), Compiled(1.0)), 70.0),
        (cuda(), LEAST),  # a kernel may be under way, from 0 s on
        (cuda(Compiled(1.0)), 10.0 + LEAST),
        (cuda(step(5.0, compile_seconds=4.0)), 10.0 + LEAST),
        (cuda(step(5.0)), 60.0),
        (cuda(Compiled(1.0), step(5.0)), 70.0),
    ],
)
def test_when_a_deadline_of_a_minute_has_passed(pace: Pace, late_from: float) -> None:
    late = [s for s in range(400) if pace.is_late(float(s), 60.0, LEAST)]
    assert late[0] == late_from + 1


def test_the_time_for_compiling_is_known() -> None:
    assert after(step(1.0), Compiled(1.0), Memory(1.0, 0, 0), Compiled(1.0)).compiling == 30.0
