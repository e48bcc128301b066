"""MLX's memory counters: sampled as a heartbeat and compared with the budget."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import mlx.core as mx

from worker.events import EventPipe
from worker.protocol.messages import Memory, OverBudget, Phase

SAMPLE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class MemoryWatch:
    """Samples active and cache memory, and ends the process when a trial exceeds its budget.

    MLX's own limit is soft: past it, MLX waits and then allocates anyway.
    """

    events: EventPipe
    budget_bytes: int
    sample_seconds: float

    def start(self) -> None:
        """Sample in a daemon thread; `mx.eval` releases the GIL, so sampling never stalls."""
        threading.Thread(target=self._sample, name="memory", daemon=True).start()

    def require(self, nbytes: int, *, planned: bool = False) -> None:
        """End the process as over budget if ``nbytes`` exceed the budget."""
        if nbytes > self.budget_bytes:
            now = self.events.now()
            self.events.finish(OverBudget(now, self.events.phase, nbytes, planned))

    def _sample(self) -> None:
        while True:
            active = mx.get_active_memory()
            self.events.send(Memory(self.events.now(), active, mx.get_cache_memory()))
            # The relaxed phase lowers MLX's limit after an overshoot instead. A training keeps its
            # progress: its limit was measured.
            if self.events.phase not in (Phase.RELAXED, Phase.TRAIN):
                self.require(active)
            time.sleep(self.sample_seconds)


def reset_wired_limit() -> None:
    """Undo mlx-lm's trainer, which wires memory up to Metal's whole working set.

    The measurement had no wired limit, and memory that macOS cannot move has caused kernel panics
    (mlx #3186, #3346, mlx-lm #883). Other backends have no such limit.
    """
    if mx.device_info().get("max_recommended_working_set_size") is not None:
        mx.set_wired_limit(0)
