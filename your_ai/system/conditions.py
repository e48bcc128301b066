"""Power and heat, which affect a measured speed."""

from __future__ import annotations

from dataclasses import dataclass

from your_ai.system import macos, nvidia, power
from your_ai.system.macos import ThermalPressure
from your_ai.system.nvidia import Gpu
from your_ai.system.power import PowerSource

_SLOWING = (ThermalPressure.HEAVY, ThermalPressure.TRAPPING, ThermalPressure.SLEEPING)
"""Levels at which macOS slows the chip down; at "moderate" it does not yet (according to the
measurements for angristan/MacThrottle)."""

_MAX_SLOWED_SHARE = 0.01
"""Share of a trial in which the device may be slowed: a few milliseconds change no speed."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions at one moment."""

    power_source: PowerSource | None
    """Where the machine takes its power from; null if unknown, as on most desktops on Linux."""
    low_power_mode: bool | None
    """Whether the machine saves power at the cost of speed; null if unknown."""
    thermal_pressure: ThermalPressure | None
    """How hot macOS considers the machine; null elsewhere."""
    slowed_seconds: float | None
    """How long heat or the power supply has slowed the device since it was started, in seconds.

    It is counted by recent drivers of NVIDIA GPUs and, for the CPU, by Linux; null elsewhere.
    """
    gpu_clock_mhz: int | None
    """Clock of an NVIDIA GPU's multiprocessors in MHz; null elsewhere. It is low if it is idle."""
    gpu_max_clock_mhz: int | None
    """Highest possible clock of an NVIDIA GPU's multiprocessors in MHz; null elsewhere."""
    gpu_slowdowns: tuple[str, ...] | None
    """Why an NVIDIA GPU's clock is reduced at the moment; null elsewhere."""


def read(backend: str, device: Gpu | None) -> Conditions:
    """Read the conditions for a device of an MLX backend; this takes some 10 ms."""
    gpu = device.read().clocks if device else None
    return Conditions(
        power_source=power.source(),
        low_power_mode=power.is_low(),
        thermal_pressure=macos.thermal_pressure(),
        slowed_seconds=gpu.slowed_seconds if gpu else _cpu_slowed_seconds(backend),
        gpu_clock_mhz=gpu.clock_mhz if gpu else None,
        gpu_max_clock_mhz=gpu.max_clock_mhz if gpu else None,
        gpu_slowdowns=gpu.slowdowns if gpu else None,
    )


def _cpu_slowed_seconds(backend: str) -> float | None:
    return power.cpu_slowed_seconds() if backend == "cpu" else None


def caveats(before: Conditions | None, after: Conditions | None, seconds: float) -> tuple[str, ...]:
    """Return why a speed is not comparable with others: how it was measured, such as "on battery".

    The conditions are those ``before`` and ``after`` the ``seconds`` of a measurement. What is
    unknown is no reason.
    """
    known = [each for each in (before, after) if each is not None]
    reasons = []
    if any(each.power_source is PowerSource.BATTERY for each in known):
        reasons.append("on battery")
    if any(each.low_power_mode for each in known):
        reasons.append("in low power mode")
    if pressures := [p for p in _SLOWING if any(each.thermal_pressure is p for each in known)]:
        reasons.append(f"under {pressures[-1]} thermal pressure")
    if _was_slowed(before, after, seconds):
        reasons.append("while heat or the power supply slowed the device")
    return tuple(reasons)


def _was_slowed(before: Conditions | None, after: Conditions | None, seconds: float) -> bool:
    """Return whether heat or the power supply slowed the device.

    A GPU's power limit does not count: data center GPUs are at it whenever they are fully used, as
    an H200 was for all of 25 s of matrix products, at 63 °C.
    """
    for each in (before, after):
        if each and set(each.gpu_slowdowns or ()) - {nvidia.POWER_LIMIT}:
            return True
    if not before or not after or before.slowed_seconds is None or after.slowed_seconds is None:
        return False
    return after.slowed_seconds - before.slowed_seconds > _MAX_SLOWED_SHARE * seconds
