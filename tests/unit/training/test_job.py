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
from your_ai.training.job import Training, setting_after_failure
from your_ai.units import GB


def settings_after_failures(of: Training) -> list[Setting]:
    """Return all settings that follow if no attempt progresses."""
    found = []
    setting = setting_after_failure(of, of.first_setting, progressed=False)
    while setting is not None:
        found.append(setting)
        setting = setting_after_failure(of, setting, progressed=False)
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
    last = Setting(6, 4 * GB)
    assert setting_after_failure(training(), last, progressed=True) == last
    assert setting_after_failure(training(), last, progressed=False) is None


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
