"""Facts about this machine, gathered once a run."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

from your_ai.system import memory


@dataclass(frozen=True, slots=True)
class Machine:
    """The host; ``memory_bytes`` is its RAM, or what a container may use of it."""

    system: str
    release: str
    architecture: str
    cpus: int
    memory_bytes: int
    python: str


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
