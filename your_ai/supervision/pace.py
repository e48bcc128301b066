"""Judge from a worker's events whether it makes progress: pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from worker.protocol.messages import Compiled, Device, Event, Loaded, Memory, Step

STALL_STEPS = 20
"""A worker hangs if it makes no progress for as long as this many steps should take."""


@dataclass(frozen=True, slots=True)
class Pace:
    """A worker's progress. Times are from `time.monotonic`, durations are in seconds.

    ``expected`` is the duration of a step as measured earlier, ``None`` if unknown. ``last`` is the
    time of the last progress. ``steps`` were finished in ``seconds``, and ``compiling`` is the time
    spent on compiling kernels. ``may_compile`` is true as long as kernels may be compiled that take
    minutes. ``peak_bytes`` is the largest active memory. ``is_loaded`` is true from the end of
    loading on.
    """

    last: float
    expected: float | None = None
    steps: int = 0
    seconds: float = 0.0
    compiling: float = 0.0
    may_compile: bool = False
    peak_bytes: int = 0
    is_loaded: bool = False

    @property
    def step_seconds(self) -> float | None:
        """The duration of a step: the mean or the expected one, whichever is longer."""
        mean = self.seconds / self.steps if self.steps else None
        return max((each for each in (self.expected, mean) if each is not None), default=None)

    def after(self, event: Event, now: float) -> Pace:
        """Return the pace after an event that arrived ``now``.

        All events but a heartbeat are progress. While a model is loaded, its memory grows.
        """
        match event:
            case Memory(active_bytes=active):
                grew = active > self.peak_bytes
                return replace(self, last=now, peak_bytes=active) if grew else self
            case Compiled():
                return replace(self, last=now, compiling=self.compiling + now - self.last)
            case Device(backend="cuda"):
                return replace(self, last=now, may_compile=True)
            case Step() if event.is_timed:
                seconds = self.seconds + event.seconds
                done = replace(self, steps=self.steps + 1, seconds=seconds)
                return replace(done, last=now, may_compile=False)
            case Loaded():
                return replace(self, last=now, is_loaded=True)
        return replace(self, last=now)

    def is_stalled(self, now: float, least_seconds: float) -> bool:
        """Return whether the worker hangs: no progress for `STALL_STEPS` and ``least_seconds``.

        The heartbeat does not count, because it proves only that Python runs: MLX may wait for the
        GPU forever. False if nothing is known about the duration of a step.
        """
        step = self.step_seconds
        return step is not None and now - self.last > max(least_seconds, STALL_STEPS * step)

    def is_late(self, now: float, deadline: float, least_seconds: float) -> bool:
        """Return whether it is past the deadline, which does not include compiling kernels.

        MLX saves a kernel only when it is complete, and one can take more than a minute. So while
        there may be one under way, the worker is late only after ``least_seconds`` without it.
        """
        may_be_compiling = self.may_compile and now - self.last <= least_seconds
        return now > deadline + self.compiling and not may_be_compiling
