"""Workers that write invalid data to the event pipe."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.support.fakes import garbling
from tests.support.trials import observe
from your_ai.supervision.classify import classify
from your_ai.supervision.outcome import Certainty, OutcomeKind
from your_ai.supervision.trial_log import TrialLog

ONE_LINE = 1000


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        (garbling.write_binary, "not a JSON line"),
        (garbling.write_another_version, "not a message of protocol version"),
        (garbling.write_an_unknown_type, "unknown message type"),
        (garbling.write_an_endless_line, "not a JSON line"),
        (garbling.write_deeply_nested_json, "not a JSON line"),
        (garbling.write_after_the_end, "not a JSON line"),
    ],
)
def test_garbage_on_the_pipe_is_a_crash(
    part: Callable[..., None], problem: str, log: TrialLog
) -> None:
    seen = observe(part, log)
    assert seen.corrupt is not None
    assert seen.corrupt.startswith(problem)
    assert len(seen.counted_steps) == garbling.STEPS  # earlier events are kept
    outcome = classify(seen, garbling.STEPS)
    assert outcome.kind is OutcomeKind.CRASH
    assert outcome.reason == "the worker sent invalid data"
    assert problem in outcome.evidence
    assert len(outcome.evidence) < ONE_LINE


def test_an_incomplete_last_line_is_not_a_result(log: TrialLog) -> None:
    seen = observe(garbling.exit_in_the_middle_of_a_line, log)
    assert (seen.returncode, seen.corrupt) == (0, None)
    assert len(seen.counted_steps) == garbling.STEPS
    outcome = classify(seen, garbling.STEPS)
    assert outcome.kind is OutcomeKind.CRASH
    assert outcome.evidence == "exit 0 without a result, in phase relaxed"


def test_an_incomplete_last_line_does_not_hide_a_kill(log: TrialLog) -> None:
    seen = observe(garbling.die_in_the_middle_of_a_line, log)
    assert (seen.returncode, seen.corrupt) == (-signal.SIGKILL, None)
    outcome = classify(seen, garbling.STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.CRASH, Certainty.LOW)
    assert outcome.reason == "the worker was killed by SIGKILL, cause unknown"
