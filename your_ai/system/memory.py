"""How much memory is left, of the machine and for trials."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import psutil

from your_ai.system import cgroups, macos, nvidia
from your_ai.system.macos import PressureLevel
from your_ai.system.nvidia import GpuMemory


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """One reading, in bytes.

    Attributes:
        total_bytes: All of the memory.
        available_bytes: What can be had without swapping, as psutil counts it.
        swap_used_bytes: What was moved to swap.
        pressure: How short macOS says memory is, ``None`` elsewhere.
        gpu: A GPU's own memory, where it was asked for.
    """

    total_bytes: int
    available_bytes: int
    swap_used_bytes: int
    pressure: PressureLevel | None
    gpu: GpuMemory | None = None


def read() -> MachineMemory:
    """The machine's memory now; takes some tenths of a millisecond."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return MachineMemory(memory.total, memory.available, swap.used, macos.memory_pressure())


def usable() -> MachineMemory:
    """What this process can use of the machine's memory: in a container, at most its limit."""
    now, cgroup = read(), cgroups.of_process(os.getpid())
    limit, left = (cgroup.limit(), cgroup.left()) if cgroup else (None, None)
    return replace(
        now,
        total_bytes=min(now.total_bytes, limit or now.total_bytes),
        available_bytes=now.available_bytes if left is None else min(now.available_bytes, left),
    )


def for_trials(backend: str) -> MachineMemory:
    """What a trial on that MLX backend could use now; asking a GPU takes up to some seconds."""
    return replace(usable(), gpu=nvidia.memory() if backend == "cuda" else None)
