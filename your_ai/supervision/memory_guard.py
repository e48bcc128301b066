"""When the machine itself is in danger: pure, except for the wait between two trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from your_ai.errors import MachineError
from your_ai.system.macos import PressureLevel
from your_ai.system.memory import MachineMemory
from your_ai.units import GB, MB, show_size

POLL_SECONDS = 0.1

MOST_WAIT = 30.0
"""Seconds for the last trial's memory to come back: tens of GB of it take some."""

HELD_READINGS = 4
"""macOS must report critical pressure in this many readings in a row: a leap in what is used can
make it do so for a moment, until the compressor has caught up."""

_CRITICAL = "macOS reports critical memory pressure"

Alarm = Callable[[MachineMemory, Sequence[MachineMemory]], str | None]


def alarm(before: MachineMemory, recent: Sequence[MachineMemory]) -> str | None:
    """Why the worker must be ended to save the machine.

    On macOS its own pressure level counts: psutil's figure consists of free and inactive pages
    there, which are few on a Mac that compresses well and is in no trouble. Its kernel reports
    critical pressure when little of what is not wired is uncompressed, or the compressor has no
    space left (VM_PRESSURE_WARNING_TO_CRITICAL in XNU's osfmk/vm/vm_pageout.c).
    Elsewhere 2 % must be left in every reading: the last of it can be filled within tenths of a
    second. Swap that grew by a tenth of the memory since ``before``, when the worker was started,
    is more than idle programs, and slows everything down. The newest reading is the last.
    """
    now, held = recent[-1], recent[-HELD_READINGS:]
    if len(held) == HELD_READINGS and all(r.pressure is PressureLevel.CRITICAL for r in held):
        return _CRITICAL
    least = _share(now.total_bytes, 0.02, 256 * MB, 2 * GB)
    if now.pressure is None and now.available_bytes < least:
        return f"{show_size(now.available_bytes)} of memory left"
    swapped = now.swap_used_bytes - before.swap_used_bytes
    if swapped > max(2 * GB, now.total_bytes // 10):
        return f"{show_size(swapped)} more in swap"
    return None


def shortage(now: MachineMemory) -> str | None:
    """Why no trial should be started now: it would soon raise the `alarm`, or find no GPU free."""
    if now.pressure is PressureLevel.CRITICAL:
        return _CRITICAL
    left = []
    if now.pressure is None:
        left.append((now.available_bytes, now.total_bytes, "memory is available"))
    if now.gpu:
        left.append((now.gpu.free_bytes, now.gpu.total_bytes, "the GPU's is free"))
    for free, total, what in left:
        wanted = _share(total, 0.05, 512 * MB, 4 * GB)  # well above the alarm: room for a worker
        if free < wanted:
            return f"only {show_size(free)} of {what}, and {show_size(wanted)} should be"
    return None


def wait_for_memory(
    baseline: MachineMemory,
    must_stop: Callable[[], bool],
    read: Callable[[], MachineMemory],
    most_seconds: float = MOST_WAIT,
) -> MachineMemory:
    """Wait until about as much memory is available as at ``baseline``, or time is up.

    Returns the baseline for the next wait: what is still missing belongs to other programs. Raises
    MachineError when the machine is short of memory after the wait.
    """
    until = time.monotonic() + most_seconds
    while not is_back(baseline, now := read()) or shortage(now):
        if must_stop():
            return baseline
        if time.monotonic() > until:
            if short := shortage(now):
                raise MachineError(
                    f"This machine is short of memory: {short}. Close other programs, "
                    "then continue with --resume."
                )
            return now
        time.sleep(POLL_SECONDS)
    return baseline


def is_back(baseline: MachineMemory, now: MachineMemory) -> bool:
    """Whether, except for a few percent, as much is available as at ``baseline``, also on a GPU."""
    if now.available_bytes < baseline.available_bytes - _tolerance(baseline.total_bytes):
        return False
    if baseline.gpu is None or now.gpu is None:
        return True
    return now.gpu.free_bytes >= baseline.gpu.free_bytes - _tolerance(baseline.gpu.total_bytes)


def _tolerance(total: int) -> int:
    return _share(total, 0.03, 512 * MB, 4 * GB)


def _share(total: int, share: float, least: int, most: int) -> int:
    return min(max(int(share * total), least), most)
