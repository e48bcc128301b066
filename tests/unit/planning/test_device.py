"""The device as described by each backend of MLX (recorded), and the default budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import macs
from worker.protocol.messages import Device as DeviceEvent
from your_ai.errors import UsageError
from your_ai.planning.device import Device, budget_bytes, from_probe
from your_ai.system.machine import Machine
from your_ai.units import GB

VERSIONS = {"python": "3.11.7", "mlx": "0.32.4", "mlx-lm": "0.32.2"}
MAC = Machine("macOS", "26.1", "arm64", 12, 36 * GB, "3.11.7")
LINUX = Machine("Linux", "6.8.0", "x86_64", 16, 128 * GB, "3.11.7")

M3_PRO = DeviceEvent(
    0.1,
    "metal",
    {
        "device_name": "Apple M3 Pro",
        "architecture": "applegpu_g15s",
        "memory_size": 38654705664,
        "max_recommended_working_set_size": 28991029248,
        "max_buffer_length": 21743271936,
        "resource_limit": 499000,
    },
    VERSIONS,
)
PARAVIRTUAL = DeviceEvent(0.1, "metal", macs.PARAVIRTUAL, VERSIONS)
SMALL_PARAVIRTUAL = DeviceEvent(0.1, "metal", macs.SMALL_PARAVIRTUAL, VERSIONS)
H200 = DeviceEvent(
    0.1,
    "cuda",
    {
        "device_name": "NVIDIA H200",
        "uuid": "GPU-1b0a3d2e-0000-0000-0000-000000000000",
        "architecture": "sm_90a",
        "total_memory": 150754820096,
        "free_memory": 150054371328,
        "pci_bus_id": "0000:19:00.0",
    },
    VERSIONS,
)
CPU = DeviceEvent(0.1, "cpu", {"device_name": "AMD EPYC", "architecture": "x86_64"}, VERSIONS)


@pytest.mark.parametrize(
    ("answer", "machine", "device"),
    [
        pytest.param(
            M3_PRO,
            MAC,
            Device("metal", "Apple M3 Pro", 36 * GB, 27 * GB, None, VERSIONS),
            id="metal",
        ),
        pytest.param(
            PARAVIRTUAL,
            Machine("macOS", "15.7", "arm64", 3, 7 * GB, "3.11.7"),
            Device("metal", "Apple Paravirtual device", 7 * GB, 5010800640, None, VERSIONS),
            id="a-runner-of-github",
        ),
        pytest.param(
            H200,
            LINUX,
            Device("cuda", "NVIDIA H200", 150754820096, None, 150054371328, VERSIONS),
            id="cuda",
        ),
        pytest.param(
            CPU, LINUX, Device("cpu", "AMD EPYC", 128 * GB, None, None, VERSIONS), id="cpu"
        ),
        pytest.param(
            DeviceEvent(0.1, "cpu", {}, VERSIONS),
            LINUX,
            Device("cpu", "cpu", 128 * GB, None, None, VERSIONS),
            id="nothing-known",
        ),
    ],
)
def test_the_device_info_of_each_backend_is_read(
    answer: DeviceEvent, machine: Machine, device: Device
) -> None:
    assert from_probe(answer, machine) == device


@pytest.mark.parametrize(
    ("answer", "budget"),
    [
        pytest.param(M3_PRO, 27 * GB, id="metal-its-working-set-is-less-than-80-percent"),
        pytest.param(PARAVIRTUAL, 5010800640, id="a-runner-of-github"),
        pytest.param(SMALL_PARAVIRTUAL, GB, id="a-runner-of-github-with-1-gb-for-its-gpu"),
        pytest.param(H200, 120603856076, id="cuda-80-percent-of-the-gpus-memory"),
        pytest.param(CPU, int(0.8 * 128 * GB), id="cpu-80-percent-of-the-machines"),
    ],
)
def test_the_default_budget(answer: DeviceEvent, budget: int) -> None:
    assert budget_bytes(from_probe(answer, LINUX), None) == budget


def test_a_large_working_set_does_not_raise_the_default() -> None:
    device = Device("metal", "Apple M2 Ultra", 192 * GB, 190 * GB, None, VERSIONS)
    assert budget_bytes(device, None) == int(0.8 * 192 * GB)


@pytest.mark.parametrize("asked", [0.002, 12, 28.8, 36])
def test_the_budget_may_be_all_of_the_memory(asked: float) -> None:
    assert budget_bytes(from_probe(M3_PRO, MAC), asked) == int(asked * GB)


@pytest.mark.parametrize("asked", [36.0001, 100_000, 1e308])
def test_a_budget_larger_than_the_memory_is_refused(asked: float) -> None:
    with pytest.raises(UsageError, match=r"exceeds the memory of Apple M3 Pro \(36\.00 GB\)"):
        budget_bytes(from_probe(M3_PRO, MAC), asked)


@given(st.integers(1, 2**50), st.none() | st.integers(1, 2**50))
def test_the_default_never_exceeds_memory_or_working_set(memory: int, working: int | None) -> None:
    budget = budget_bytes(Device("metal", "any", memory, working, None, {}), None)
    assert 0 <= budget <= 0.8 * memory
    assert working is None or budget <= working


def test_the_default_budget_excludes_gpu_memory_in_use() -> None:
    device = Device("cuda", "NVIDIA H200", 140 * GB, None, 80 * GB, VERSIONS)
    assert budget_bytes(device, None) == 80 * GB
    assert budget_bytes(device, 120) == 120 * GB
