"""Samples MLX's memory counters, as a heartbeat and to enforce the budget."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import mlx.core as mx

from worker import kernels
from worker.events import EventPipe
from worker.protocol.messages import Compiled, Memory, OverBudget, Phase

SAMPLE_SECONDS = 0.1  # in a trial


@dataclass(frozen=True, slots=True)
class MemoryWatch:
    """Samples active and cache memory, and reports new kernels.

    Ends the process if a trial exceeds its budget.

    MLX's own limit is soft: once it is reached, MLX waits and then allocates anyway.
    """

    events: EventPipe
    budget_bytes: int
    sample_seconds: float

    def start(self) -> None:
        """Start sampling in a daemon thread. `mx.eval` releases the GIL, so it does not stall."""
        compiled = kernels.last_compiled()
        threading.Thread(target=self._sample, args=[compiled], name="memory", daemon=True).start()

    def require(self, nbytes: int, *, planned: bool = False) -> None:
        """End the process as over budget if ``nbytes`` is more than the budget."""
        if nbytes > self.budget_bytes:
            now = self.events.now()
            self.events.finish(OverBudget(now, self.events.phase, nbytes, planned))

    def _sample(self, compiled: float) -> None:
        while True:
            if (newest := kernels.last_compiled()) != compiled:
                compiled = newest
                self.events.send(Compiled(self.events.now()))
            active = mx.get_active_memory()
            self.events.send(Memory(self.events.now(), active, mx.get_cache_memory()))
            # In the relaxed phase an overshoot lowers MLX's limit instead. A training has a limit
            # that was measured, and ending it would lose its progress.
            if self.events.phase not in (Phase.RELAXED, Phase.LENGTHS, Phase.TRAIN):
                self.require(active)
            time.sleep(self.sample_seconds)


def reset_wired_limit() -> None:
    """Set MLX's wired limit to 0. mlx-lm's trainer raises it to Metal's whole working set.

    Trials run without a wired limit, and memory that macOS cannot page out has caused kernel panics
    (mlx #3186, #3346, mlx-lm #883). Backends other than Metal have no wired limit.
    """
    if mx.device_info().get("max_recommended_working_set_size") is not None:
        mx.set_wired_limit(0)
