"""Which trials a resumed run keeps, repeats and quarantines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from tests.support.builders import observed, passing_events, result, trial
from your_ai.runs.journal import ENDED, STARTED, Record, decode, encode
from your_ai.runs.resume import RunHistory, history_of
from your_ai.runs.trial_record import result_without_worker
from your_ai.supervision.outcome import Outcome, OutcomeKind

TRIAL = trial()
KEY = result(TRIAL).key
SEEN = observed(*passing_events())


def started(boot: str = "a", key: str = KEY) -> Record:
    return Record(STARTED, {"trial": key, "boot": boot})


def ended(kind: OutcomeKind = OutcomeKind.PASS, *, ran: bool = True) -> Record:
    outcome = None if kind is OutcomeKind.PASS else Outcome(kind, "why")
    if ran:
        found = result(TRIAL, SEEN, outcome)
    else:
        found = result_without_worker(TRIAL, Outcome(kind, "why"), "")
    return Record(ENDED, {"trial": found.key, "result": asdict(found)})


def past(*records: Record) -> Any:
    lines = [decode(encode(record)) for record in records]  # in the form of a journal
    return history_of(line for line in lines if line)


def test_the_key_has_the_axes_of_a_search() -> None:
    assert KEY == "01-2x64x2x1024-4"


def test_an_empty_journal_has_no_history() -> None:
    assert past() == RunHistory()


def test_an_ended_trial_keeps_its_result() -> None:
    found = past(started(), ended())
    assert found.final[KEY] == result(TRIAL, SEEN, ended_at=found.final[KEY].ended_at)
    assert found.quarantine(KEY, "b") is None


@pytest.mark.parametrize(
    "kind", sorted(set(OutcomeKind) - {OutcomeKind.INTERRUPTED, OutcomeKind.SKIPPED})
)
def test_trials_that_ended_are_final(kind: OutcomeKind) -> None:
    assert KEY in past(started(), ended(kind)).final


@pytest.mark.parametrize(
    ("kind", "ran"),
    [(OutcomeKind.INTERRUPTED, True), (OutcomeKind.SKIPPED, False), (OutcomeKind.ERROR, False)],
)
def test_stopped_and_unstarted_trials_are_not_final(kind: OutcomeKind, ran: bool) -> None:
    found = past(started(), ended(kind, ran=ran))
    assert found.final == {}
    assert found.quarantine(KEY, "b") is None  # and it does not count as unfinished


def test_the_last_result_counts() -> None:
    found = past(started(), ended(OutcomeKind.INTERRUPTED), started(), ended())
    assert found.final[KEY].outcome is OutcomeKind.PASS
    assert list(found.ended) == [KEY]


def test_a_quarantined_trial_is_final() -> None:
    assert KEY in past(started(), ended(OutcomeKind.CRASH, ran=False)).final


def test_an_unfinished_trial_is_run_once_more() -> None:
    assert past(started()).quarantine(KEY, "a") is None


def test_a_trial_that_did_not_finish_twice_is_quarantined() -> None:
    outcome = past(started(), started()).quarantine(KEY, "a")
    assert outcome.kind is OutcomeKind.CRASH
    assert outcome.certainty == "low"
    assert "2 times" in outcome.reason


def test_a_trial_during_which_the_machine_restarted_is_quarantined() -> None:
    outcome = past(started("a")).quarantine(KEY, "b")
    assert outcome.kind is OutcomeKind.CRASH
    assert outcome.certainty == "low"
    assert outcome.reason.startswith("the machine restarted during this trial")
    assert "boot a" in outcome.evidence


def test_other_trials_are_not_quarantined() -> None:
    found = past(started("a", key="02-2x64x2x1024-4"), started("a", key="02-2x64x2x1024-4"))
    assert found.quarantine(KEY, "b") is None
    assert found.quarantine("02-2x64x2x1024-4", "a") is not None


def test_a_result_clears_earlier_starts() -> None:
    found = past(started(), ended(OutcomeKind.INTERRUPTED), started())
    assert found.quarantine(KEY, "a") is None
