"""Workers that die of a signal: what that proves, and what it does not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.support.fakes import dying
from tests.support.trials import (
    FOREVER,
    events_in,
    observe,
    recorded_worker,
    supervising,
    tiny_request,
    wait_for,
)
from worker.protocol.codec import encode
from worker.protocol.messages import Passed, Started, Step
from your_ai.supervision.classify import classify
from your_ai.supervision.outcome import Certainty, OutcomeKind
from your_ai.supervision.trial_log import TrialLog


def test_sigkill_from_elsewhere_during_real_training(log: TrialLog, tmp_path: Path) -> None:
    spec, tap = tiny_request(FOREVER), tmp_path / "events"
    with supervising(encode(spec), log, recorded_worker(tap)) as supervised:
        wait_for(lambda: events_in(tap, Step), "the first step")
        (started,) = events_in(tap, Started)
        assert isinstance(started, Started)
        os.kill(started.pid, signal.SIGKILL)
        seen = supervised.result()
    assert seen.returncode == -signal.SIGKILL
    assert seen.killed is None
    assert seen.steps
    outcome = classify(seen, spec.steps)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.CRASH, Certainty.LOW)
    assert outcome.reason == "the worker was killed by SIGKILL, cause unknown"


def test_an_abort_with_metals_message_is_an_oom(log: TrialLog) -> None:
    seen = observe(dying.abort_with_metal_message, log)
    assert seen.returncode == -signal.SIGABRT
    outcome = classify(seen, dying.STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.OOM, Certainty.HIGH)
    assert outcome.evidence == dying.METAL_OOM


def test_an_abort_without_a_message_proves_nothing(log: TrialLog) -> None:
    seen = observe(dying.abort_without_message, log)
    assert seen.returncode == -signal.SIGABRT
    outcome = classify(seen, dying.STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.CRASH, Certainty.LOW)
    assert outcome.reason == "the worker was killed by SIGABRT, cause unknown"


def test_a_fault_after_the_final_event_is_a_pass(log: TrialLog) -> None:
    seen = observe(dying.pass_and_segfault, log)
    assert seen.returncode == -signal.SIGSEGV
    outcome = classify(seen, dying.STEPS)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.PASS, Certainty.CERTAIN)
    assert "then SIGSEGV at exit" in outcome.evidence


def test_a_pass_with_missing_steps_is_a_crash(log: TrialLog) -> None:
    seen = observe(dying.pass_without_all_steps, log)
    assert isinstance(seen.final, Passed)
    outcome = classify(seen, dying.STEPS)
    assert outcome.kind is OutcomeKind.CRASH
    assert outcome.evidence == f"{dying.STEPS - 1} of {dying.STEPS} steps were reported"
