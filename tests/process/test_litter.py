"""Workers that flood the log or start processes."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable

import pytest

from tests.support.fakes import littering
from tests.support.trials import is_gone, observe, wait_for
from your_ai.supervision.classify import classify
from your_ai.supervision.observation import Kill, Observation
from your_ai.supervision.outcome import OutcomeKind
from your_ai.supervision.supervisor import Limits
from your_ai.supervision.trial_log import LIMIT_BYTES, TrialLog

PROMPT_SECONDS = 10.0
HANGING = Limits(deadline=60.0, silence=1.0, grace=5.0)


def test_a_flood_of_output_is_trimmed_to_its_tail(log: TrialLog) -> None:
    # The worker waits for the log to be trimmed before each burst, so its end proves the trimming.
    seen = observe(littering.flood, log)
    assert classify(seen, littering.STEPS).kind is OutcomeKind.PASS
    assert log.path.stat().st_size <= LIMIT_BYTES
    assert seen.log_tail.endswith(f"{littering.LAST_WORDS}\n")
    written = littering.BURSTS * littering.BURST_BYTES
    assert seen.log_discarded_bytes > written / 2  # output between two checks is not counted
    assert "bytes dropped]" in log.path.read_text(errors="replace")


def test_a_flood_at_the_end_is_trimmed(log: TrialLog) -> None:
    seen = observe(littering.flood_when_asked_to_end, log, HANGING)
    assert seen.killed is Kill.SILENCE
    assert log.path.stat().st_size <= LIMIT_BYTES
    assert seen.log_tail.endswith(f"{littering.LAST_WORDS}\n")
    assert seen.log_discarded_bytes > littering.BURST_BYTES / 2


@pytest.mark.parametrize(
    "part", [littering.leave_a_grandchild, littering.leave_a_grandchild_on_the_pipe]
)
def test_a_grandchild_is_killed_with_the_worker(part: Callable[..., None], log: TrialLog) -> None:
    seen = observe(part, log)
    assert seen.killed is None
    assert classify(seen, littering.STEPS).kind is OutcomeKind.PASS
    assert seen.wall_seconds < PROMPT_SECONDS
    _await_end_of(_grandchild(seen))


def test_a_daemon_that_holds_the_pipe_is_not_waited_for(log: TrialLog) -> None:
    seen = observe(littering.leave_a_daemon_on_the_pipe, log)
    daemon = _grandchild(seen)
    try:
        assert not is_gone(daemon)  # it left the process group
        assert classify(seen, littering.STEPS).kind is OutcomeKind.PASS
        assert seen.wall_seconds < PROMPT_SECONDS
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_a_grandchild_is_killed_with_a_killed_worker(log: TrialLog) -> None:
    seen = observe(littering.leave_a_grandchild_and_hang, log, HANGING)
    assert seen.killed is Kill.SILENCE
    assert seen.wall_seconds < PROMPT_SECONDS
    _await_end_of(_grandchild(seen))


def _grandchild(seen: Observation) -> int:
    said = re.search(r"grandchild (\d+)", seen.log_tail)
    assert said is not None
    return int(said[1])


def _await_end_of(pid: int) -> None:
    """Wait until a killed process is gone, which depends on init."""
    wait_for(lambda: is_gone(pid), f"the end of {pid}", within=1.0)
