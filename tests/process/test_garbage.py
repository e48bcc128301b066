"""Workers that write on the event pipe what is no event."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.support.fakes import garbling
from tests.support.trials import observe
from your_ai.supervision.outcome import Certainty, OutcomeKind, classify
from your_ai.supervision.trial_log import TrialLog

ONE_LINE = 1000


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        (garbling.write_binary, "not a JSON line"),
        (garbling.write_another_version, "not a message of protocol version"),
        (garbling.write_an_unknown_kind, "unknown type of message"),
        (garbling.write_an_endless_line, "not a JSON line"),
        (garbling.write_bottomless_brackets, "not a JSON line"),
        (garbling.write_after_the_end, "not a JSON line"),
    ],
)
def test_garbage_on_the_pipe_is_a_crash(
    part: Callable[..., None], problem: str, log: TrialLog
) -> None:
    seen = observe(part, log)
    assert seen.corrupt is not None
    assert seen.corrupt.startswith(problem)
    assert len(seen.counted_steps) == garbling.STEPS  # what came before is kept
    outcome = classify(seen, garbling.STEPS)
    assert outcome.kind is OutcomeKind.CRASH
    assert outcome.reason == "the worker sent invalid data"
    assert problem in outcome.evidence
    assert len(outcome.evidence) < ONE_LINE


def test_a_torn_last_line_is_no_result(log: TrialLog) -> None:
    seen = observe(garbling.tear_and_exit, log)
    assert (seen.returncode, seen.corrupt) == (0, None)
    assert len(seen.counted_steps) == garbling.STEPS
    outcome = classify(seen, garbling.STEPS)
    assert outcome.kind is OutcomeKind.CRASH
    assert outcome.evidence == "exit 0 without a result, in phase relaxed"


def test_a_torn_last_line_leaves_a_kill_a_kill(log: TrialLog) -> None:
    seen = observe(garbling.tear_and_be_killed, log)
    assert (seen.returncode, seen.corrupt) == (-signal.SIGKILL, None)
    outcome = classify(seen, garbling.STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.CRASH, Certainty.LOW)
    assert outcome.reason == "the worker was killed by SIGKILL, cause unknown"
