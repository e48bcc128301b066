"""The time of a training, from measured steps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from your_ai.planning.batches import Batches
from your_ai.planning.duration import Schedule, StepTimes, expected
from your_ai.planning.lora_config import LoraConfig


def mlx_lm_validations(schedule: Schedule) -> Iterator[int]:
    """Yield the iterations before which `train` in mlx_lm/tuner/trainer.py validates."""
    for it in range(1, schedule.iters + 1):
        if it == 1 or it % schedule.steps_per_eval == 0 or it == schedule.iters:
            yield it


@given(st.integers(1, 300), st.integers(1, 320))
def test_validations_are_those_of_mlx_lm(iters: int, steps_per_eval: int) -> None:
    schedule = Schedule(iters, steps_per_eval)
    assert schedule.validations == len([*mlx_lm_validations(schedule)])


@pytest.mark.parametrize(("most", "number"), [(25, 10), (4, 4), (-1, 10), (0, 0)])
def test_a_validation_has_a_limited_number_of_batches(most: int, number: int) -> None:
    assert Schedule(val_batches=most).validation_batches(Batches(1, ((33, 10),))) == number


@pytest.mark.parametrize(
    ("length", "seconds"), [(100, 1.0), (150, 1.5), (200, 2.0), (300, 4.0), (50, 0.5), (400, 6.0)]
)
def test_times_between_measured_lengths_are_interpolated(length: int, seconds: float) -> None:
    times = StepTimes({100: 1.0, 300: 4.0, 200: 2.0})
    assert times.at(length) == pytest.approx(seconds)


def test_a_single_measured_length_is_scaled() -> None:
    assert StepTimes({200: 2.0}).at(100) == pytest.approx(1.0)


def test_extrapolation_is_never_negative() -> None:
    assert StepTimes({100: 0.1, 200: 10.0}).at(33) == 0.0


def test_the_time_has_training_validation_tokenizing_and_first_steps() -> None:
    schedule = Schedule(iters=100, steps_per_eval=50, val_batches=-1)
    train, valid = Batches(2, ((33, 10), (65, 10))), Batches(2, ((33, 4),))
    found = expected(
        schedule,
        train,
        StepTimes({33: 1.0, 65: 3.0}, first=0.5),
        valid,
        StepTimes({33: 0.25}),
        tokenizing=0.1,
    )
    validation = 3 * 4 * 0.25 + 4 * 0.1  # before 1, 50 and 100; each sample is tokenized once
    assert found.validation_seconds == pytest.approx(validation)
    assert found.seconds == pytest.approx(100 * 2.0 + 2 * 0.5 + 20 * 0.1 + validation)
    assert found.seconds_per_iteration == pytest.approx(2.0)


def test_a_training_shorter_than_an_epoch_may_not_meet_every_length() -> None:
    train = Batches(1, ((33, 99), (65, 1)))
    times = StepTimes({33: 0.0, 65: 0.0}, first=1.0)
    assert expected(Schedule(iters=50), train, times).seconds == pytest.approx(1.5)
    assert expected(Schedule(iters=100), train, times).seconds == pytest.approx(2.0)


def test_the_default_schedule_is_that_of_mlx_lm() -> None:
    plain = LoraConfig()  # compared with mlx-lm in tests/unit/worker/test_lora_config.py
    assert Schedule() == Schedule(plain.iters, plain.steps_per_eval, plain.val_batches)
