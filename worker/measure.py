"""The two phases in which a trial is measured: tight, then relaxed."""

from __future__ import annotations

import mlx.core as mx

from worker.events import EventPipe
from worker.lora import Trainer
from worker.memory import MemoryWatch
from worker.protocol.messages import Passed, Phase, Step, TrialRequest

TIGHT_STEPS = 10
"""At most; fewer when the peak has settled. The first step allocates the optimizer's state, and on
a busy CPU it takes some until two threads have met at their worst."""

SETTLED = 1.005
"""The peak has settled when the last three together raised it by no more than this factor."""

RELAXED_ATTEMPTS = 5
"""How many limits are tried; the last is the tight phase's, which held."""


def measure(
    trainer: Trainer,
    request: TrialRequest,
    watch: MemoryWatch,
    events: EventPipe,
    ceiling_bytes: int | None,
) -> Passed:
    """The tight phase, then the relaxed one, from below: nothing larger than needed is tried first.

    ``ceiling_bytes`` is the most that the device should be given whatever the budget, or ``None``.
    Ends the process as over budget, by way of ``watch``, when the needed memory is more than that.

    Raises:
        EvidenceError: when the steps left no evidence of training behind.
    """

    def run(phase: Phase, limit: int, steps: int) -> int:
        """The peak of MLX's active memory over these steps, cut short once it passes the budget."""
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
            if peaks[-1] > request.budget_bytes or (phase is Phase.TIGHT and _settled(peaks)):
                break
        return peaks[-1]

    tight_limit = mx.get_active_memory()
    needed = run(Phase.TIGHT, tight_limit, TIGHT_STEPS)
    watch.require(needed)
    limit, cut = min(request.budget_bytes, ceiling_bytes or request.budget_bytes), 0
    peak, attempts = run(Phase.RELAXED, limit, request.steps), 1
    while peak > request.budget_bytes and limit > tight_limit:
        limit, cut = lowered(limit, cut, peak - request.budget_bytes, tight_limit)
        attempts += 1
        if attempts == RELAXED_ATTEMPTS:
            limit = tight_limit
        peak = run(Phase.RELAXED, limit, request.steps)
    watch.require(peak)
    trainer.check()
    # Where the tight limit was the last resort, its counted steps may have needed less by a hair.
    return Passed(events.now(), min(needed, peak), tight_limit, peak, limit)


def lowered(limit: int, cut: int, overshoot: int, floor: int) -> tuple[int, int]:
    """The next limit to try and by how much it was cut; all bytes, never below ``floor``.

    By the overshoot, and by at least three times the last cut: on an H200 limits of 11.6 to 12.0 GB
    all peaked at 12.10, the same large tensor meeting the limit at the same moment.
    """
    cut = max(overshoot, 3 * cut)
    return max(floor, limit - cut), cut


def _shift_waits() -> None:
    """Move by one operation the places in a step at which MLX's CPU backend waits.

    It looks at its memory limit at every tenth dispatch (DISPATCHES_PER_TASK in MLX's
    backend/cpu/encoder.h) and counts on from step to step, so that steps of one shape would all
    wait at the same places and all miss the worst (measured: 9.63, 9.86 or 10.15 MB, by chance).
    """
    mx.eval(mx.zeros(1) + 1)


def _settled(peaks: list[int]) -> bool:
    return len(peaks) > 3 and peaks[-1] <= SETTLED * peaks[-4]
