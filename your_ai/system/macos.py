"""macOS: a process's physical footprint and the machine's memory pressure, through libSystem.

Needs no privileges for one's own processes. On another system every call returns ``None``, so that
callers need no platform test of their own.
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
# ri_lifetime_max_phys_footprint the 28th, both in bytes. Every Mac that has it is little-endian.
_RUSAGE_INFO_V4 = 4
RUSAGE_V4 = struct.Struct("<16x 56x Q 160x Q 48x")

_MAX_SYSCTL_BYTES = 256


class PressureLevel(StrEnum):
    """How short of memory the macOS kernel says the machine is."""

    NORMAL = "normal"
    WARNING = "warning"
    CRITICAL = "critical"


# An int with NOTE_MEMORYSTATUS_PRESSURE_NORMAL, _WARN or _CRITICAL: the sysctl converts to these
# from the kernel's own 0 to 3 (sysctl_memorystatus_vm_pressure_level in XNU's
# bsd/kern/kern_memorystatus_notify.c), where "urgent" is a warning too.
_PRESSURE_LEVELS = {
    struct.pack("<i", 1): PressureLevel.NORMAL,
    struct.pack("<i", 2): PressureLevel.WARNING,
    struct.pack("<i", 4): PressureLevel.CRITICAL,
}


def phys_footprint(pid: int) -> tuple[int, int] | None:
    """A process's physical footprint, Activity Monitor's "Memory", and its maximum, in bytes.

    Unlike the resident size it includes Metal buffers and compressed pages. ``None`` when the
    process is gone or another user's.
    """
    library = _library(_LIBPROC)
    buffer = ctypes.create_string_buffer(RUSAGE_V4.size)
    if library is None or library.proc_pid_rusage(pid, _RUSAGE_INFO_V4, buffer) != 0:
        return None
    current, largest = RUSAGE_V4.unpack(buffer.raw)
    return current, largest


def memory_pressure() -> PressureLevel | None:
    """How short of memory the machine is; ``None`` when the kernel does not say."""
    return _PRESSURE_LEVELS.get(_sysctl(b"kern.memorystatus_vm_pressure_level"))


def boot_session() -> str:
    """The UUID of this boot; empty when the kernel does not say."""
    return _sysctl(b"kern.bootsessionuuid").partition(b"\0")[0].decode(errors="replace")


def _sysctl(name: bytes) -> bytes:
    """The value of a sysctl (sysctlbyname(3)); empty if there is none."""
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
