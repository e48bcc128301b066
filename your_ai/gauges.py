"""What the operating system says of a running worker."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from dataclasses import dataclass

from your_ai.host import linux, macos
from your_ai.host.footprint import footprint
from your_ai.observation import FootprintSample

SAMPLE_SECONDS = 0.25
_SEVERITY = [None, *macos.PressureLevel]


@dataclass(frozen=True, slots=True)
class Readings:
    """All that was read of one worker; see `Observation` for the meanings."""

    oom_kills: int | None
    machine_oom_kills: int | None
    memory_limited: bool
    pressure: str | None
    footprint_peak_bytes: int | None
    footprints: tuple[FootprintSample, ...]


class Gauges:
    """Reads a worker's gauges: the counters before it could die, the rest while it runs."""

    def __init__(self, pid: int, began: float) -> None:
        self._pid = pid
        self._began = began
        self._next = began
        self._counter = linux.oom_counter_path(pid)
        self._oom_kills = self._count()
        self._machine_oom_kills = linux.machine_oom_kills()
        self._memory_limited = _address_space_limited(pid)
        self._pressure: macos.PressureLevel | None = None
        self._peak: int | None = None
        self._footprints: list[FootprintSample] = []

    def sample(self) -> None:
        """Read footprint, limit and pressure, unless that was just done."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + SAMPLE_SECONDS
        self._memory_limited = self._memory_limited or _address_space_limited(self._pid)
        self._pressure = max(self._pressure, macos.memory_pressure(), key=_SEVERITY.index)
        seen = footprint(self._pid)
        if seen is not None:
            self._peak = max(self._peak or 0, seen.lifetime_max_bytes)
            self._footprints.append(FootprintSample(now - self._began, seen.current_bytes))

    def readings(self) -> Readings:
        """What was read, and by how much the kernel's counters rose since the worker's start."""
        return Readings(
            oom_kills=_rise(self._oom_kills, self._count()),
            machine_oom_kills=_rise(self._machine_oom_kills, linux.machine_oom_kills()),
            memory_limited=self._memory_limited,
            pressure=self._pressure,
            footprint_peak_bytes=self._peak,
            footprints=tuple(self._footprints),
        )

    def _count(self) -> int | None:
        return None if self._counter is None else linux.read_oom_kills(self._counter)


def _address_space_limited(pid: int) -> bool:
    """Whether a worker has an RLIMIT_AS; where only our own can be read, that: it is inherited."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # gone, or not ours to ask
            limit, _ = resource.prlimit(pid, resource.RLIMIT_AS)
    return limit != resource.RLIM_INFINITY


def _rise(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before
