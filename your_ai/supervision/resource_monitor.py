"""Sample the memory of a running worker, and of the machine or container."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import replace

from your_ai.supervision import memory_guard
from your_ai.supervision.memory_guard import Alarm
from your_ai.supervision.observation import FootprintSample, Observation
from your_ai.system import cgroups, macos, memory
from your_ai.system.footprint import footprint
from your_ai.system.memory import MachineMemory

SAMPLE_SECONDS = 0.25
MAX_SAMPLES = 4096
"""Maximum footprint samples; when reached, drop every other one and halve the sampling rate."""
MEMORY_SECONDS = 0.1
"""Time between two readings of the machine's memory, which take less than 1 ms each.

A worker can fill more than 1 GB/s, and the alarm may be raised with only 256 MB left.
"""
_SEVERITY = [None, *macos.PressureLevel]


class ResourceMonitor:
    """Samples a worker's memory and the machine's; ``alarm`` says why the machine is in danger."""

    alarm: str | None = None

    def __init__(self, pid: int, began: float, raise_alarm: Alarm) -> None:
        self._pid = pid
        self._began = began
        self._next = self._next_memory = began
        self._every = SAMPLE_SECONDS
        self._raise_alarm = raise_alarm
        # Looked up now, because /proc does not show the cgroup of a dead process.
        self._cgroup = cgroups.of_process(pid)
        self._oom_kills = self._count()
        self._memory_limited = _address_space_limited(pid)
        self._pressure: macos.PressureLevel | None = None
        self._peak: int | None = None
        self._footprints: list[FootprintSample] = []
        self._memory_before = memory.read()
        self._window = memory_guard.Window()
        self._recent = self._window.add(began, self._memory_before)

    def sample(self) -> None:
        """Read the memory of the machine and of the worker, each if its interval has passed."""
        now = time.monotonic()
        if now >= self._next_memory:
            self._next_memory = now + MEMORY_SECONDS
            self._sample_machine(now)
        if now >= self._next or self.alarm:  # the footprint at an alarm is evidence
            self._next = now + self._every
            self._sample_worker(now)

    def complete(self, observation: Observation) -> Observation:
        """Return the observation with the samples and the increase of the kernel's counters."""
        own_kills, machine_kills = map(_rise, self._oom_kills, self._count())
        return replace(
            observation,
            oom_kills=own_kills,
            machine_oom_kills=machine_kills,
            memory_limited=self._memory_limited,
            pressure=self._pressure,
            final_pressure=_most_severe(self._recent),
            alarm=self.alarm,
            machine_lost_bytes=_lost(self._memory_before, self._recent[-1]),
            footprint_peak_bytes=self._peak,
            footprints=tuple(self._footprints),
        )

    def _sample_machine(self, now: float) -> None:
        reading = memory.read()
        self._recent = self._window.add(now, reading)
        self._pressure = max(self._pressure, reading.pressure, key=_SEVERITY.index)
        self.alarm = self.alarm or self._raise_alarm(self._recent)

    def _sample_worker(self, now: float) -> None:
        self._memory_limited = self._memory_limited or _address_space_limited(self._pid)
        found = footprint(self._pid)
        if found is not None:
            self._peak = max(self._peak or 0, found.lifetime_max_bytes)
            self._footprints.append(FootprintSample(now - self._began, found.current_bytes))
            if len(self._footprints) == MAX_SAMPLES:
                self._footprints, self._every = self._footprints[::2], 2 * self._every

    def _count(self) -> tuple[int | None, int | None]:
        """Return the kernel's OOM kills in the worker's cgroup, and on the machine."""
        own = self._cgroup.oom_kills() if self._cgroup else None
        return own, cgroups.machine_oom_kills()


def _address_space_limited(pid: int) -> bool:
    """Return whether the worker has an RLIMIT_AS; outside Linux, ours, which it inherits."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # the process is gone, or access is denied
            limit, _ = resource.prlimit(pid, resource.RLIMIT_AS)
    return limit != resource.RLIM_INFINITY


def _most_severe(readings: Iterable[MachineMemory]) -> macos.PressureLevel | None:
    return max((reading.pressure for reading in readings), key=_SEVERITY.index)


def _lost(before: MachineMemory, now: MachineMemory) -> int:
    """Return how much less memory the machine has, including what it moved to swap."""
    swapped = now.swap_used_bytes - before.swap_used_bytes
    return max(0, before.available_bytes - now.available_bytes + swapped)


def _rise(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before
