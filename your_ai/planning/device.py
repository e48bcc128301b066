"""The device that training runs on, and the share of its memory that training may use."""

from __future__ import annotations

from dataclasses import dataclass

from worker.protocol.messages import Device as DeviceEvent
from your_ai.errors import UsageError
from your_ai.system.machine import Machine
from your_ai.units import GB

DEFAULT_BUDGET_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Device:
    """The device that MLX trains on."""

    backend: str
    """MLX backend: metal, cuda or cpu."""
    name: str
    """Name of the device, such as Apple M3 Pro."""
    memory_bytes: int
    """Memory of the device in bytes; for Metal and the CPU the machine's RAM."""
    working_set_bytes: int | None
    """Metal's recommended working set in bytes; beyond it macOS may swap. Null elsewhere."""
    free_bytes: int | None
    """Free GPU memory at the start of the run; null if the GPU has no memory of its own."""
    versions: dict[str, str]
    """Versions of Python, mlx and mlx-lm."""


def from_probe(answer: DeviceEvent, machine: Machine) -> Device:
    """Return the device that a probe found.

    The keys of ``mx.device_info()`` differ between Metal, CUDA and CPU.
    """
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


def gpu_uuid(answer: DeviceEvent) -> str | None:
    """Return the UUID of the GPU that a probe found; only CUDA reports one.

    It is not part of `Device`, because results files contain that, and it identifies the machine.
    """
    return answer.info.get("uuid")


def budget_bytes(device: Device, max_memory_gb: float | None) -> int:
    """Return the budget: the most memory that training may use.

    The default is 80% of the device's memory, but at most Metal's working set and the memory that
    other processes leave free on a GPU. The relaxed phase uses the whole budget, so models that fit
    would fail with a larger one.

    Raises:
        UsageError: if ``max_memory_gb`` is more than the device's memory.
    """
    if max_memory_gb is None:
        share = int(device.memory_bytes * DEFAULT_BUDGET_SHARE)
        return min(share, device.working_set_bytes or share, device.free_bytes or share)
    # Compared before the conversion to int, which fails if the number of bytes is infinite.
    if max_memory_gb * GB > device.memory_bytes:
        raise UsageError(
            f"--max-memory {max_memory_gb:g} exceeds the memory of {device.name} "
            f"({device.memory_bytes / GB:.2f} GB). Lower it, or leave it out: the default is "
            f"at most {DEFAULT_BUDGET_SHARE:.0%} of this memory."
        )
    return int(max_memory_gb * GB)
