"""When the machine itself is in danger: pure, but for the wait between two trials."""

from __future__ import annotations

import time
from collections.abc import Callable

from your_ai.errors import MachineError
from your_ai.host import memory
from your_ai.host.macos import PressureLevel
from your_ai.host.memory import MachineMemory
from your_ai.units import GB, MB, show_size

POLL_SECONDS = 0.1

MOST_WAIT = 30.0
"""Seconds for the last trial's memory to come back: tens of GB of it take some."""


def alarm(before: MachineMemory, now: MachineMemory) -> str | None:
    """Why the worker must be ended for the machine's sake; ``before`` is when it was started.

    Where macOS says how short its memory is, that counts: free and inactive pages, of which
    psutil's figure consists there, are few on a Mac that compresses well and is in no trouble.
    Elsewhere 2 % must be left, some tenths of a second of what a GPU's driver can fill. Swap that
    grows by a tenth of the memory is more than programs that lie idle, and slows everything down.
    """
    if now.pressure is PressureLevel.CRITICAL:
        return "macOS reports critical memory pressure"
    if now.pressure is None and now.available_bytes < _share(now, 0.02, 256 * MB, 2 * GB):
        return f"{show_size(now.available_bytes)} of memory left"
    swapped = now.swap_used_bytes - before.swap_used_bytes
    if swapped > max(2 * GB, now.total_bytes // 10):
        return f"{show_size(swapped)} more in swap"
    return None


def shortage(now: MachineMemory) -> str | None:
    """Why no trial should be started now: it would raise the `alarm` soon."""
    wanted = _share(now, 0.05, 512 * MB, 4 * GB)
    if now.pressure is PressureLevel.CRITICAL:
        return "macOS reports critical memory pressure"
    if now.pressure is None and now.available_bytes < wanted:
        return (
            f"only {show_size(now.available_bytes)} of memory is available, "
            f"and {show_size(wanted)} should be"
        )
    return None


def wait_for_memory(
    baseline: MachineMemory,
    must_stop: Callable[[], bool],
    read: Callable[[], MachineMemory] = memory.read,
    most_seconds: float = MOST_WAIT,
) -> MachineMemory:
    """Wait until what was available at ``baseline``, before any trial, is so again, or time is up.

    A few percent may be missing: other programs go on. ``must_stop`` ends the wait too.

    Returns:
        The baseline for the next wait: what is missing for so long is another program's.

    Raises:
        MachineError: when the machine is short of memory then.
    """
    until = time.monotonic() + most_seconds
    wanted = baseline.available_bytes - _share(baseline, 0.03, 512 * MB, 4 * GB)
    while (now := read()).available_bytes < wanted or shortage(now):
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


def _share(now: MachineMemory, share: float, least: int, most: int) -> int:
    return min(max(int(share * now.total_bytes), least), most)
