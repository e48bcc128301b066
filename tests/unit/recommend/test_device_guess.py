"""Where the facts about the device come from without a worker."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from your_ai.errors import UsageError
from your_ai.planning.device import Device, budget_bytes
from your_ai.recommend import device_guess
from your_ai.recommend.history import History
from your_ai.recommend.macs import Mac
from your_ai.system import nvidia
from your_ai.system.machine import Machine
from your_ai.system.metal import metal_working_set
from your_ai.units import GB, MB

LINUX = Machine("Linux", "6.1", "x86_64", 16, 128 * GB, "3.11.7")
MAC = Machine("macOS", "26.1", "arm64", 12, 36 * GB, "3.11.7")
KNOWN = Device("metal", "Apple M3 Pro", 36 * GB, 27 * GB, None, {})


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that replaces PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def nvidia_smi(folder: Path, *lines: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    program.chmod(0o755)


def test_the_newest_run_is_preferred(programs: Path) -> None:
    nvidia_smi(programs, "echo 'NVIDIA A100, 40960'")
    past = History(KNOWN, "2026-01-02T03:04:05Z", ())
    assert device_guess.device(past, LINUX) == (KNOWN, "from the run of 2026-01-02")


def test_a_mac_without_history_has_the_working_set_of_its_macos() -> None:
    device, source = device_guess.device(None, MAC)
    assert device == Device("metal", "this Mac", 36 * GB, metal_working_set(36 * GB), None, {})
    assert "is estimated" in source
    older = device_guess.this_mac(replace(MAC, release="15.7"), wired_limit_mb=0)
    assert budget_bytes(older, None) == 27 * GB < budget_bytes(device, None) < 0.8 * 36 * GB


def test_a_limit_that_the_user_set_replaces_the_working_set() -> None:
    assert device_guess.this_mac(MAC, wired_limit_mb=20480).working_set_bytes == 20 * GB


def test_the_device_of_another_mac() -> None:
    device = device_guess.of_mac(Mac("M4 Pro", 24))
    working_set = metal_working_set(24 * GB)
    assert device == Device("metal", "Apple M4 Pro", 24 * GB, working_set, None, {})
    assert budget_bytes(device, None) == working_set < 0.8 * 24 * GB
    assert budget_bytes(device_guess.of_mac(Mac("M5 Max", 128)), None) == int(0.8 * 128 * GB)


def test_the_device_of_another_machine() -> None:
    gpu = device_guess.of_backend("cuda", 23.5)
    assert gpu == Device("cuda", "an NVIDIA GPU", int(23.5 * GB), None, None, {})
    assert budget_bytes(gpu, None) == int(0.8 * int(23.5 * GB))
    assert device_guess.of_backend("metal", 8).working_set_bytes == metal_working_set(8 * GB)
    with pytest.raises(UsageError, match=r"exceeds the memory of an NVIDIA GPU \(23\.50 GB\)"):
        budget_bytes(gpu, 24)


def test_an_nvidia_gpu_is_found_with_nvidia_smi(programs: Path) -> None:
    nvidia_smi(programs, 'echo "NVIDIA H200, 143771"; echo "NVIDIA T4, 15360"; echo "$@" >&2')
    device, source = device_guess.device(None, LINUX)
    assert device == Device("cuda", "NVIDIA H200", 143771 * MB, None, None, {})
    assert "nvidia-smi" in source


def test_nvidia_smi_is_queried_for_name_and_memory(programs: Path) -> None:
    asked = "--query-gpu=name,memory.total --format=csv,noheader,nounits"
    nvidia_smi(programs, f'[ "$*" = "{asked}" ] && echo "NVIDIA, Inc. H200, 143771"')
    assert device_guess.device(None, LINUX)[0].name == "NVIDIA, Inc. H200"


def test_a_gpu_without_its_own_memory_uses_the_machines(programs: Path) -> None:
    nvidia_smi(programs, "echo 'NVIDIA GB10, [N/A]'")
    device = device_guess.device(None, LINUX)[0]
    assert (device.backend, device.name, device.memory_bytes) == ("cuda", "NVIDIA GB10", 128 * GB)


@pytest.mark.parametrize(
    "line",
    [
        "exit 9",
        "echo 'NVIDIA H200, 143771'; exit 9",
        "echo 'No devices were found'",
        "true",
        "kill -9 $$",
        r"printf '\377\376\n'",
    ],
)
def test_invalid_output_of_nvidia_smi_is_ignored(line: str, programs: Path) -> None:
    nvidia_smi(programs, line)
    device, source = device_guess.device(None, LINUX)
    assert device == Device("cpu", "this machine's CPU", 128 * GB, None, None, {})
    assert source == "no GPU was found"


def test_the_cpu_is_used_without_nvidia_smi(programs: Path) -> None:
    assert device_guess.device(None, LINUX)[0].backend == "cpu"
    (programs / "nvidia-smi").mkdir()
    assert device_guess.device(None, LINUX)[0].backend == "cpu"


def test_nvidia_smi_has_a_time_limit(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(programs, "exec /bin/sleep 60")
    monkeypatch.setattr(nvidia, "TIMEOUT_SECONDS", 0.2)
    began = time.monotonic()
    assert device_guess.device(None, LINUX)[0].backend == "cpu"
    assert time.monotonic() - began < 10
