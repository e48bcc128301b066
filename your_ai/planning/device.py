"""The device that training runs on, and how much of its memory training may use."""

from __future__ import annotations

from dataclasses import dataclass

from worker.protocol.messages import Device as DeviceEvent
from your_ai.errors import UsageError
from your_ai.system.machine import Machine
from your_ai.units import GB

DEFAULT_BUDGET_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Device:
    """What MLX trains on."""

    backend: str
    """What MLX computes on: metal, cuda or cpu."""
    name: str
    """The device's name, such as Apple M3 Pro."""
    memory_bytes: int
    """All the memory that the device trains in, in bytes."""
    working_set_bytes: int | None
    """Metal's recommended working set, beyond which macOS may refuse or swap; null elsewhere."""
    free_bytes: int | None
    """What was free of a GPU's own memory when the run started; null without such memory."""
    versions: dict[str, str]
    """Versions of Python, mlx and mlx-lm."""


def from_probe(answer: DeviceEvent, machine: Machine) -> Device:
    """Read ``mx.device_info()``, whose keys differ between Metal, CUDA and CPU."""
    info = answer.info
    return Device(
        backend=answer.backend,
        name=str(info.get("device_name", answer.backend)),
        memory_bytes=int(
            info.get("memory_size") or info.get("total_memory") or machine.memory_bytes
        ),
        working_set_bytes=info.get("max_recommended_working_set_size"),
        free_bytes=info.get("free_memory"),
        versions=answer.versions,
    )


def budget_bytes(device: Device, max_memory_gb: float | None) -> int:
    """The most memory that training may use.

    By default 80 % of what the device trains in, and never more than Metal's working set or than
    what other processes have left of a GPU's own memory: the relaxed phase fills its budget, so a
    default beyond those would make models fail that fit.

    Raises:
        UsageError: when more is asked for than there is.
    """
    if max_memory_gb is None:
        share = int(device.memory_bytes * DEFAULT_BUDGET_SHARE)
        return min(share, device.working_set_bytes or share, device.free_bytes or share)
    # Compared before it is converted: a huge number of GB is infinitely many bytes.
    if max_memory_gb * GB > device.memory_bytes:
        raise UsageError(
            f"--max-memory {max_memory_gb:g} is more than the {device.memory_bytes / GB:.2f} GB "
            f"that {device.name} trains in; ask for at most that, or leave the option out "
            f"for {DEFAULT_BUDGET_SHARE:.0%} of it."
        )
    return int(max_memory_gb * GB)
