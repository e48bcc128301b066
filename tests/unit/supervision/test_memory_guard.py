"""When the machine is short of memory, and waiting until it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from your_ai.errors import MachineError
from your_ai.supervision import memory_guard
from your_ai.system.macos import PressureLevel
from your_ai.system.memory import MachineMemory
from your_ai.system.nvidia import GpuMemory

GB, MB = 2**30, 2**20
LINUX = MachineMemory(32 * GB, 24 * GB, 0, None)
MAC = MachineMemory(36 * GB, 20 * GB, 1 * GB, PressureLevel.NORMAL)
CRITICAL = replace(MAC, pressure=PressureLevel.CRITICAL)
WARNING = {"pressure": PressureLevel.WARNING}
CUDA = replace(LINUX, gpu=GpuMemory(140 * GB, 139 * GB))


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (LINUX, {}, None),
        (LINUX, {"available_bytes": 700 * MB}, None),
        (LINUX, {"available_bytes": 600 * MB}, "only 600.0 MB of memory left"),
        (LINUX, {"swap_used_bytes": 3 * GB}, None),
        (LINUX, {"swap_used_bytes": 4 * GB}, "swap use grew by 4.0 GB within a minute"),
        (MAC, {"available_bytes": 100 * MB}, None),  # few free and inactive pages are normal
        (MAC, {"pressure": PressureLevel.WARNING}, None),
        (MAC, {"swap_used_bytes": 5 * GB}, None),  # macOS also swaps under normal pressure
        (MAC, {**WARNING, "swap_used_bytes": 4 * GB}, None),  # grew by 3 GB
        (
            MAC,
            {**WARNING, "swap_used_bytes": 5 * GB},
            "swap use grew by 4.0 GB within a minute",
        ),
    ],
)
def test_what_raises_the_alarm(
    before: MachineMemory, now: dict[str, Any], said: str | None
) -> None:
    assert memory_guard.alarm((before, before, before, replace(before, **now))) == said


@pytest.mark.parametrize(
    ("recent", "raised"),
    [
        ((CRITICAL,), False),
        ((CRITICAL, CRITICAL, CRITICAL), False),
        ((CRITICAL, CRITICAL, CRITICAL, CRITICAL), True),
        ((MAC, CRITICAL, CRITICAL, CRITICAL, CRITICAL), True),
        ((CRITICAL, CRITICAL, CRITICAL, MAC), False),
        ((CRITICAL, MAC, CRITICAL, CRITICAL), False),
    ],
)
def test_critical_pressure_must_last(recent: tuple[MachineMemory, ...], raised: bool) -> None:
    said = "macOS reports critical memory pressure" if raised else None
    assert memory_guard.alarm(recent) == said


@pytest.mark.parametrize(
    ("total_gb", "floor_mb"), [(4, 256), (8, 256), (24, 491), (64, 1310), (128, 2048), (512, 2048)]
)
def test_the_minimum_of_available_memory(total_gb: int, floor_mb: int) -> None:
    enough = MachineMemory(total_gb * GB, (floor_mb + 1) * MB, 0, None)
    assert memory_guard.alarm([enough]) is None
    short = replace(enough, available_bytes=(floor_mb - 1) * MB)
    assert memory_guard.alarm([short]) is not None


@pytest.mark.parametrize("total_gb", [2, 4, 8, 16, 24, 64, 512])
def test_a_trial_starts_only_well_above_the_alarm(total_gb: int) -> None:
    for available in range(0, total_gb * 1024, 64):
        now = MachineMemory(total_gb * GB, available * MB, 0, None)
        if memory_guard.shortage(now) is None:
            less = replace(now, available_bytes=now.available_bytes - 200 * MB)
            assert memory_guard.alarm([less]) is None


@pytest.mark.parametrize(
    ("baseline", "now", "back"),
    [
        (LINUX, {"available_bytes": 24 * GB - 980 * MB}, True),
        (LINUX, {"available_bytes": 24 * GB - 990 * MB}, False),
        (CUDA, {}, True),
        (CUDA, {"gpu": GpuMemory(140 * GB, 135 * GB)}, True),
        (CUDA, {"gpu": GpuMemory(140 * GB, 134 * GB)}, False),
        (CUDA, {"gpu": GpuMemory(140 * GB, 139 * GB), "available_bytes": 20 * GB}, False),
        (CUDA, {"gpu": None}, True),  # nvidia-smi failed this time
        (LINUX, {"gpu": GpuMemory(140 * GB, 0)}, True),
        # On macOS only the pressure counts.
        (MAC, {"available_bytes": 0}, True),
        (MAC, WARNING, False),
        (replace(MAC, pressure=PressureLevel.WARNING), {"available_bytes": 0}, True),
    ],
)
def test_recovered_memory(baseline: MachineMemory, now: dict[str, Any], back: bool) -> None:
    assert memory_guard.is_recovered(baseline, replace(baseline, **now)) is back


def test_what_a_worker_needs_is_enough_if_others_have_taken_memory() -> None:
    taken = replace(LINUX, available_bytes=12 * GB)
    assert not memory_guard.is_recovered(LINUX, taken)
    assert memory_guard.is_recovered(LINUX, taken, enough_bytes=10 * GB)
    assert not memory_guard.is_recovered(LINUX, taken, enough_bytes=11 * GB)  # 1.6 GB must be left
    full = replace(CUDA, available_bytes=12 * GB, gpu=GpuMemory(140 * GB, 10 * GB))
    assert not memory_guard.is_recovered(CUDA, full, enough_bytes=10 * GB)


def reader(*available: int) -> Callable[[], MachineMemory]:
    readings: Iterator[int] = iter(available)
    return lambda: replace(LINUX, available_bytes=next(readings))


def never() -> bool:
    return False


def test_the_wait_ends_when_the_memory_has_recovered() -> None:
    read = reader(10 * GB, 15 * GB, int(23.5 * GB), 0)
    assert memory_guard.wait_for_memory(LINUX, never, read) == LINUX
    assert read().available_bytes == 0  # only three readings were taken


def test_memory_that_does_not_recover_is_awaited_only_once() -> None:
    gone = memory_guard.wait_for_memory(LINUX, never, reader(10 * GB), max_seconds=-1)
    assert gone.available_bytes == 10 * GB
    assert memory_guard.wait_for_memory(gone, never, reader(10 * GB)) == gone


def test_no_trial_starts_if_memory_is_short() -> None:
    with pytest.raises(MachineError) as refused:
        memory_guard.wait_for_memory(LINUX, never, reader(1 * GB), max_seconds=-1)
    assert str(refused.value) == (
        "This machine is short of memory: only 1.0 GB of memory is available, but 1.6 GB "
        "is required. Close other programs or, in a container, raise its memory limit. Then "
        "continue with --resume."
    )


def test_no_trial_starts_on_a_full_gpu() -> None:
    full = replace(CUDA, gpu=GpuMemory(140 * GB, 3 * GB))
    with pytest.raises(
        MachineError, match=r"only 3\.0 GB of GPU memory is free, but 4\.0 GB is required"
    ):
        memory_guard.wait_for_memory(CUDA, never, lambda: full, max_seconds=-1)


def test_no_trial_starts_on_a_mac_under_critical_pressure() -> None:
    with pytest.raises(MachineError, match="macOS reports critical memory pressure"):
        memory_guard.wait_for_memory(MAC, never, lambda: CRITICAL, max_seconds=-1)


def test_a_stop_request_ends_the_wait() -> None:
    assert memory_guard.wait_for_memory(LINUX, lambda: True, reader(1 * GB)) == LINUX
