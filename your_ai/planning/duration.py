"""How long a training takes, from the measured times of steps at a few lengths: pure.

Lengths are in tokens, times in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from your_ai.planning.batches import Batches


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long mlx_lm.lora trains, and when it validates; the defaults are its own.

    ``val_batches`` is the most batches per validation, -1 for all.
    """

    iters: int = 1000
    steps_per_eval: int = 200
    val_batches: int = 25

    @property
    def validations(self) -> int:
        """The number of validations: before the first, every ``steps_per_eval``, and the last."""
        every = self.iters // self.steps_per_eval
        extra = {1, self.iters} - {n for n in (1, self.iters) if n % self.steps_per_eval == 0}
        return every + len(extra)

    def validation_batches(self, batches: Batches) -> float:
        """Return how many batches a validation has."""
        return batches.number if self.val_batches == -1 else min(self.val_batches, batches.number)


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Measured times of a step. ``by_length`` maps lengths to times.

    ``first`` is how much longer the first step of a length takes, since MLX traces it anew.
    """

    by_length: Mapping[int, float]
    first: float = 0.0

    def at(self, length: int) -> float:
        """Return the time at a length: on the line between the nearest two measured ones.

        Below the shortest it is on the line to the origin of the nearest two, but never negative.
        """
        known = sorted(self.by_length.items())
        if len(known) == 1:
            return known[0][1] * length / known[0][0]
        segment = next((pair for pair in pairwise(known) if length <= pair[1][0]), known[-2:])
        (shorter, low), (longer, high) = segment
        slope = (high - low) / (longer - shorter)
        return max(low + slope * (length - shorter), 0.0)

    def mean(self, batches: Batches) -> float:
        """Return the mean time over the batches of an epoch."""
        total = sum(count * self.at(length) for length, count in batches.counts)
        return total / batches.number

    def first_steps(self, batches: Batches, drawn: float) -> float:
        """Return the extra time for lengths that occur for the first time.

        So many batches are ``drawn``. A length with ``count`` of all batches is missing among them
        with a probability of about (1 - drawn / all) ** count.
        """
        rest = max(0.0, 1 - drawn / batches.number)
        return self.first * sum(1 - rest**count for _, count in batches.counts)


@dataclass(frozen=True, slots=True)
class Duration:
    """How long a training is expected to take, in seconds."""

    seconds: float
    """From the first iteration to the end, with validation."""
    validation_seconds: float
    """How much of this all validations take."""
    seconds_per_iteration: float
    """Average duration of a training step."""


def expected(
    schedule: Schedule,
    train: Batches,
    steps: StepTimes,
    valid: Batches | None = None,
    validation: StepTimes | None = None,
    tokenizing: float = 0.0,
) -> Duration:
    """Return how long a training takes.

    ``tokenizing`` is the time for the samples of one batch: mlx-lm tokenizes them when they are
    first drawn.
    """
    drawn = min(schedule.iters, train.number)
    each = steps.mean(train)
    training = schedule.iters * each + steps.first_steps(train, drawn) + drawn * tokenizing
    validating = 0.0
    if valid and valid.number and validation:
        per_validation = schedule.validation_batches(valid)
        total = schedule.validations * per_validation
        seen = min(total, valid.number)
        validating = total * validation.mean(valid) + seen * tokenizing
        validating += validation.first_steps(valid, seen) if per_validation else 0.0
    return Duration(training + validating, validating, each)
