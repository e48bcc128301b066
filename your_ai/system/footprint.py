"""What the operating system charges a process for memory, by the best number that it offers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, Literal

from your_ai.system.macos import Footprint, phys_footprint

__all__ = ["FOOTPRINT_SOURCE", "Footprint", "footprint", "footprint_source", "parse_vm_hwm"]

FootprintSource = Literal["phys_footprint", "rss"]

_KIB = 1024


def footprint_source(platform: str) -> FootprintSource:
    """Name the number that stands for the footprint on a platform, given as in `sys.platform`.

    On macOS the resident size misses Metal buffers and compressed pages; elsewhere it will do.
    """
    return "phys_footprint" if platform == "darwin" else "rss"


FOOTPRINT_SOURCE: Final[FootprintSource] = footprint_source(sys.platform)


def footprint(pid: int) -> Footprint | None:
    """Read what the operating system charges a process, in bytes, as `FOOTPRINT_SOURCE` names it.

    Returns:
        The footprint, or None where the process is gone, dead but not yet reaped, or not ours to
        look at.
    """
    return phys_footprint(pid) if FOOTPRINT_SOURCE == "phys_footprint" else _resident(pid)


def parse_vm_hwm(status: str) -> int | None:
    """Read the largest resident size, in bytes, from a Linux /proc/<pid>/status.

    proc_pid_status(5): VmHWM is the peak resident set size, in kB, which are 1024 bytes there.
    Kernel threads have none; neither has a process that is dead.
    """
    for line in status.splitlines():
        match line.split():
            case ["VmHWM:", count, "kB"] if count.isdecimal():
                return int(count) * _KIB
    return None


def _resident(pid: int) -> Footprint | None:
    # Imported here, not above: a Mac never needs it for this.
    import psutil

    try:
        current = psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return None
    if current == 0:  # A zombie: nothing is charged any more, which is not a measurement of 0.
        return None
    # Where there is no VmHWM, or it lags (the kernel keeps RSS in per-CPU batches), what is
    # resident now is the largest size known.
    return Footprint(current, max(current, _peak_resident(pid) or 0))


def _peak_resident(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return parse_vm_hwm(status)
