"""Find the device that training will run on, without starting a worker.

It is this machine's, or that of another machine which the user describes.
"""

from __future__ import annotations

from your_ai.planning.device import Device
from your_ai.recommend.history import History
from your_ai.recommend.macs import Mac
from your_ai.system import macos, nvidia
from your_ai.system.machine import Machine
from your_ai.system.metal import metal_working_set
from your_ai.units import GB, MB

ELSEWHERE = "as given; not this machine"
"""Where the facts about another machine's device come from."""

_NAMES = {"metal": "a Mac", "cuda": "an NVIDIA GPU", "cpu": "a CPU"}
BACKENDS = tuple(_NAMES)


def device(history: History | None, machine: Machine) -> tuple[Device, str]:
    """Return the device, and a text for the user on where the facts about it come from."""
    if history is not None:
        day = history.started_at.partition("T")[0]
        return history.device, f"from the run of {day}"
    if machine.system == "macOS":
        return this_mac(machine, macos.wired_limit_mb()), "Metal's share of it is estimated"
    gpu = _nvidia_gpu(machine)
    if gpu is not None:
        return gpu, "as reported by nvidia-smi"
    return _with_system_memory(machine, "cpu", "this machine's CPU"), "no GPU was found"


def this_mac(machine: Machine, wired_limit_mb: int) -> Device:
    """Return this Mac's device; a limit that its user set replaces the default of macOS."""
    default = metal_working_set(machine.memory_bytes, machine.release)
    working_set = wired_limit_mb * MB or default
    return Device("metal", "this Mac", machine.memory_bytes, working_set, None, {})


def of_mac(mac: Mac) -> Device:
    """Return the device of another Mac."""
    return of_backend("metal", mac.memory_gb, f"Apple {mac.chip}")


def of_backend(backend: str, memory_gb: float, name: str | None = None) -> Device:
    """Return the device of another machine of which little more than the memory is known."""
    memory = int(memory_gb * GB)
    working_set = metal_working_set(memory) if backend == "metal" else None
    return Device(backend, name or _NAMES[backend], memory, working_set, None, {})


def _with_system_memory(machine: Machine, backend: str, name: str) -> Device:
    return Device(backend, name, machine.memory_bytes, None, None, {})


def _nvidia_gpu(machine: Machine) -> Device | None:
    """Return the first NVIDIA GPU, which MLX uses by default; ``None`` without one."""
    lines = nvidia.query("name,memory.total") or [""]
    name, _, memory = lines[0].strip().rpartition(", ")
    if not name:
        return None
    # nvidia-smi reports "[N/A]" for a GPU that shares the machine's memory.
    own = int(memory) * MB if memory.isdecimal() else machine.memory_bytes
    return Device("cuda", name, own, None, None, {})
