"""Read a process's physical footprint, memory pressure and heat on macOS, through libSystem.

This needs no privileges for the user's own processes. On other systems the functions return
``None`` or an empty string, so callers need not check the platform.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from enum import StrEnum

_LIBPROC = "/usr/lib/libproc.dylib"
_LIBSYSTEM = "/usr/lib/libSystem.B.dylib"

# struct rusage_info_v4 in Apple's <sys/resource.h>, bsd/sys/resource.h in
# github.com/apple-oss-distributions/xnu at 1031c584a5e37aff177559b9f69dbd3c8c3fd30a: uint8_t
# ri_uuid[16], then 35 uint64_t. Counted from 0, ri_phys_footprint is the 7th of those and
# ri_lifetime_max_phys_footprint the 28th, both in bytes. All Macs that have it are little-endian.
_RUSAGE_INFO_V4 = 4
RUSAGE_V4 = struct.Struct("<16x 56x Q 160x Q 48x")

_MAX_SYSCTL_BYTES = 256


class PressureLevel(StrEnum):
    """How short of memory the machine is, according to the macOS kernel."""

    NORMAL = "normal"
    WARNING = "warning"
    CRITICAL = "critical"


class ThermalPressure(StrEnum):
    """How hot the machine is, according to macOS; from "heavy" on, the chip is slowed down."""

    NOMINAL = "nominal"
    MODERATE = "moderate"
    HEAVY = "heavy"
    TRAPPING = "trapping"
    SLEEPING = "sleeping"


# The sysctl returns an int: NOTE_MEMORYSTATUS_PRESSURE_NORMAL, _WARN or _CRITICAL. It converts the
# kernel's levels 0 to 3 to these, and "urgent" to a warning (sysctl_memorystatus_vm_pressure_level
# in XNU's bsd/kern/kern_memorystatus_notify.c).
_PRESSURE_LEVELS = {
    struct.pack("<i", 1): PressureLevel.NORMAL,
    struct.pack("<i", 2): PressureLevel.WARNING,
    struct.pack("<i", 4): PressureLevel.CRITICAL,
}


def phys_footprint(pid: int) -> tuple[int, int] | None:
    """Return a process's physical footprint and its maximum, in bytes.

    Activity Monitor shows it as "Memory". Unlike the resident size, it includes Metal buffers and
    compressed pages. ``None`` if the process is gone or belongs to another user.
    """
    library = _library(_LIBPROC)
    buffer = ctypes.create_string_buffer(RUSAGE_V4.size)
    if library is None or library.proc_pid_rusage(pid, _RUSAGE_INFO_V4, buffer) != 0:
        return None
    current, largest = RUSAGE_V4.unpack(buffer.raw)
    return current, largest


def memory_pressure() -> PressureLevel | None:
    """Return how short of memory the machine is; ``None`` if the kernel does not report it."""
    return _PRESSURE_LEVELS.get(_sysctl(b"kern.memorystatus_vm_pressure_level"))


def thermal_pressure() -> ThermalPressure | None:
    """Return how hot the machine is; ``None`` if macOS does not report it.

    The state of a notification (notify(3)) that is read by name, without privileges. Its values are
    those of OSThermalPressureLevel for macOS in Apple's private <libkern/OSThermalNotification.h>.
    """
    library = _library(_LIBSYSTEM)
    token, state = ctypes.c_int(), ctypes.c_uint64()
    if library is None or library.notify_register_check(
        b"com.apple.system.thermalpressurelevel", ctypes.byref(token)
    ):
        return None
    failed = library.notify_get_state(token, ctypes.byref(state))
    library.notify_cancel(token)
    levels = tuple(ThermalPressure)
    return levels[state.value] if not failed and state.value < len(levels) else None


def boot_session() -> str:
    """Return the UUID of this boot; empty if the kernel does not report it."""
    return _sysctl(b"kern.bootsessionuuid").partition(b"\0")[0].decode(errors="replace")


def wired_limit_mb() -> int:
    """Return the limit that the user set for a GPU's memory; 0 for the default, or if unknown."""
    return int.from_bytes(_sysctl(b"iogpu.wired_limit_mb"), "little")


def _sysctl(name: bytes) -> bytes:
    """Return the value of a sysctl (sysctlbyname(3)); empty if it does not exist."""
    library = _library(_LIBSYSTEM)
    buffer = ctypes.create_string_buffer(_MAX_SYSCTL_BYTES)
    size = ctypes.c_size_t(len(buffer))
    if library is None or library.sysctlbyname(
        name, buffer, ctypes.byref(size), None, ctypes.c_size_t(0)
    ):
        return b""
    return buffer.raw[: size.value]


@functools.cache
def _library(path: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(path)
    except OSError:
        return None
