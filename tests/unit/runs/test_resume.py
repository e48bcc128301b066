"""What a resumed run takes over, runs again, and leaves alone."""

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
    lines = [decode(encode(record)) for record in records]  # as a journal keeps them
    return history_of(line for line in lines if line)


def test_the_key_has_what_a_search_varies() -> None:
    assert KEY == "01-2x64x2"


def test_nothing_written_nothing_past() -> None:
    assert past() == RunHistory()


def test_an_ended_trial_keeps_its_result() -> None:
    found = past(started(), ended())
    assert found.final[KEY] == result(TRIAL, SEEN, ended_at=found.final[KEY].ended_at)
    assert found.quarantine(KEY, "b") is None


@pytest.mark.parametrize(
    "kind", sorted(set(OutcomeKind) - {OutcomeKind.INTERRUPTED, OutcomeKind.SKIPPED})
)
def test_whatever_was_run_to_its_end_is_done(kind: OutcomeKind) -> None:
    assert KEY in past(started(), ended(kind)).final


@pytest.mark.parametrize(
    ("kind", "ran"),
    [(OutcomeKind.INTERRUPTED, True), (OutcomeKind.SKIPPED, False), (OutcomeKind.ERROR, False)],
)
def test_what_was_stopped_or_never_run_is_not(kind: OutcomeKind, ran: bool) -> None:
    found = past(started(), ended(kind, ran=ran))
    assert found.final == {}
    assert found.quarantine(KEY, "b") is None  # nor is it one that never ended


def test_the_last_end_counts() -> None:
    found = past(started(), ended(OutcomeKind.INTERRUPTED), started(), ended())
    assert found.final[KEY].outcome is OutcomeKind.PASS
    assert list(found.ended) == [KEY]


def test_a_quarantined_one_is_done() -> None:
    assert KEY in past(started(), ended(OutcomeKind.CRASH, ran=False)).final


def test_one_that_never_ended_is_run_once_more() -> None:
    assert past(started()).quarantine(KEY, "a") is None


def test_one_that_never_ended_twice_is_not() -> None:
    outcome = past(started(), started()).quarantine(KEY, "a")
    assert outcome.kind is OutcomeKind.CRASH
    assert outcome.certainty == "low"
    assert "2 times" in outcome.reason


def test_one_during_which_the_machine_restarted_is_not() -> None:
    outcome = past(started("a")).quarantine(KEY, "b")
    assert outcome.kind is OutcomeKind.CRASH
    assert outcome.certainty == "low"
    assert outcome.reason.startswith("the machine restarted during this trial")
    assert "boot a" in outcome.evidence


def test_others_are_not_suspected() -> None:
    found = past(started("a", key="02-2x64x2"), started("a", key="02-2x64x2"))
    assert found.quarantine(KEY, "b") is None
    assert found.quarantine("02-2x64x2", "a") is not None


def test_an_end_clears_the_starts_before_it() -> None:
    found = past(started(), ended(OutcomeKind.INTERRUPTED), started())
    assert found.quarantine(KEY, "a") is None
