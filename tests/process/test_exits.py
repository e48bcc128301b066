"""Workers that exit before they have finished."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.fakes import dying
from tests.support.trials import PATIENT, fake, observe
from your_ai.errors import MachineError
from your_ai.supervision.classify import classify
from your_ai.supervision.outcome import OutcomeKind
from your_ai.supervision.probe import probe_device
from your_ai.supervision.supervisor import supervise
from your_ai.supervision.trial_log import TrialLog

MORE_THAN_A_PIPE_HOLDS = b'{"padding":"' + b"x" * 2**21 + b'"}\n'


def test_exit_0_without_a_result_is_never_a_pass(log: TrialLog) -> None:
    seen = observe(dying.exit_without_a_result, log)
    assert (seen.returncode, len(seen.counted_steps)) == (0, dying.STEPS)
    outcome = classify(seen, dying.STEPS)
    assert outcome.kind is OutcomeKind.CRASH
    assert outcome.reason == "the worker ended without a result"
    assert outcome.evidence == "exit 0 without a result, in phase relaxed"


def test_the_reason_for_a_failed_exit_is_the_last_line_of_the_log(log: TrialLog) -> None:
    seen = observe(dying.exit_with_a_traceback, log)
    assert seen.returncode == 3
    outcome = classify(seen, dying.STEPS)
    assert outcome.kind is OutcomeKind.CRASH
    assert outcome.reason.endswith(": RuntimeError: the disk went away")
    assert outcome.evidence == "exit 3 without a result, in phase load"


@pytest.mark.parametrize("request_bytes", [b"{}\n", MORE_THAN_A_PIPE_HOLDS], ids=["small", "large"])
def test_a_worker_that_dies_before_reading_its_request(log: TrialLog, request_bytes: bytes) -> None:
    command = fake(dying.exit_before_reading)
    seen = supervise(request_bytes, log=log, limits=PATIENT, command=command)
    assert (seen.returncode, seen.events) == (1, ())
    outcome = classify(seen, dying.STEPS)
    assert outcome.kind is OutcomeKind.CRASH
    assert outcome.reason.endswith(": cannot start")


def test_an_exception_in_a_real_worker_is_its_final_event(log: TrialLog) -> None:
    """The lifeline thread must not turn an exception into an abort when the interpreter exits."""
    seen = supervise(b"no spec\n", log=log, limits=PATIENT)
    assert seen.returncode == 1, seen.log_tail
    outcome = classify(seen, dying.STEPS)
    assert outcome.kind is OutcomeKind.CRASH
    assert outcome.reason.endswith("ProtocolError: not a JSON line")


def test_the_probe_reports_a_broken_mlx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlx").mkdir()
    (tmp_path / "mlx/__init__.py").write_text("raise ImportError('libmlx.so is not there')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(MachineError, match=r"\(ImportError: libmlx.so is not there\)"):
        probe_device()
