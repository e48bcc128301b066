"""Read the machine's memory, and how much of it trials can use."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, replace

import psutil

from your_ai.system import cgroups, macos
from your_ai.system.cgroups import MemoryCgroup
from your_ai.system.macos import PressureLevel
from your_ai.system.nvidia import Gpu, GpuMemory


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """A reading of the machine's memory or, in a container with a limit, of the container's.

    Attributes:
        total_bytes: The total memory.
        available_bytes: The memory available without swapping, as defined by psutil.
        swap_used_bytes: The used swap.
        pressure: The memory pressure on macOS; ``None`` elsewhere.
        gpu: The GPU's own memory, if it was queried.
    """

    total_bytes: int
    available_bytes: int
    swap_used_bytes: int
    pressure: PressureLevel | None
    gpu: GpuMemory | None = None


def read() -> MachineMemory:
    """Read the memory that this process can use: the machine's or, in a container, its share.

    A container's limit replaces the total memory, what the limit leaves replaces the available
    memory if that is less, and the swap is the container's own. This takes less than a millisecond.
    """
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    machine = MachineMemory(memory.total, memory.available, swap.used, macos.memory_pressure())
    cgroup = _cgroup()
    room = cgroup.room() if cgroup else None
    if room is None or room.limit >= machine.total_bytes:
        return machine
    return replace(
        machine,
        total_bytes=room.limit,
        available_bytes=min(memory.available, room.left),
        swap_used_bytes=swap.used if room.swap_used is None else room.swap_used,
    )


def for_trials(gpu: Gpu | None) -> MachineMemory:
    """Read the memory that a trial can use, also on its GPU, which may take seconds to answer."""
    return replace(read(), gpu=gpu.read().memory if gpu else None)


@functools.cache
def _cgroup() -> MemoryCgroup | None:
    """Return our cgroup. It is looked up once, because that takes longer than to read its files."""
    return cgroups.of_process(os.getpid())
