"""Decide whether the machine is short of memory: pure, except for `wait_for_memory`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from your_ai.errors import MachineError
from your_ai.system.macos import PressureLevel
from your_ai.system.memory import MachineMemory
from your_ai.units import GB, MB, show_size

POLL_SECONDS, LONG_POLL_SECONDS = 0.1, 1.0

MAX_WAIT_SECONDS = 30.0
"""Maximum wait for the memory of the last trial: freeing tens of GB takes time."""

WINDOW_SECONDS = 60.0
"""Readings of this time are judged together.

A longer window would blame a healthy training for what other programs swap out over hours.
"""

CRITICAL_READINGS = 4
"""Number of consecutive readings in which macOS must report critical pressure.

After a sudden increase in use it does so briefly, until the compressor has caught up.
"""

_CRITICAL = "macOS reports critical memory pressure"

Alarm = Callable[[Sequence[MachineMemory]], str | None]


class Window:
    """The readings of the last `WINDOW_SECONDS`, the newest last."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, MachineMemory]] = deque()

    def add(self, now: float, reading: MachineMemory) -> list[MachineMemory]:
        """Add a reading made ``now``, in seconds; return the readings of the window."""
        self._readings.append((now, reading))
        while self._readings[0][0] < now - WINDOW_SECONDS:
            self._readings.popleft()
        return [each for _, each in self._readings]


def alarm(recent: Sequence[MachineMemory]) -> str | None:
    """Return why the worker must be killed to protect the machine, or ``None``.

    ``recent`` has the readings of the last `WINDOW_SECONDS`, the newest last.

    On macOS the kernel's pressure level decides. psutil's available memory is the free and inactive
    pages, and even a healthy Mac has few of these if it compresses well. The kernel reports
    critical pressure if most of the memory that is not wired is compressed, or if the compressor
    has no space left (VM_PRESSURE_WARNING_TO_CRITICAL in XNU's osfmk/vm/vm_pageout.c).

    On other systems 2% of the memory must be available in every reading, because the rest can be
    filled within tenths of a second. On all systems, swap must not grow by more than a tenth of the
    memory within the window: that is more than idle programs take, and it slows everything down.
    macOS also swaps while it has memory left, so there it counts only under pressure.
    """
    now, latest = recent[-1], recent[-CRITICAL_READINGS:]
    is_critical = all(reading.pressure is PressureLevel.CRITICAL for reading in latest)
    if is_critical and len(latest) == CRITICAL_READINGS:
        return _CRITICAL
    least = _share(now.total_bytes, 0.02, 256 * MB, 2 * GB)
    if now.pressure is None and now.available_bytes < least:
        return f"only {show_size(now.available_bytes)} of memory left"
    swapped = now.swap_used_bytes - min(reading.swap_used_bytes for reading in recent)
    if swapped > max(2 * GB, now.total_bytes // 10) and now.pressure is not PressureLevel.NORMAL:
        return f"swap use grew by {show_size(swapped)} within a minute"
    return None


def shortage(now: MachineMemory) -> str | None:
    """Return why no trial should be started now, or ``None``.

    A trial would soon raise the `alarm`, or not find enough free GPU memory.
    """
    if now.pressure is PressureLevel.CRITICAL:
        return _CRITICAL
    memories = []
    if now.pressure is None:
        memories.append((now.available_bytes, now.total_bytes, "memory is available"))
    if now.gpu:
        memories.append((now.gpu.free_bytes, now.gpu.total_bytes, "GPU memory is free"))
    for free, total, text in memories:
        needed = _least_to_start(total)
        if free < needed:
            return f"only {show_size(free)} of {text}, but {show_size(needed)} is required"
    return None


def wait_for_memory(
    baseline: MachineMemory,
    must_stop: Callable[[], bool],
    read: Callable[[], MachineMemory],
    max_seconds: float = MAX_WAIT_SECONDS,
    enough_bytes: int | None = None,
) -> MachineMemory:
    """Wait until about as much memory is available as at ``baseline``, or ``max_seconds`` pass.

    ``enough_bytes`` available in addition to what a new trial requires end the wait, too.
    Returns the baseline for the next wait. After a timeout that is the last reading, because other
    programs have the missing memory.

    Raises:
        MachineError: if the machine is still short of memory after the wait.
    """
    until = time.monotonic() + max_seconds
    while not is_recovered(baseline, now := read(), enough_bytes) or shortage(now):
        if must_stop():
            return baseline
        if time.monotonic() > until:
            if problem := shortage(now):
                raise MachineError(
                    f"This machine is short of memory: {problem}. Close other programs or, in a "
                    "container, raise its memory limit. Then continue with --resume."
                )
            return now
        # After a while there is no hurry, and reading a GPU's memory takes a process each time.
        is_long = until - time.monotonic() < max_seconds - MAX_WAIT_SECONDS
        time.sleep(LONG_POLL_SECONDS if is_long else POLL_SECONDS)
    return baseline


def is_recovered(
    baseline: MachineMemory, now: MachineMemory, enough_bytes: int | None = None
) -> bool:
    """Return whether about as much memory is available as at ``baseline``, also on the GPU.

    It is also true if ``enough_bytes`` are available in addition to what a new trial requires. On
    macOS, return whether the pressure is normal, or the same as at ``baseline`` (see `alarm`).
    """
    if now.pressure is not None:
        return now.pressure in (PressureLevel.NORMAL, baseline.pressure)
    wanted = baseline.available_bytes - _tolerance(baseline.total_bytes)
    if enough_bytes is not None:
        wanted = min(wanted, enough_bytes + _least_to_start(now.total_bytes))
    if now.available_bytes < wanted:
        return False
    if baseline.gpu is None or now.gpu is None:
        return True
    return now.gpu.free_bytes >= baseline.gpu.free_bytes - _tolerance(baseline.gpu.total_bytes)


def _least_to_start(total: int) -> int:
    return _share(total, 0.05, 512 * MB, 4 * GB)  # more than for the alarm: room for a worker


def _tolerance(total: int) -> int:
    return _share(total, 0.03, 512 * MB, 4 * GB)


def _share(total: int, share: float, least: int, most: int) -> int:
    return min(max(int(share * total), least), most)
