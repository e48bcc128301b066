"""Runs one trial: loads the model, then measures training in two phases, tight and relaxed."""

from __future__ import annotations

import time

import mlx.core as mx

from worker import adapters, device, kernel_limits, loading, timing, trainer
from worker.events import EventPipe
from worker.memory import SAMPLE_SECONDS, MemoryWatch
from worker.protocol.messages import Passed, Phase, Step
from worker.protocol.requests import TrialRequest

TIGHT_STEPS = 10
"""Maximum number of tight steps; the phase ends earlier once the peak has settled. The first step
allocates the optimizer's state, so the second one has a higher peak."""

SETTLED = 1.005
"""A peak has settled if the last steps raised it by at most this factor."""

SETTLING_STEPS = {"cuda": 1, "metal": 3, "cpu": 3}
"""Number of steps that must not raise a settled peak.

On CUDA steps usually peak alike: of ten trials of three models each, one needed 1.5% more than the
others. On the CPU the peak depends on where MLX waits (see `_shift_waits`). Metal has not been
measured.
"""

RELAXED_ATTEMPTS = 5
"""Maximum number of memory limits to try. The last is the tight phase's, which is known to hold."""


def run(request: TrialRequest, events: EventPipe) -> Passed:
    """Load the model, measure its training and return the result.

    Ends the process if memory use exceeds the budget. Raises UnsupportedTrainingError if the model
    cannot be trained like that, and EvidenceError if the losses and weights do not show that it
    was.
    """
    watch = loading.begin(events, request.budget_bytes, SAMPLE_SECONDS)
    began = time.perf_counter()
    mx.random.seed(request.seed)
    model = loading.load_weights(request.model, request.configuration, watch)
    kernel_limits.check(model, request.configuration, device.backend())
    keys = adapters.prepare(model, request.configuration)
    mx.eval(model.parameters())
    training = trainer.Trainer(model, request)
    loading.send_loaded(events, model, keys, began)
    return _measure(training, request, watch, events)


def _measure(
    training: trainer.Trainer, request: TrialRequest, watch: MemoryWatch, events: EventPipe
) -> Passed:
    """Measure needed memory (tight), then peak memory and speed (relaxed)."""
    budget = request.budget_bytes
    # The relaxed phase uses memory up to its limit, and beyond Metal's working set macOS swaps or
    # refuses to allocate.
    ceiling = int(mx.device_info().get("max_recommended_working_set_size") or budget)
    tight_limit = mx.get_active_memory()
    needed = _run_steps(training, events, Phase.TIGHT, tight_limit, TIGHT_STEPS, budget)
    watch.require(needed)
    limit, cut, attempts = min(budget, ceiling), 0, 1
    peak = _run_steps(training, events, Phase.RELAXED, limit, request.steps, budget)
    while peak > budget and limit > tight_limit:
        limit, cut = lowered(limit, cut, peak - budget, tight_limit)
        attempts += 1
        if attempts == RELAXED_ATTEMPTS:
            limit = tight_limit
        peak = _run_steps(training, events, Phase.RELAXED, limit, request.steps, budget)
    watch.require(peak)
    training.check()
    timing.time_lengths(training, request, events, limit)
    # If the last attempt used the tight limit, it may have peaked slightly lower.
    return Passed(events.now(), min(needed, peak), tight_limit, peak, limit)


def lowered(limit: int, cut: int, overshoot: int, floor: int) -> tuple[int, int]:
    """Return the next memory limit to try and its difference from ``limit`` (the cut), in bytes.

    The cut is the overshoot, but at least three times the previous cut: on an H200 all limits from
    11.6 to 12.0 GB peaked at 12.10 GB, because the same large allocation exceeded them.
    """
    cut = max(overshoot, 3 * cut)
    return max(floor, limit - cut), cut


def settled(peaks: list[int], steps: int) -> bool:
    """Return whether the last ``steps`` hardly raised the peak."""
    return len(peaks) > steps and peaks[-1] <= SETTLED * peaks[-1 - steps]


def _run_steps(
    training: trainer.Trainer, events: EventPipe, phase: Phase, limit: int, steps: int, budget: int
) -> int:
    """Return the peak of active memory.

    Stops early if the peak exceeds the budget or, in the tight phase, has settled.
    """
    events.enter(phase, limit)
    mx.set_memory_limit(limit)
    mx.clear_cache()
    mx.reset_peak_memory()
    # Only one of the accumulated batches updates the weights.
    settling = max(SETTLING_STEPS[device.backend()], training.accumulated)
    peaks: list[int] = []
    for index in range(1, steps + 1):
        if phase is Phase.TIGHT:
            _shift_waits()
        seconds, compiling, tokens, loss = training.step()
        peaks.append(mx.get_peak_memory())
        events.send(Step(events.now(), phase, index, seconds, tokens, loss, peaks[-1], compiling))
        if peaks[-1] > budget or (phase is Phase.TIGHT and settled(peaks, settling)):
            break
    return peaks[-1]


def _shift_waits() -> None:
    """Run one extra operation, so that MLX's CPU backend waits at other places in the next step.

    The backend checks its memory limit at every tenth dispatch (DISPATCHES_PER_TASK in MLX's
    backend/cpu/encoder.h) and counts across steps. Without the extra operation, all steps could
    check at the same places and miss the highest peak (measured: 9.63, 9.86 or 10.15 MB by chance).
    """
    mx.eval(mx.zeros(1) + 1)
