"""Find the device that training will run on, without starting a worker."""

from __future__ import annotations

from your_ai.planning.device import Device
from your_ai.recommend.history import History
from your_ai.system import nvidia
from your_ai.system.machine import Machine
from your_ai.units import MB


def device(history: History | None, machine: Machine) -> tuple[Device, str]:
    """Return the device, and a text for the user on where the facts about it come from."""
    if history is not None:
        day = history.started_at.partition("T")[0]
        return history.device, f"from the run of {day}"
    if machine.system == "macOS":
        mac = _with_system_memory(machine, "metal", "this Mac")
        return mac, "all of its memory; Metal may allow less"
    gpu = _nvidia_gpu(machine)
    if gpu is not None:
        return gpu, "as reported by nvidia-smi"
    return _with_system_memory(machine, "cpu", "this machine's CPU"), "no GPU was found"


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
