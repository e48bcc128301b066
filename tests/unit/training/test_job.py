"""The header of a training, and the settings for restarts."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from tests.support.builders import TRAINING_REQUEST
from tests.support.trainings import of_batch_size, training
from your_ai.errors import UsageError
from your_ai.runs.run import read_header
from your_ai.runs.training_results import Setting
from your_ai.supervision.outcome import Outcome, OutcomeKind, Remedy
from your_ai.training.job import (
    Training,
    can_restart,
    can_resume,
    setting_after_failure,
    uses_up_a_restart,
)
from your_ai.units import GB

OOM = Outcome(OutcomeKind.OOM, "the GPU ran out of memory")
SWAPPED = Outcome(OutcomeKind.ERROR, "other programs used up the memory", remedy=Remedy.WAIT)
TOO_MANY_BUFFERS = Outcome(OutcomeKind.ERROR, "too many buffers", remedy=Remedy.FRESH_PROCESS)
STOPPED_BY_MACOS = Outcome(OutcomeKind.CRASH, "took too long", remedy=Remedy.RETRY)
LAST = Setting(6, 4 * GB)


def settings_after_failures(of: Training) -> list[Setting]:
    """Return all settings that follow if no attempt progresses."""
    found = []
    setting = setting_after_failure(of, of.first_setting, OOM, 1)
    while setting is not None:
        found.append(setting)
        setting = setting_after_failure(of, setting, OOM, len(found) + 1)
    return found


def test_micro_batches_increase_before_the_limit_is_lowered() -> None:
    assert settings_after_failures(training()) == [
        Setting(2, 8 * GB),
        Setting(6, 8 * GB),
        Setting(6, 4 * GB),
    ]


@pytest.mark.parametrize(("size", "counts"), [(8, [2, 4, 8]), (5, [5]), (9, [3, 9]), (1, [])])
def test_micro_batches_are_of_equal_size(size: int, counts: list[int]) -> None:
    of = of_batch_size(size, needed_limit_bytes=8 * GB)
    assert [setting.micro_batches for setting in settings_after_failures(of)] == counts


def test_the_last_setting_is_repeated_only_after_progress() -> None:
    assert setting_after_failure(training(), LAST, OOM, fruitless=0) == LAST
    assert setting_after_failure(training(), LAST, OOM, fruitless=1) is None


@pytest.mark.parametrize("outcome", [SWAPPED, TOO_MANY_BUFFERS])
def test_a_setting_that_is_not_the_cause_is_repeated_three_times(outcome: Outcome) -> None:
    first = training().first_setting
    settings = [setting_after_failure(training(), first, outcome, n) for n in range(4)]
    assert settings == [first, first, first, None]
    assert not any(uses_up_a_restart(outcome, n) for n in range(4))


def test_a_setting_is_retried_once_after_a_passing_cause() -> None:
    first = training().first_setting
    settings = [setting_after_failure(training(), first, STOPPED_BY_MACOS, n) for n in range(3)]
    assert settings == [first, first, Setting(2, 8 * GB)]
    assert [uses_up_a_restart(STOPPED_BY_MACOS, n) for n in range(3)] == [False, True, True]


@pytest.mark.parametrize(
    "kind", [OutcomeKind.PASS, OutcomeKind.ERROR, OutcomeKind.OVER_BUDGET, OutcomeKind.INTERRUPTED]
)
def test_other_outcomes_are_final(kind: OutcomeKind) -> None:
    assert not can_restart(Outcome(kind, "why"))


FULL_DISK = Outcome(OutcomeKind.ERROR, "cannot write a checkpoint", remedy=Remedy.USER)


def test_a_full_disk_ends_a_training() -> None:
    assert not can_restart(FULL_DISK)


@pytest.mark.parametrize(
    ("outcome", "saved", "helps"),
    [
        (Outcome(OutcomeKind.INTERRUPTED, "interrupted"), 0, True),
        (OOM, 5, True),
        (OOM, 0, False),
        (FULL_DISK, 5, True),
        (FULL_DISK, 0, True),
        (SWAPPED, 0, True),
        (Outcome(OutcomeKind.ERROR, "no adapter weight changed"), 5, False),
        (Outcome(OutcomeKind.PASS, "all iterations finished"), 5, False),
    ],
)
def test_resuming_helps_unless_the_training_would_fail_again(
    outcome: Outcome, saved: int, helps: bool
) -> None:
    assert can_resume(outcome, saved) is helps


def test_the_request_has_the_setting() -> None:
    request = training().request_with(Setting(3, 5 * GB), resume=True)
    assert (request.micro_batches, request.limit_bytes, request.resume) == (3, 5 * GB, True)
    first = replace(request, micro_batches=1, limit_bytes=8 * GB, resume=False)
    assert first == TRAINING_REQUEST


def test_a_training_is_read_back_from_its_journal() -> None:
    fields = json.loads(json.dumps({"run": asdict(training())}))
    assert read_header(fields, Training) == training()
    with pytest.raises(UsageError, match="another version"):
        read_header({"run": {**fields["run"], "restarts": "many"}}, Training)
