"""macOS: a process's physical footprint and the machine's memory pressure, through libSystem.

Nothing here needs privileges for one's own processes, and nothing starts a subprocess. On another
system every call answers None, so that callers need no platform test of their own.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

_LIBPROC = "/usr/lib/libproc.dylib"
_LIBSYSTEM = "/usr/lib/libSystem.B.dylib"

_RUSAGE_INFO_V4 = 4
# struct rusage_info_v4 is uint8_t ri_uuid[16] followed by 35 uint64_t without padding; counted from
# 0, ri_phys_footprint is the 7th of them and ri_lifetime_max_phys_footprint the 28th.
_UUID_BYTES = 16
_FIELD_BYTES = 8
RUSAGE_V4_BYTES = _UUID_BYTES + 35 * _FIELD_BYTES
_PHYS_FOOTPRINT_OFFSET = _UUID_BYTES + 7 * _FIELD_BYTES
_LIFETIME_MAX_OFFSET = _UUID_BYTES + 28 * _FIELD_BYTES

_PRESSURE_SYSCTL = b"kern.memorystatus_vm_pressure_level"
_BOOT_SYSCTL = b"kern.bootsessionuuid"
_MAX_TEXT_BYTES = 256


@dataclass(frozen=True)
class Footprint:
    """What the operating system charges one process.

    Attributes:
        current_bytes: The charge now, in bytes.
        lifetime_max_bytes: The largest charge since the process began, in bytes; never less than
            `current_bytes`.
    """

    current_bytes: int
    lifetime_max_bytes: int


class PressureLevel(StrEnum):
    """How short of memory the macOS kernel says that the machine is."""

    NORMAL = "normal"
    WARNING = "warning"
    CRITICAL = "critical"


# The values of NOTE_MEMORYSTATUS_PRESSURE_NORMAL, _WARN and _CRITICAL: the sysctl converts to these
# from the kernel's own 0 to 3 (sysctl_memorystatus_vm_pressure_level in XNU's
# bsd/kern/kern_memorystatus_notify.c), where "urgent" is a warning too.
_PRESSURE_LEVELS = {
    1: PressureLevel.NORMAL,
    2: PressureLevel.WARNING,
    4: PressureLevel.CRITICAL,
}


def parse_rusage_v4(buffer: bytes) -> Footprint:
    """Read the footprint out of a `struct rusage_info_v4`.

    The offsets are those of Apple's <sys/resource.h>: `bsd/sys/resource.h` in
    github.com/apple-oss-distributions/xnu at 1031c584a5e37aff177559b9f69dbd3c8c3fd30a. Every Mac
    that has the call is little-endian; both fields are in bytes.

    Args:
        buffer: What `proc_pid_rusage` wrote for RUSAGE_INFO_V4, `RUSAGE_V4_BYTES` long or longer.

    Raises:
        ValueError: The buffer is too short to be that structure.
    """
    if len(buffer) < RUSAGE_V4_BYTES:
        raise ValueError(f"rusage_info_v4 has {RUSAGE_V4_BYTES} bytes, not {len(buffer)}")
    (current,) = struct.unpack_from("<Q", buffer, _PHYS_FOOTPRINT_OFFSET)
    (lifetime_max,) = struct.unpack_from("<Q", buffer, _LIFETIME_MAX_OFFSET)
    # The ledger is not frozen while the kernel copies it, so the maximum may lag by one charge.
    return Footprint(current_bytes=current, lifetime_max_bytes=max(current, lifetime_max))


def parse_pressure_level(value: int) -> PressureLevel | None:
    """Name a value of `kern.memorystatus_vm_pressure_level`; None for one that is not known."""
    return _PRESSURE_LEVELS.get(value)


def phys_footprint(pid: int) -> Footprint | None:
    """Ask the kernel for a process's physical footprint: what Activity Monitor calls its memory.

    Unlike the resident size it includes Metal buffers and compressed pages.

    Returns:
        The footprint, or None where the process is gone or another user's, or this is not macOS.
    """
    buffer = _proc_pid_rusage_v4(pid)
    return None if buffer is None else parse_rusage_v4(buffer)


def memory_pressure() -> PressureLevel | None:
    """Ask the kernel how short of memory the machine is; None where it does not say."""
    value = _sysctl_int(_PRESSURE_SYSCTL)
    return None if value is None else parse_pressure_level(value)


def boot_session() -> str | None:
    """Ask the kernel for the UUID of this boot; None where it does not say."""
    return _sysctl_text(_BOOT_SYSCTL)


@functools.cache
def _load_library(path: str) -> ctypes.CDLL | None:
    # Imported here, not above: only a Mac needs it, and the command has to start quickly.
    import ctypes

    try:
        return ctypes.CDLL(path)
    except OSError:
        return None


def _proc_pid_rusage_v4(pid: int) -> bytes | None:
    library = _load_library(_LIBPROC)
    if library is None:
        return None
    import ctypes

    # The header's type, rusage_info_t *, reads as void **; the kernel fills what it points to.
    library.proc_pid_rusage.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    library.proc_pid_rusage.restype = ctypes.c_int
    buffer = ctypes.create_string_buffer(RUSAGE_V4_BYTES)
    failed = library.proc_pid_rusage(pid, _RUSAGE_INFO_V4, buffer)
    return None if failed else buffer.raw


def _sysctl_int(name: bytes) -> int | None:
    import ctypes

    raw = _sysctl(name, ctypes.sizeof(ctypes.c_int))
    return None if raw is None else ctypes.c_int.from_buffer_copy(raw).value


def _sysctl_text(name: bytes) -> str | None:
    raw = _sysctl(name, None)
    return None if raw is None else raw.partition(b"\0")[0].decode(errors="replace")


def _sysctl(name: bytes, nbytes: int | None) -> bytes | None:
    """The value of that name; None where there is none, or not one of so many bytes."""
    library = _load_library(_LIBSYSTEM)
    if library is None:
        return None
    import ctypes

    library.sysctlbyname.argtypes = [
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
    ]
    library.sysctlbyname.restype = ctypes.c_int
    buffer = ctypes.create_string_buffer(nbytes or _MAX_TEXT_BYTES)
    size = ctypes.c_size_t(len(buffer))
    failed = library.sysctlbyname(name, buffer, ctypes.byref(size), None, 0)
    if failed or (nbytes is not None and size.value != nbytes):
        return None
    return buffer.raw[: size.value]
