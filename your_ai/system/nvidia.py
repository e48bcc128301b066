"""Query NVIDIA GPUs with nvidia-smi. If it is missing or fails, all functions return ``None``."""

from __future__ import annotations

import math
import os
import re
import time
from dataclasses import dataclass

from your_ai.system.tools import output_of
from your_ai.units import MB

# Loading the driver takes a second or two if no other program keeps it loaded.
TIMEOUT_SECONDS = 4.0
MOMENT_SECONDS = 0.1
"""Time for which a reading of a GPU is reused."""

POWER_LIMIT = "power limit"
_SLOWDOWNS = {
    0x04: POWER_LIMIT,
    0x08: "hardware",
    0x20: "heat",
    0x40: "heat (hardware)",
    0x80: "power supply",
}
"""Bits of the reasons for a reduced clock (nvmlClocksEventReason… and …ThrottleReason… in NVML's
documentation), without those that are no slowdown: idle, fixed clocks, a boost group, a display."""


@dataclass(frozen=True, slots=True)
class GpuClocks:
    """The clock of a GPU, and what reduces it; unknown facts are ``None``.

    Attributes:
        clock_mhz: The current clock of the multiprocessors.
        max_clock_mhz: Their highest possible clock.
        slowdowns: What reduces the clock at the moment.
        slowed_seconds: How long heat or the power supply has reduced it since the driver started.
    """

    clock_mhz: int | None
    max_clock_mhz: int | None
    slowdowns: tuple[str, ...] | None
    slowed_seconds: float | None


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """A GPU's own memory, in bytes; ``free_bytes`` is used by no program."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class GpuReading:
    """A GPU at one moment; unknown facts are ``None``.

    ``memory`` is also ``None`` if the GPU shares the machine's memory; nvidia-smi then prints
    "[N/A]".
    """

    memory: GpuMemory | None
    clocks: GpuClocks | None


class Gpu:
    """The GPU that MLX reports as ``uuid``.

    Without it, this is the first visible one. It may not be the one that MLX uses, because
    nvidia-smi sorts GPUs by their PCI bus and CUDA the fastest first.
    """

    def __init__(self, uuid: str | None = None) -> None:
        self._target = uuid or _first_visible()
        self._reading = GpuReading(None, None)
        self._read_at = -math.inf

    def read(self) -> GpuReading:
        """Read the GPU, or return the reading of a moment ago: each takes a process."""
        if time.monotonic() - self._read_at >= MOMENT_SECONDS:
            self._reading = _read(self._target)
            self._read_at = time.monotonic()
        return self._reading


def gpu_of(backend: str, uuid: str | None) -> Gpu | None:
    """Return the GPU of an MLX backend; ``None`` for backends other than CUDA."""
    return Gpu(uuid) if backend == "cuda" else None


def query(fields: str, *options: str) -> list[str] | None:
    """Return one line per GPU with the values of ``fields``, separated by ", ".

    ``fields`` are names from `nvidia-smi --help-query-gpu`, separated by commas. Sizes are in MiB.
    """
    text = _smi(*options, f"--query-gpu={fields}", "--format=csv,noheader,nounits")
    return None if text is None else text.splitlines()


def _read(target: str) -> GpuReading:
    # A driver rejects the whole query because of one unknown field.
    for fields in (f"{_MEMORY},{_CLOCKS},{_COUNTERS}", f"{_MEMORY},{_CLOCKS}", _MEMORY):
        if lines := query(fields, f"--id={target}"):
            memory, figures = lines[0].split(", ")[:3], lines[0].split(", ")[3:]
            return GpuReading(_memory(memory) or _part_memory(target), _clocks(figures))
    return GpuReading(_part_memory(target), None)


def _memory(figures: list[str]) -> GpuMemory | None:
    match figures:
        case [total, free, mig] if total.isdecimal() and free.isdecimal() and mig != "Enabled":
            return GpuMemory(int(total) * MB, int(free) * MB)
    return None


def _clocks(figures: list[str]) -> GpuClocks | None:
    match figures:
        case [clock, maximum, reasons, *counters] if len(counters) in (0, 4):
            return GpuClocks(
                _number(clock), _number(maximum), _slowdowns(reasons), _slowed_seconds(counters)
            )
    return None


_MEMORY = "memory.total,memory.free,mig.mode.current"
_CLOCKS = "clocks.sm,clocks.max.sm,clocks_throttle_reasons.active"
_COUNTERS = ",".join(
    f"clocks_event_reasons_counters.{name}"
    for name in (
        "hw_thermal_slowdown",
        "hw_power_brake_slowdown",
        "sw_thermal_slowdown",
        "sw_power_cap",
    )
)


def _slowdowns(reasons: str) -> tuple[str, ...] | None:
    if not re.fullmatch(r"0x[0-9A-Fa-f]+", reasons):
        return None
    return tuple(name for bit, name in _SLOWDOWNS.items() if int(reasons, 16) & bit)


def _slowed_seconds(counters: list[str]) -> float | None:
    """Return the sum of the counters, in microseconds, that are about heat or the power supply.

    Some drivers count the power limit as heat (575 on a laptop: both counters are equal).
    """
    if not counters or not all(counter.isdecimal() for counter in counters):
        return None
    *hardware, heat, limit = map(int, counters)
    return (sum(hardware) + (heat if heat != limit else 0)) / 1e6


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _first_visible() -> str:
    """Return an index or a UUID; nvidia-smi accepts both."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip() or "0"


def _part_memory(uuid: str) -> GpuMemory | None:
    """Return the memory of a part of a GPU (a MIG device).

    It is only in the description of the whole GPU, where parts have an index but no UUID; the list
    of all GPUs has both. CUDA reports a part's own UUID (cuDeviceGetUuid_v2), which MLX prefixes
    with "GPU-" like any other (mlx/backend/cuda/device_info.cpp).
    """
    own, whole = uuid.partition("-")[2], ""
    for line in (_smi("-L") or "").splitlines():
        match _LISTED.search(line):
            case None:
                continue
            case found if found["kind"] == "GPU":
                whole = found[0]
            case found if own and found["hex"] == own:
                return _described_part(_smi("-q", "-x", f"--id={whole}") or "", found["index"])
    return None


_LISTED = re.compile(r"(?:Device +(?P<index>\d+): \(UUID: )?(?P<kind>GPU|MIG)-(?P<hex>[\w-]+)")


def _described_part(description: str, index: str) -> GpuMemory | None:
    from xml.etree import ElementTree  # slow, and rarely needed

    try:
        parts = ElementTree.fromstring(description).iter("mig_device")  # noqa: S314 - the driver's
    except ElementTree.ParseError:
        return None
    for part in parts:
        if part.findtext("index") == index:
            sizes = (part.findtext(f"fb_memory_usage/{name}", "") for name in ("total", "free"))
            total, free = (size.removesuffix(" MiB") for size in sizes)
            if total.isdecimal() and free.isdecimal():
                return GpuMemory(int(total) * MB, int(free) * MB)
    return None


def _smi(*arguments: str) -> str | None:
    return output_of("nvidia-smi", *arguments, seconds=TIMEOUT_SECONDS)
