"""The device that training will run on, found without starting a worker."""

from __future__ import annotations

from your_ai.planning.device import Device
from your_ai.recommend.history import History
from your_ai.system import nvidia
from your_ai.system.machine import Machine
from your_ai.units import MB


def device(history: History | None, machine: Machine) -> tuple[Device, str]:
    """The device, and where its facts come from, for people to read."""
    if history is not None:
        day = history.started_at.partition("T")[0]
        return history.device, f"as the run of {day} found it"
    if machine.system == "macOS":
        mac = _whole(machine, "metal", "this Mac")
        return mac, "all of its memory; Metal may recommend less"
    gpu = _nvidia_gpu(machine)
    if gpu is not None:
        return gpu, "as nvidia-smi describes it"
    return _whole(machine, "cpu", "this machine's CPU"), "no GPU was found"


def _whole(machine: Machine, backend: str, name: str) -> Device:
    return Device(backend, name, machine.memory_bytes, None, None, {})


def _nvidia_gpu(machine: Machine) -> Device | None:
    """The first NVIDIA GPU, which MLX uses by default; ``None`` if none answers."""
    lines = nvidia.query("name,memory.total") or [""]
    name, _, memory = lines[0].strip().rpartition(", ")
    if not name:
        return None
    # "[N/A]" where it has no memory of its own and shares the machine's.
    own = int(memory) * MB if memory.isdecimal() else machine.memory_bytes
    return Device("cuda", name, own, None, None, {})
