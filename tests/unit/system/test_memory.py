"""A GPU's memory as reported by nvidia-smi, and the memory of this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from your_ai.system import cgroups, memory, nvidia
from your_ai.system.cgroups import MemoryCgroup
from your_ai.system.nvidia import GpuMemory

MB = 2**20


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that replaces PATH."""
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
def test_the_visible_gpu_is_queried(
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
def test_a_gpu_without_memory_figures_is_ignored(line: str, programs: Path) -> None:
    nvidia_smi(programs, line)
    assert nvidia.memory() is None


def test_the_gpu_is_queried_only_for_cuda(programs: Path) -> None:
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
    assert memory.for_trials("cpu").total_bytes == now.total_bytes <= psutil.virtual_memory().total


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A recorded v2 cgroup of 1000 MB, of which 600 MB are used, 100 MB of them for the cache."""
    for name, text in {
        "memory.events": "oom_kill 0",
        "memory.max": f"{1000 * MB}",
        "memory.current": f"{600 * MB}",
        "memory.stat": f"anon {500 * MB}\ninactive_file {60 * MB}\nactive_file {40 * MB}",
        "memory.swap.current": f"{7 * MB}",
    }.items():
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(cgroups, "of_process", lambda _: MemoryCgroup(2, tmp_path))
    memory._cgroup.cache_clear()
    yield tmp_path
    memory._cgroup.cache_clear()


def test_a_containers_limit_counts(container: Path) -> None:
    now = memory.read()
    assert (now.total_bytes, now.available_bytes) == (1000 * MB, 500 * MB)
    assert now.swap_used_bytes == 7 * MB


def test_the_machines_memory_counts_if_it_is_less(container: Path) -> None:
    (container / "memory.max").write_text(f"{2**50}\n")
    now, machine = memory.read(), psutil.virtual_memory()
    assert now.total_bytes == machine.total
    assert now.available_bytes <= machine.total


def test_the_machines_swap_counts_if_the_containers_is_not_counted(container: Path) -> None:
    (container / "memory.swap.current").unlink()
    assert memory.read().swap_used_bytes == psutil.swap_memory().used
