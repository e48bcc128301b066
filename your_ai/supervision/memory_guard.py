"""When the machine itself is in danger: pure, but for the wait between two trials."""

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
"""For so many readings in a row macOS must report critical pressure: a leap in what is used can
make it do so for a moment, until the compressor has caught up."""


def alarm(before: MachineMemory, recent: Sequence[MachineMemory]) -> str | None:
    """Why the worker must be ended for the machine's sake.

    Where macOS says how short its memory is, that counts: free and inactive pages, of which
    psutil's figure consists there, are few on a Mac that compresses well and is in no trouble. Its
    kernel calls it critical when little of what is not wired is uncompressed, or the compressor has
    no space left (VM_PRESSURE_WARNING_TO_CRITICAL in XNU's osfmk/vm/vm_pageout.c).
    Elsewhere 2 % must be left, at once: the least of it is filled within some tenths of a second.
    Swap that grows by a tenth of the memory is more than programs that lie idle, and slows
    everything down.

    Args:
        before: The memory when the worker was started.
        recent: The latest readings, the newest last; `HELD_READINGS` of them are looked at.
    """
    now, held = recent[-1], recent[-HELD_READINGS:]
    if len(held) == HELD_READINGS and all(r.pressure is PressureLevel.CRITICAL for r in held):
        return "macOS reports critical memory pressure"
    if now.pressure is None and now.available_bytes < _share(
        now.total_bytes, 0.02, 256 * MB, 2 * GB
    ):
        return f"{show_size(now.available_bytes)} of memory left"
    swapped = now.swap_used_bytes - before.swap_used_bytes
    if swapped > max(2 * GB, now.total_bytes // 10):
        return f"{show_size(swapped)} more in swap"
    return None


def shortage(now: MachineMemory) -> str | None:
    """Why no trial should be started now: it would raise the `alarm` soon, or find no GPU free."""
    wanted = _wanted(now.total_bytes)
    if now.pressure is PressureLevel.CRITICAL:
        return "macOS reports critical memory pressure"
    if now.pressure is None and now.available_bytes < wanted:
        return (
            f"only {show_size(now.available_bytes)} of memory is available, "
            f"and {show_size(wanted)} should be"
        )
    if now.gpu and now.gpu.free_bytes < (wanted := _wanted(now.gpu.total_bytes)):
        return (
            f"only {show_size(now.gpu.free_bytes)} of the GPU's is free, "
            f"and {show_size(wanted)} should be"
        )
    return None


def wait_for_memory(
    baseline: MachineMemory,
    must_stop: Callable[[], bool],
    read: Callable[[], MachineMemory],
    most_seconds: float = MOST_WAIT,
) -> MachineMemory:
    """Wait until what was available at ``baseline``, before any trial, is so again, or time is up.

    A few percent may be missing: other programs go on. ``must_stop`` ends the wait too. ``read`` is
    how ``baseline`` was read.

    Returns:
        The baseline for the next wait: what is missing for so long is another program's.

    Raises:
        MachineError: when the machine is short of memory then.
    """
    until = time.monotonic() + most_seconds
    while not is_back(baseline, now := read()) or shortage(now):
        if must_stop():
            return baseline
        if time.monotonic() > until:
            baseline = now
            break
        time.sleep(POLL_SECONDS)
    short = shortage(now)
    if short:
        raise MachineError(
            f"This machine is short of memory: {short}. Close other programs, "
            "then go on with --resume."
        )
    return baseline


def is_back(baseline: MachineMemory, now: MachineMemory) -> bool:
    """Whether, but for a few percent, as much is available as at ``baseline``, of a GPU's too."""
    if now.available_bytes < baseline.available_bytes - _tolerance(baseline.total_bytes):
        return False
    if baseline.gpu is None or now.gpu is None:
        return True
    return now.gpu.free_bytes >= baseline.gpu.free_bytes - _tolerance(baseline.gpu.total_bytes)


def _wanted(total: int) -> int:
    """So much must be left for a trial to begin: well above the alarm, and room for a worker."""
    return _share(total, 0.05, 512 * MB, 4 * GB)


def _tolerance(total: int) -> int:
    return _share(total, 0.03, 512 * MB, 4 * GB)


def _share(total: int, share: float, least: int, most: int) -> int:
    return min(max(int(share * total), least), most)
