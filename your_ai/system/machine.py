"""Facts about this machine and its current boot."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil

from your_ai.system import macos, memory

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that your_ai runs on."""

    system: str
    """Operating system: macOS or Linux."""
    release: str
    """Version of the operating system; on Linux that of the kernel."""
    architecture: str
    """Processor architecture, such as arm64."""
    cpus: int
    """Number of CPUs."""
    memory_bytes: int
    """RAM in bytes or, in a container, its memory limit."""
    python: str
    """Version of Python that your_ai runs on."""


def describe() -> Machine:
    """Return the facts about this machine, without anything that identifies its owner."""
    return Machine(
        system="macOS" if platform.system() == "Darwin" else platform.system(),
        release=platform.mac_ver()[0] or platform.release(),
        architecture=platform.machine(),
        cpus=os.cpu_count() or 1,
        memory_bytes=memory.read().total_bytes,
        python=platform.python_version(),
    )


def boot_id() -> str:
    """Return an id that stays the same until the machine restarts.

    Linux and macOS have one (random(4); ``kern.bootsessionuuid`` in XNU's kern_sysctl.c). Without
    it, use the time of the boot. It is rounded to minutes, because clocks are adjusted.
    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return macos.boot_session() or f"{psutil.boot_time() / 60:.0f}"
