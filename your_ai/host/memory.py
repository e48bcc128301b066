"""What the whole machine has left of its memory."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from your_ai.host import macos
from your_ai.host.macos import PressureLevel


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """One reading, in bytes.

    ``available_bytes`` can be had without swapping, as psutil counts it. ``pressure`` is macOS's
    own word for how short it is, ``None`` elsewhere.
    """

    total_bytes: int
    available_bytes: int
    swap_used_bytes: int
    pressure: PressureLevel | None


def read() -> MachineMemory:
    """The machine's memory now; some tenths of a millisecond."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return MachineMemory(memory.total, memory.available, swap.used, macos.memory_pressure())
