"""What was observed of a worker, from its start to its end: facts, without interpretation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from worker.protocol.messages import Device, Event, FinalEvent, Phase, PhaseBegan, Step

T = TypeVar("T", bound=Event)


class Kill(StrEnum):
    """Why the supervisor ended a worker."""

    DEADLINE = "deadline"
    SILENCE = "silence"
    STALL = "stall"
    INTERRUPT = "interrupt"
    CORRUPT = "corrupt"
    MEMORY = "memory"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Stopping:
    """The user stopped the worker, which may take up to ``seconds`` to save its work."""

    seconds: float


Notice = Event | Stopping
"""What is shown and recorded of a running worker."""


@dataclass(frozen=True, slots=True)
class FootprintSample:
    """The worker's footprint ``at`` seconds after its start."""

    at: float
    footprint_bytes: int


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything that was observed of one worker.

    Attributes:
        events: The events that were kept, in order; always with the last one.
        returncode: As in `subprocess`; negative for a signal.
        wall_seconds: Time from the start of the process until it was reaped.
        start_seconds: Time from the start of the process to its first event. The times in events
            count from about then.
        killed: Why the supervisor ended the worker, if it did.
        corrupt: The first line on the event pipe that was not an event.
        idle_seconds: Time since the worker made progress.
        step_seconds: How long a step takes; ``None`` if unknown.
        oom_kills: The kernel's OOM kills in the worker's cgroup; ``None`` if they are not counted.
        machine_oom_kills: The kernel's OOM kills on the whole machine, likewise.
        memory_limited: Whether the worker's address space was limited (RLIMIT_AS).
        pressure: The most severe memory pressure that macOS reported.
        final_pressure: The most severe one in the last minute.
        alarm: Why the machine was in danger, if it was.
        machine_lost_bytes: How much less memory the machine had at the end than at the start.
    """

    events: tuple[Event, ...]
    returncode: int
    wall_seconds: float
    start_seconds: float = 0.0
    killed: Kill | None = None
    corrupt: str | None = None
    idle_seconds: float = 0.0
    step_seconds: float | None = None
    log_tail: str = ""
    log_discarded_bytes: int = 0
    oom_kills: int | None = None
    machine_oom_kills: int | None = None
    memory_limited: bool = False
    pressure: str | None = None
    final_pressure: str | None = None
    alarm: str | None = None
    machine_lost_bytes: int = 0
    footprint_peak_bytes: int | None = None
    footprints: tuple[FootprintSample, ...] = ()

    @property
    def final(self) -> FinalEvent | None:
        """The worker's final event, if it sent one."""
        last = self.events[-1] if self.events else None
        return last if isinstance(last, FinalEvent) else None

    @property
    def phase(self) -> Phase:
        """The phase that was started last."""
        return self.phases[-1].phase if self.phases else Phase.IMPORT

    @property
    def device(self) -> Device | None:
        """The device that the worker trained on."""
        return self.first_of(Device)

    @property
    def steps(self) -> list[Step]:
        """All finished steps in order, of both phases and all attempts."""
        return self.all_of(Step)

    @property
    def counted_steps(self) -> list[Step]:
        """The steps of the last relaxed attempt, which give the trial's peak memory and speed."""
        began = max((p.at for p in self.phases if p.phase is Phase.RELAXED), default=math.inf)
        return [step for step in self.steps if step.at >= began]

    @property
    def needed_bytes(self) -> int | None:
        """The peak of the tight phase; ``None`` if that phase did not finish."""
        is_done = any(began.phase is Phase.RELAXED for began in self.phases)
        peaks = (step.peak_bytes for step in self.steps if step.phase is Phase.TIGHT)
        return max(peaks, default=None) if is_done else None

    @property
    def tight_steps(self) -> list[Step]:
        """The steps of the tight phase that show its speed; on CUDA often a single one, or none.

        The first includes compilation.
        """
        tight = [step for step in self.steps if step.phase is Phase.TIGHT]
        return [step for step in tight if step.index > 1 and step.is_timed]

    @property
    def phases(self) -> list[PhaseBegan]:
        """All phases that were started, in order."""
        return self.all_of(PhaseBegan)

    def first_of(self, kind: type[T]) -> T | None:
        """Return the first event of a kind, or ``None``."""
        return next(iter(self.all_of(kind)), None)

    def all_of(self, kind: type[T]) -> list[T]:
        """Return all events of a kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]
