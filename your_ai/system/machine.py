"""Facts about this machine and its boot, gathered once a run."""

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
    """The host."""

    system: str
    """The operating system: macOS or Linux."""
    release: str
    """The operating system's version."""
    architecture: str
    """The processor's architecture, such as arm64."""
    cpus: int
    """The number of CPUs."""
    memory_bytes: int
    """RAM in bytes, or what a container may use of it."""
    python: str
    """The version of Python that your_ai runs on."""


def describe() -> Machine:
    """This machine, without anything that identifies its owner."""
    return Machine(
        system="macOS" if platform.system() == "Darwin" else platform.system(),
        release=platform.mac_ver()[0] or platform.release(),
        architecture=platform.machine(),
        cpus=os.cpu_count() or 1,
        memory_bytes=memory.usable().total_bytes,
        python=platform.python_version(),
    )


def boot_id() -> str:
    """An id that stays the same until the machine restarts.

    Linux and macOS have one (random(4); ``kern.bootsessionuuid`` of XNU's kern_sysctl.c). Otherwise
    it is the time of the boot to the minute, because clocks are adjusted.
    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return macos.boot_session() or f"{psutil.boot_time() / 60:.0f}"
