"""Read the machine's memory, and how much of it trials can use."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import psutil

from your_ai.system import cgroups, macos, nvidia
from your_ai.system.macos import PressureLevel
from your_ai.system.nvidia import GpuMemory


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """A reading of the machine's memory.

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
    """Read the machine's memory; this takes tenths of a millisecond."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return MachineMemory(memory.total, memory.available, swap.used, macos.memory_pressure())


def usable() -> MachineMemory:
    """Read the memory that this process can use; in a container, at most the container's limit."""
    now, cgroup = read(), cgroups.of_process(os.getpid())
    limit, left = (cgroup.limit(), cgroup.left()) if cgroup else (None, None)
    return replace(
        now,
        total_bytes=min(now.total_bytes, limit or now.total_bytes),
        available_bytes=now.available_bytes if left is None else min(now.available_bytes, left),
    )


def for_trials(backend: str, gpu_uuid: str | None = None) -> MachineMemory:
    """Read the memory that a trial on an MLX backend can use; a GPU may take seconds to answer."""
    return replace(usable(), gpu=nvidia.memory(gpu_uuid) if backend == "cuda" else None)
