"""Times steps and validation at several sequence lengths, after the memory of a trial is known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import mlx.core as mx
from mlx_lm.tuner.trainer import default_loss

from worker.events import EventPipe
from worker.kernels import Stopwatch
from worker.protocol.messages import Phase, Timed
from worker.protocol.requests import TrialRequest
from worker.trainer import Batch, Trainer, full_batches

STEPS, MAX_STEPS = 3, 20
"""Number of timed batches of each length, after the first: at least, and at most."""

_ENOUGH_SECONDS = 2.0
"""More batches than necessary are timed only until this time is over, because short ones vary."""


def time_lengths(training: Trainer, request: TrialRequest, events: EventPipe, limit: int) -> None:
    """Time what the request asks for, under MLX's memory ``limit``, which is already set."""
    if not (request.lengths or request.validation_lengths):
        return
    events.enter(Phase.LENGTHS, limit)
    mx.clear_cache()
    mx.reset_peak_memory()
    _time_steps(training, request, events)
    mx.reset_peak_memory()
    _time_validation(training, request, events)


def _time_steps(training: Trainer, request: TrialRequest, events: EventPipe) -> None:
    # MLX compiles the step twice per length if only every other one updates the weights.
    first = training.accumulated
    for number, length, batch in _rounds(training, request, request.lengths, first):
        seconds, compiling, _, _ = training.step(batch)
        _report(events, length, seconds, number < first, False, compiling)


def _time_validation(training: Trainer, request: TrialRequest, events: EventPipe) -> None:
    """Time batches as in mlx-lm's `evaluate`."""
    training.model.eval()
    for number, length, batch in _rounds(training, request, request.validation_lengths, 1):
        watch = Stopwatch()
        loss, tokens = default_loss(training.model, *batch)
        mx.eval(loss * tokens, tokens)
        mx.clear_cache()
        seconds, compiling = watch.seconds()
        _report(events, length, seconds, number == 0, True, compiling)
    training.model.train()


def _rounds(
    training: Trainer, request: TrialRequest, lengths: tuple[int, ...], first: int
) -> Iterator[tuple[int, int, Batch]]:
    """Yield the number of the round, a length and a batch of it; ``first`` rounds do not count.

    The lengths take turns as in a training, so that a slow moment does not affect only one of them.
    """
    sizes = {length: replace(request.configuration, seq_length=length) for length in lengths}
    batches = {
        length: full_batches(replace(request, configuration=size), training.model)
        for length, size in sizes.items()
    }
    began = time.perf_counter()
    for number in range(first + MAX_STEPS):
        if number >= first + STEPS and time.perf_counter() - began > _ENOUGH_SECONDS:
            return
        for length in lengths:
            yield number, length, next(batches[length])


def _report(
    events: EventPipe,
    length: int,
    seconds: float,
    is_first: bool,
    is_validation: bool,
    compiling: float,
) -> None:
    peak = mx.get_peak_memory()
    now = events.now()
    events.send(Timed(now, length, seconds, is_first, is_validation, peak, compiling))
