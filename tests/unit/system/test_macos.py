"""The macOS calls: recorded layouts on all systems, and the real kernel on a Mac."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from types import SimpleNamespace

import pytest

from your_ai.system import macos
from your_ai.system.footprint import Footprint, footprint
from your_ai.system.macos import PressureLevel, ThermalPressure

on_macos = pytest.mark.skipif(sys.platform != "darwin", reason="needs the macOS kernel")

# Apple's <sys/resource.h>, struct rusage_info_v4, after uint8_t ri_uuid[16]: all uint64_t.
RUSAGE_V4_FIELDS = [
    "ri_user_time",
    "ri_system_time",
    "ri_pkg_idle_wkups",
    "ri_interrupt_wkups",
    "ri_pageins",
    "ri_wired_size",
    "ri_resident_size",
    "ri_phys_footprint",
    "ri_proc_start_abstime",
    "ri_proc_exit_abstime",
    "ri_child_user_time",
    "ri_child_system_time",
    "ri_child_pkg_idle_wkups",
    "ri_child_interrupt_wkups",
    "ri_child_pageins",
    "ri_child_elapsed_abstime",
    "ri_diskio_bytesread",
    "ri_diskio_byteswritten",
    "ri_cpu_time_qos_default",
    "ri_cpu_time_qos_maintenance",
    "ri_cpu_time_qos_background",
    "ri_cpu_time_qos_utility",
    "ri_cpu_time_qos_legacy",
    "ri_cpu_time_qos_user_initiated",
    "ri_cpu_time_qos_user_interactive",
    "ri_billed_system_time",
    "ri_serviced_system_time",
    "ri_logical_writes",
    "ri_lifetime_max_phys_footprint",
    "ri_instructions",
    "ri_cycles",
    "ri_billed_energy",
    "ri_serviced_energy",
    "ri_interval_max_phys_footprint",
    "ri_runnable_time",
]


LARGEST = "ri_lifetime_max_phys_footprint"


def rusage_v4(**given: int) -> bytes:
    """Return a buffer with a different value in every field, all above 2**32."""
    values = {name: (index + 1) << 33 | index for index, name in enumerate(RUSAGE_V4_FIELDS)}
    values.update(given)
    return bytes(range(16)) + struct.pack(f"<{len(values)}Q", *values.values())


def test_the_structure_has_apples_size() -> None:
    assert len(rusage_v4()) == macos.RUSAGE_V4.size == 296


class FakeKernel:
    """Stands in for libproc and libSystem: C functions of the same types, called by ctypes."""

    def __init__(self) -> None:
        self.processes: dict[int, bytes] = {}
        self.sysctls: dict[bytes, bytes] = {}
        self.flavors: list[int] = []
        self.states: dict[bytes, int] = {}
        self.registered: dict[int, bytes] = {}
        rusage = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
        sysctl = ctypes.CFUNCTYPE(
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_void_p,
            ctypes.POINTER(ctypes.c_size_t),
            ctypes.c_void_p,
            ctypes.c_size_t,
        )
        register = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int))
        state = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_int, ctypes.POINTER(ctypes.c_uint64))
        cancel = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_int)
        self.library = SimpleNamespace(
            proc_pid_rusage=rusage(self._rusage),
            sysctlbyname=sysctl(self._sysctl),
            notify_register_check=register(self._register),
            notify_get_state=state(self._state),
            notify_cancel=cancel(self._cancel),
        )

    def _rusage(self, pid: int, flavor: int, buffer: int) -> int:
        self.flavors.append(flavor)
        if pid not in self.processes:
            return -1
        ctypes.memmove(buffer, self.processes[pid], len(self.processes[pid]))
        return 0

    def _sysctl(
        self, name: bytes, value: int, size: ctypes._Pointer[ctypes.c_size_t], new: int, length: int
    ) -> int:
        answer = self.sysctls.get(name)
        if answer is None or len(answer) > size[0] or new or length:
            return -1
        ctypes.memmove(value, answer, len(answer))
        size[0] = len(answer)
        return 0

    def _register(self, name: bytes, token: ctypes._Pointer[ctypes.c_int]) -> int:
        if name not in self.states:
            return 1000000  # NOTIFY_STATUS_FAILED
        token[0] = 42
        self.registered[42] = name
        return 0

    def _state(self, token: int, state: ctypes._Pointer[ctypes.c_uint64]) -> int:
        state[0] = self.states[self.registered[token]]
        return 0

    def _cancel(self, token: int) -> int:
        del self.registered[token]
        return 0


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel()
    monkeypatch.setattr(macos, "_library", lambda path: fake.library)
    return fake


def test_rusage_version_4_is_read(kernel: FakeKernel) -> None:
    kernel.processes[77] = rusage_v4()
    footprint, largest = map(RUSAGE_V4_FIELDS.index, ("ri_phys_footprint", LARGEST))
    expected = (footprint + 1) << 33 | footprint, (largest + 1) << 33 | largest
    assert macos.phys_footprint(77) == expected
    assert kernel.flavors == [4]


def test_the_maximum_is_never_below_the_current_footprint(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    kernel.processes[77] = rusage_v4(**{"ri_phys_footprint": 2000, LARGEST: 1000})
    assert footprint(77) == Footprint(2000, 2000)
    kernel.processes[77] = rusage_v4(**{"ri_phys_footprint": 2000, LARGEST: 3000})
    assert footprint(77) == Footprint(2000, 3000)
    assert footprint(78) is None


def test_a_process_that_is_gone_or_forbidden_has_no_footprint(kernel: FakeKernel) -> None:
    assert macos.phys_footprint(78) is None


@pytest.mark.parametrize(
    ("answer", "level"),
    [
        (1, PressureLevel.NORMAL),
        (2, PressureLevel.WARNING),
        (4, PressureLevel.CRITICAL),
        (0, None),  # the kernel's internal levels, which the sysctl never returns
        (3, None),
        (8, None),
        (-1, None),
        (b"\x01", None),
        (None, None),
    ],
)
def test_the_pressure_is_read_by_name(
    kernel: FakeKernel, answer: int | bytes | None, level: PressureLevel | None
) -> None:
    if answer is not None:
        raw = answer if isinstance(answer, bytes) else struct.pack("<i", answer)
        kernel.sysctls[b"kern.memorystatus_vm_pressure_level"] = raw
    assert macos.memory_pressure() is level


@pytest.mark.parametrize(
    ("state", "level"),
    [
        (0, ThermalPressure.NOMINAL),
        (1, ThermalPressure.MODERATE),
        (2, ThermalPressure.HEAVY),
        (3, ThermalPressure.TRAPPING),
        (4, ThermalPressure.SLEEPING),
        (30, None),  # iOS has other numbers
        (None, None),
    ],
)
def test_the_thermal_pressure_is_read_by_name(
    kernel: FakeKernel, state: int | None, level: ThermalPressure | None
) -> None:
    if state is not None:
        kernel.states[b"com.apple.system.thermalpressurelevel"] = state
    assert macos.thermal_pressure() is level
    assert kernel.registered == {}


def test_the_boot_session_is_read_by_name(kernel: FakeKernel) -> None:
    assert macos.boot_session() == ""
    kernel.sysctls[b"kern.bootsessionuuid"] = b"1B0A3D2E-0000\0"
    assert macos.boot_session() == "1B0A3D2E-0000"


@pytest.mark.skipif(sys.platform == "darwin", reason="for systems without these libraries")
def test_other_systems_report_nothing() -> None:
    assert macos.phys_footprint(os.getpid()) is None
    assert macos.memory_pressure() is None
    assert macos.thermal_pressure() is None
    assert macos.boot_session() == ""


@on_macos
def test_the_real_footprint_grows_with_allocations() -> None:
    before = macos.phys_footprint(os.getpid())
    block = b"\xa5" * (64 * 2**20)
    after = macos.phys_footprint(os.getpid())
    assert before is not None
    assert after is not None
    assert abs(after[0] - before[0] - len(block)) < 16 * 2**20
    assert after[1] > before[0] > 0


@on_macos
def test_the_real_kernel_reports_the_pressure() -> None:
    assert macos.memory_pressure() in set(PressureLevel)
    assert macos.thermal_pressure() in set(ThermalPressure)


@on_macos
def test_a_real_process_that_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(60)
    assert macos.phys_footprint(process.pid) is None
