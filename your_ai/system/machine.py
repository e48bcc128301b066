"""Facts about this machine, gathered once a run."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

import psutil

from your_ai.system import cgroups


@dataclass(frozen=True, slots=True)
class Machine:
    """The host.

    ``memory_bytes`` is all of its RAM - on Apple Silicon, what the GPU shares - or in a container
    what that may use of it.
    """

    system: str
    release: str
    architecture: str
    cpus: int
    memory_bytes: int
    python: str


def describe() -> Machine:
    """This machine; nothing that names its owner."""
    total = psutil.virtual_memory().total
    return Machine(
        system="macOS" if platform.system() == "Darwin" else platform.system(),
        release=platform.mac_ver()[0] or platform.release(),
        architecture=platform.machine(),
        cpus=os.cpu_count() or 1,
        memory_bytes=min(total, cgroups.memory_limit(os.getpid()) or total),
        python=platform.python_version(),
    )
