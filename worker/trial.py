"""One trial: load the model, then measure its training in two phases, tight and relaxed."""

from __future__ import annotations

import time

import mlx.core as mx

from worker import loading, lora
from worker.events import EventPipe
from worker.memory import SAMPLE_SECONDS, MemoryWatch
from worker.protocol.messages import Passed, Phase, Step, TrialRequest

TIGHT_STEPS = 10
"""Maximum; the phase ends when the peak has settled. The first step allocates the optimizer's
state, and a busy CPU needs several until two threads overlap at their worst."""

SETTLED = 1.005
"""The largest factor by which the last three steps may raise a peak that has settled."""

RELAXED_ATTEMPTS = 5
"""Limits to try; the last is that of the tight phase, which held."""


def run(request: TrialRequest, events: EventPipe) -> Passed:
    """Load and measure; ends the process over budget, raises EvidenceError without evidence."""
    watch = loading.begin(events, request.budget_bytes, SAMPLE_SECONDS)
    began = time.perf_counter()
    mx.random.seed(request.seed)
    model = loading.load_weights(request.model, request.configuration, watch)
    lora.add_adapters(model, request.configuration)
    trainer = lora.Trainer(model, request)
    loading.send_loaded(events, model, began)
    return _measure(trainer, request, watch, events)


def _measure(
    trainer: lora.Trainer, request: TrialRequest, watch: MemoryWatch, events: EventPipe
) -> Passed:
    """Measure needed memory (tight), then peak memory and speed (relaxed)."""
    budget = request.budget_bytes
    # Beyond Metal's working set macOS swaps or refuses, and the relaxed phase fills its limit.
    ceiling = int(mx.device_info().get("max_recommended_working_set_size") or budget)
    tight_limit = mx.get_active_memory()
    needed = _run_steps(trainer, events, Phase.TIGHT, tight_limit, TIGHT_STEPS, budget)
    watch.require(needed)
    limit, cut, attempts = min(budget, ceiling), 0, 1
    peak = _run_steps(trainer, events, Phase.RELAXED, limit, request.steps, budget)
    while peak > budget and limit > tight_limit:
        limit, cut = lowered(limit, cut, peak - budget, tight_limit)
        attempts += 1
        if attempts == RELAXED_ATTEMPTS:
            limit = tight_limit
        peak = _run_steps(trainer, events, Phase.RELAXED, limit, request.steps, budget)
    watch.require(peak)
    trainer.check()
    # If the last attempt used the tight limit, its steps may have needed slightly less.
    return Passed(events.now(), min(needed, peak), tight_limit, peak, limit)


def lowered(limit: int, cut: int, overshoot: int, floor: int) -> tuple[int, int]:
    """Return the next limit to try and its cut from the present one, in bytes.

    The cut is the overshoot, but at least three times the last cut: on an H200 all limits from 11.6
    to 12.0 GB peaked at 12.10, because the same large tensor met the limit at the same moment.
    """
    cut = max(overshoot, 3 * cut)
    return max(floor, limit - cut), cut


def settled(peaks: list[int]) -> bool:
    """Whether the last three of at least four steps raised the peak by no more than `SETTLED`."""
    return len(peaks) > 3 and peaks[-1] <= SETTLED * peaks[-4]


def _run_steps(
    trainer: lora.Trainer, events: EventPipe, phase: Phase, limit: int, steps: int, budget: int
) -> int:
    """Return the peak of active memory; stops early over budget or when a tight peak settled."""
    events.enter(phase, limit)
    mx.set_memory_limit(limit)
    mx.clear_cache()
    mx.reset_peak_memory()
    peaks: list[int] = []
    for index in range(1, steps + 1):
        if phase is Phase.TIGHT:
            _shift_waits()
        seconds, tokens, loss = trainer.step()
        peaks.append(mx.get_peak_memory())
        events.send(Step(events.now(), phase, index, seconds, tokens, loss, peaks[-1]))
        if peaks[-1] > budget or (phase is Phase.TIGHT and settled(peaks)):
            break
    return peaks[-1]


def _shift_waits() -> None:
    """Shift by one operation where MLX's CPU backend waits within a step.

    It checks its memory limit at every tenth dispatch (DISPATCHES_PER_TASK in MLX's
    backend/cpu/encoder.h), counting across steps. Without the shift, equal steps could all wait at
    the same places and all miss the worst (measured: 9.63, 9.86 or 10.15 MB, by chance).
    """
    mx.eval(mx.zeros(1) + 1)
