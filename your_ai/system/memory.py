"""What is left of the machine's memory, and of the part of it that trials can have."""

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

    ``available_bytes`` can be had without swapping, as psutil counts it. ``pressure`` is macOS's
    own word for how short it is, ``None`` elsewhere. ``gpu`` is a GPU's own memory, where that was
    asked for.
    """

    total_bytes: int
    available_bytes: int
    swap_used_bytes: int
    pressure: PressureLevel | None
    gpu: GpuMemory | None = None


def read() -> MachineMemory:
    """The machine's memory now; some tenths of a millisecond."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return MachineMemory(memory.total, memory.available, swap.used, macos.memory_pressure())


def for_trials(backend: str) -> MachineMemory:
    """What a trial on that MLX backend could have now: in a container, at most what that has left.

    With "cuda" the GPU is asked too, which takes up to some seconds.
    """
    now = read()
    limit, left = cgroups.memory_limit(os.getpid()), cgroups.memory_left(os.getpid())
    return replace(
        now,
        total_bytes=min(now.total_bytes, limit or now.total_bytes),
        available_bytes=now.available_bytes if left is None else min(now.available_bytes, left),
        gpu=nvidia.memory() if backend == "cuda" else None,
    )
