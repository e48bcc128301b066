"""The time and peak of a training on data, from the measurements of a trial."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worker.protocol.messages import Phase, Step, Timed
from your_ai.planning.duration import Schedule
from your_ai.planning.training_data import TrainingData, training_data
from your_ai.runs.expected_training import ExpectedTraining, expected_training

SCHEDULE = Schedule(iters=100, steps_per_eval=50, val_batches=-1)


def data(valid: list[int] | None = None) -> TrainingData:
    """Return data with a batch of 65 tokens and three of 33."""
    lengths = [30] * 6 + [60, 10]
    return training_data(
        *("/data", lengths, valid or [], 0.5),
        batch_sizes=[2],
        max_seq_length=2048,
        schedule=SCHEDULE,
    )


def steps(phase: Phase, *seconds: float, peak: int = 100) -> list[Step]:
    return [Step(1.0, phase, i, each, 64, 1.0, peak) for i, each in enumerate(seconds, start=1)]


def timed(length: int, *seconds: float, validation: bool = False, peak: int = 50) -> list[Timed]:
    """Return batches of a length; the first of them is marked."""
    return [
        Timed(2.0, length, each, number == 0, validation, peak)
        for number, each in enumerate(seconds)
    ]


def expect(of: TrainingData, *more: Timed, tight: float = 3.0) -> ExpectedTraining:
    found = expected_training(
        of,
        2,
        steps(Phase.RELAXED, 3.0, 3.0, 30.0),
        steps(Phase.TIGHT, tight),
        [*timed(33, 1.5, 1.0, 1.0, 9.0), *more],
    )
    assert found is not None
    return found


def test_the_time_follows_the_lengths_of_the_batches() -> None:
    found = expect(data())
    assert found.seconds_per_iteration == pytest.approx(0.75 * 1.0 + 0.25 * 3.0)
    first, tokenizing = 2 * 0.5, 4 * 2 * 0.5
    assert found.seconds == pytest.approx(100 * 1.5 + first + tokenizing)
    assert (found.batches_per_epoch, found.validations, found.validation_seconds) == (4, 0, 0.0)


def test_validation_is_added() -> None:
    valid = data([30, 30, 30, 30])
    batches = timed(33, 0.25, 0.25, 0.25, validation=True)
    found = expect(valid, *batches)
    assert found.validations == 3
    assert found.validation_seconds == pytest.approx(3 * 2 * 0.25 + 4 * 0.5)
    assert found.seconds == pytest.approx(expect(valid).seconds + found.validation_seconds)


def test_the_peak_may_be_that_of_validation() -> None:
    batches = timed(33, 1.0, 1.0, validation=True, peak=700)
    assert expect(data([30, 30])).peak_memory_bytes == 100
    assert expect(data([30, 30]), *batches).peak_memory_bytes == 700


@pytest.mark.parametrize(("tight", "factor"), [(6.0, 2.0), (3.0, 1.0), (1.0, 1.0)])
def test_needed_memory_is_slower_in_proportion(tight: float, factor: float) -> None:
    found = expect(data(), tight=tight)
    assert found.seconds_at_needed_memory == pytest.approx(factor * found.seconds)


def test_steps_that_compiled_kernels_are_not_counted() -> None:
    compiling = [replace(each, compile_seconds=1.0) for each in timed(33, 100.0)]
    assert expect(data(), *compiling).seconds == pytest.approx(expect(data()).seconds)


def test_without_a_batch_of_that_size_nothing_is_expected() -> None:
    assert expected_training(data(), 64, steps(Phase.RELAXED, 1.0), [], []) is None
