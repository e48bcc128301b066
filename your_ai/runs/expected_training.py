"""How long a training on the user's data takes, from the measurements of a trial: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from worker.protocol.messages import Step, Timed
from your_ai.planning.duration import StepTimes, expected
from your_ai.planning.training_data import TrainingData


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedTraining:
    """What `mlx_lm.lora` is expected to take for a training with this configuration and data."""

    iters: int
    """Number of iterations."""
    batches_per_epoch: int
    """Number of batches in the training data."""
    seconds: float
    """Time from the first iteration to the end, with validation and without a memory limit."""
    seconds_at_needed_memory: float
    """The same under the lowest memory limit."""
    validations: int
    """How often the validation set is evaluated."""
    validation_seconds: float
    """How much of the time all validations take."""
    seconds_per_iteration: float
    """Average duration of a training step."""
    peak_memory_bytes: int
    """Peak memory in bytes, in training or validation, whichever is larger."""


def expected_training(
    data: TrainingData,
    batch_size: int,
    relaxed: Sequence[Step],
    tight: Sequence[Step],
    timed: Sequence[Timed],
) -> ExpectedTraining | None:
    """Return the expectation from the steps of a trial that passed.

    ``relaxed`` and ``tight`` are the steps of full length, ``timed`` the batches of others.
    ``None`` if the data has no batch of that size.
    """
    train, schedule = data.train_of(batch_size), data.schedule
    if train is None or not relaxed:
        return None
    full = _typical(step for step in relaxed if step.is_timed) or _typical(relaxed)
    steps = _times([each for each in timed if not each.is_validation], {data.seq_length: full})
    validation = [each for each in timed if each.is_validation]
    found = expected(
        schedule,
        train,
        steps,
        data.valid_of(batch_size) if validation else None,
        _times(validation, {}) if validation else None,
        data.seconds_per_sample * batch_size,
    )
    slower = max(1.0, (_typical(tight) or full) / full)
    training = found.seconds - found.validation_seconds
    peaks = [*(step.peak_bytes for step in relaxed), *(each.peak_bytes for each in timed)]
    return ExpectedTraining(
        iters=schedule.iters,
        batches_per_epoch=train.number,
        seconds=found.seconds,
        seconds_at_needed_memory=training * slower + found.validation_seconds,
        validations=schedule.validations if validation else 0,
        validation_seconds=found.validation_seconds,
        seconds_per_iteration=found.seconds_per_iteration,
        peak_memory_bytes=max(peaks),
    )


def _times(timed: Sequence[Timed], full: dict[int, float]) -> StepTimes:
    """Return the times by length; ``full`` has that of full length, if it was measured."""
    lengths = {each.seq_length for each in timed}
    by_length = dict(full)
    extra = []
    for length in lengths:
        own = [each for each in timed if each.seq_length == length]
        later = [each for each in own if not each.is_first]
        clean = [each for each in later if not each.compile_seconds]
        by_length[length] = _typical(clean) or _typical(later)
        # What is compiled stays on the disk, so a later training does not compile it again.
        firsts = [each for each in own if each.is_first and not each.compile_seconds]
        extra += [sum(max(0.0, each.seconds - by_length[length]) for each in firsts)]
    return StepTimes(by_length, fmean(extra) if extra else 0.0)


def _typical(measured: Iterable[Step | Timed]) -> float:
    """Return the median duration, which one slow step does not change; 0 of nothing."""
    return median([each.seconds for each in measured] or [0.0])
