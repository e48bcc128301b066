"""What is left: a cgroup's files as they are written, a GPU as nvidia-smi tells, this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from your_ai.system import cgroups, memory, nvidia
from your_ai.system.nvidia import GpuMemory

MB = 2**20


def cgroup(folder: Path, files: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


def proc(tmp_path: Path, own: str, mount: str) -> Path:
    """A /proc with one process, 41, and below ``tmp_path``/cgroup its hierarchy."""
    folder = tmp_path / "proc"
    cgroup(folder / "41", {"cgroup": own})
    cgroup(folder / "self", {"mountinfo": f"9 8 0:29 / {tmp_path}/cgroup rw - {mount}"})
    return folder


def v1(limit: object, used: int, active: int = 0, inactive: int = 0) -> dict[str, object]:
    return {
        "memory.oom_control": "oom_kill 0",
        "memory.limit_in_bytes": limit,
        "memory.usage_in_bytes": used,
        "memory.stat": f"active_file 1\ninactive_file 1\nhierarchical_memory_limit 1\n"
        f"total_inactive_file {inactive}\ntotal_active_file {active}",
    }


def v2(limit: object, used: int, active: int = 0, inactive: int = 0) -> dict[str, object]:
    return {
        "memory.events": "oom_kill 0",
        "memory.max": limit,
        "memory.current": used,
        "memory.stat": f"anon {used}\ninactive_file {inactive}\nactive_file {active}",
    }


@pytest.mark.parametrize(
    ("files", "left"),
    [
        (v1(1000, 300), 700),
        (v1(1000, 900, active=200, inactive=300), 600),
        (v1(1000, 1000), 0),
        (v1(1000, 1020), 0),  # it was lowered
        (v1(1000, 300, active=400), 1000),  # counted at another moment
    ],
)
def test_a_v1_cgroup(tmp_path: Path, files: dict[str, object], left: int) -> None:
    cgroup(tmp_path / "cgroup/box", files)
    found = cgroups.memory_left(41, proc=proc(tmp_path, "4:memory:/box", "cgroup cgroup rw,memory"))
    assert found == left


@pytest.mark.parametrize(
    ("above", "own", "left"),
    [
        (v2("max", 5000), v2(1000, 900, active=200, inactive=300), 600),
        (v2(2000, 1800), v2(1000, 300), 200),  # others use what is above
        (v2(2000, 1000), v2("max", 300), 1000),
        (v2("max", 1000), v2("max", 300), None),
        ({}, v2(1000, 300), 700),  # the root has none of these files
    ],
)
def test_a_v2_cgroup(
    tmp_path: Path, above: dict[str, object], own: dict[str, object], left: int | None
) -> None:
    cgroup(tmp_path / "cgroup/user", above)
    cgroup(tmp_path / "cgroup/user/box", own)
    found = cgroups.memory_left(41, proc=proc(tmp_path, "0::/user/box", "cgroup2 cgroup2 rw"))
    assert found == left


def test_no_cgroup_is_no_limit(tmp_path: Path) -> None:
    assert cgroups.memory_left(41, proc=tmp_path) is None


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all programs that there are, which are none yet."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def nvidia_smi(folder: Path, line: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{line}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("visible", "asked"),
    [
        (None, "0"),
        ("", "0"),
        ("2,1", "2"),
        ("GPU-1b0a3d2e-0000-0000-0000-000000000000", "GPU-1b0a3d2e-0000-0000-0000-000000000000"),
    ],
)
def test_the_gpu_that_is_trained_on_is_asked(
    visible: str | None, asked: str, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    words = f"--id={asked} --query-gpu=memory.total,memory.free --format=csv,noheader,nounits"
    nvidia_smi(programs, f'[ "$*" = "{words}" ] && echo "143771, 143156"')
    assert nvidia.memory() == GpuMemory(143771 * MB, 143156 * MB)


@pytest.mark.parametrize(
    "line",
    ["exit 9", "true", "echo '[N/A], [N/A]'", "echo 'No devices were found'", "echo 143771"],
)
def test_a_gpu_that_does_not_tell_is_not_counted(line: str, programs: Path) -> None:
    nvidia_smi(programs, line)
    assert nvidia.memory() is None


def test_only_a_trial_on_cuda_asks_for_the_gpu(programs: Path) -> None:
    nvidia_smi(programs, f"echo called >> {programs}/called; echo '100, 90'")
    assert memory.for_trials("metal").gpu is None
    assert memory.for_trials("cpu").gpu is None
    assert memory.read().gpu is None
    assert not (programs / "called").exists()
    assert memory.for_trials("cuda").gpu == GpuMemory(100 * MB, 90 * MB)


def test_this_machine() -> None:
    now = memory.read()
    assert 0 < now.available_bytes <= now.total_bytes
    assert now.swap_used_bytes >= 0
    assert (now.pressure is None) == (sys.platform != "darwin")
    assert memory.for_trials("cpu").total_bytes <= now.total_bytes
