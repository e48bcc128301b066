"""MLX's memory counters: sampled as a heartbeat, and held against the budget."""

from __future__ import annotations

import threading
import time

import mlx.core as mx

from worker.events import EventPipe
from worker.protocol.messages import Memory, OverBudget, Phase

SAMPLE_SECONDS = 0.1


class MemoryWatch:
    """Samples active and cache memory, and ends a trial that passes its budget.

    MLX's own limit is soft: past it MLX waits and then allocates all the same. So in the phases in
    which the budget must hold, the worker ends itself.
    """

    def __init__(
        self, events: EventPipe, budget_bytes: int, seconds: float = SAMPLE_SECONDS
    ) -> None:
        self._events = events
        self._seconds = seconds
        self._budget_bytes = budget_bytes

    def start(self) -> None:
        """Sample from a daemon thread; `mx.eval` releases the GIL, so it never stalls."""
        threading.Thread(target=self._sample, name="memory", daemon=True).start()

    def require(self, nbytes: int, *, planned: bool = False) -> None:
        """End the trial as over budget if ``nbytes`` are more than the budget."""
        if nbytes > self._budget_bytes:
            now = self._events.now()
            self._events.finish(OverBudget(now, self._events.phase, nbytes, planned))

    def _sample(self) -> None:
        while True:
            active = mx.get_active_memory()
            self._events.send(Memory(self._events.now(), active, mx.get_cache_memory()))
            # The relaxed phase corrects an overshoot by lowering MLX's limit instead, and a real
            # training is not thrown away for one: the limit was measured.
            if self._events.phase not in (Phase.RELAXED, Phase.TRAIN):
                self.require(active)
            time.sleep(self._seconds)


def leave_wired_limit() -> None:
    """Take back that mlx-lm's trainer raised the wired limit, to Metal's whole working set.

    What was measured had none; and memory that macOS may not move is what panics were reported of
    (mlx #3186, #3346, mlx-lm #883). Elsewhere there is no such limit.
    """
    if mx.device_info().get("max_recommended_working_set_size") is not None:
        mx.set_wired_limit(0)
