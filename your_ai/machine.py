"""Facts about this machine, gathered once a run."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Machine:
    """The host. ``memory_bytes`` is all of its RAM: on Apple Silicon, what the GPU shares."""

    system: str
    release: str
    architecture: str
    cpus: int
    memory_bytes: int
    python: str


def describe() -> Machine:
    """This machine; nothing that names its owner."""
    return Machine(
        system="macOS" if platform.system() == "Darwin" else platform.system(),
        release=platform.mac_ver()[0] or platform.release(),
        architecture=platform.machine(),
        cpus=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        python=platform.python_version(),
    )
