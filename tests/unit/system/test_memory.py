"""A GPU's memory as reported by nvidia-smi, and the memory of this machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.gpus import QUERY
from your_ai.system import cgroups, conditions, memory, nvidia
from your_ai.system.cgroups import MemoryCgroup
from your_ai.system.nvidia import Gpu, GpuMemory, gpu_of

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


UUID = "GPU-0019ef91-ac4c-7e29-6ab3-554b260553d2"
FIELDS = f"--query-gpu={QUERY} --format=csv,noheader,nounits"
IDLE = "345, 1980, 0x0000000000000001, 0, 0, 0, 0"
"""The clocks of an idle H200."""


def memory_of(uuid: str | None = None) -> GpuMemory | None:
    return Gpu(uuid).read().memory


@pytest.mark.parametrize(
    ("uuid", "visible", "asked"),
    [
        # MLX's GPU, which is not the first of nvidia-smi, unlike CUDA sorted by the PCI bus.
        (UUID, None, UUID),
        (UUID, "2,1", UUID),
        (None, None, "0"),
        (None, "", "0"),
        (None, "2,1", "2"),
        (None, UUID, UUID),
    ],
)
def test_the_gpu_that_mlx_reports_is_queried(
    uuid: str | None,
    visible: str | None,
    asked: str,
    programs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    answer = f"143771, 143156, Disabled, {IDLE}"  # recorded on an H200 with driver 580
    nvidia_smi(programs, f'[ "$*" = "--id={asked} {FIELDS}" ] && echo "{answer}"')
    assert memory_of(uuid) == GpuMemory(143771 * MB, 143156 * MB)


MIG = "de1c4b3a-25ac-5a35-9d2f-0c4a9a4f5a11"
LISTED = f"""\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-11111111-0000-0000-0000-000000000000)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: {UUID})
  MIG 3g.40gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 1g.10gb     Device  1: (UUID: MIG-{MIG})
"""
# From gpustack's and dstack's tests: drivers 575 and later, whole GPU and MIG devices.
QUERIED = """\
<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
 <gpu id="00000000:00:09.0">
  <mig_devices>
   <mig_device>
    <index>0</index>
    <gpu_instance_id>1</gpu_instance_id>
    <fb_memory_usage>
     <total>40448 MiB</total><reserved>0 MiB</reserved><used>298 MiB</used><free>40151 MiB</free>
    </fb_memory_usage>
   </mig_device>
   <mig_device>
    <index>1</index>
    <gpu_instance_id>9</gpu_instance_id>
    <fb_memory_usage><total>9984 MiB</total><used>13 MiB</used><free>9970 MiB</free>
    </fb_memory_usage>
   </mig_device>
  </mig_devices>
  <fb_memory_usage><total>81920 MiB</total><used>3703 MiB</used><free>77771 MiB</free>
  </fb_memory_usage>
 </gpu>
</nvidia_smi_log>
"""


def partitioned(folder: Path, listed: str = LISTED, queried: str = QUERIED) -> None:
    """Install an nvidia-smi for a machine whose second GPU is partitioned (MIG)."""
    for name, text in (("listed", listed), ("queried", queried)):
        (folder / name).write_text(text)
    cat = f'while read -r line; do echo "$line"; done < {folder}'
    nvidia_smi(
        folder,
        f"""case "$*" in
        -L) {cat}/listed;;
        "-q -x --id={UUID}") {cat}/queried;;
        "--id={UUID} {FIELDS}") echo "81920, 77771, Enabled, {IDLE}";;
        *) echo "No devices were found"; exit 6;;
        esac""",
    )


# CUDA reports the UUID of the MIG device, and MLX puts "GPU-" in front of every UUID.
@pytest.mark.parametrize("uuid", [f"GPU-{MIG}", f"MIG-{MIG}"])
def test_the_memory_of_a_part_of_a_gpu_is_that_of_the_part(uuid: str, programs: Path) -> None:
    partitioned(programs)
    assert memory_of(uuid) == GpuMemory(9984 * MB, 9970 * MB)


def test_the_part_of_a_gpu_that_is_visible_is_found(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partitioned(programs)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"MIG-{MIG}")
    assert memory_of() == GpuMemory(9984 * MB, 9970 * MB)


@pytest.mark.parametrize(
    ("listed", "queried"),
    [
        (LISTED, ""),
        (LISTED, "<nvidia_smi_log></nvidia_smi_log>"),
        (LISTED, QUERIED.replace("9970 MiB", "N/A")),
        ("", QUERIED),
    ],
)
def test_nothing_is_known_of_a_part_that_is_not_described(
    listed: str, queried: str, programs: Path
) -> None:
    partitioned(programs, listed, queried)
    assert memory_of(f"GPU-{MIG}") is None


def test_the_memory_of_a_whole_gpu_is_not_taken_for_that_of_its_part(programs: Path) -> None:
    partitioned(programs)
    assert memory_of(UUID) is None


@pytest.mark.parametrize(
    "line",
    [
        "exit 9",
        "true",
        f"echo '[N/A], [N/A], [N/A], {IDLE}'",
        "echo 'No devices were found'",
        "echo 143771",
    ],
)
def test_a_gpu_without_memory_figures_is_ignored(line: str, programs: Path) -> None:
    nvidia_smi(programs, line)
    assert memory_of() is None


def test_a_driver_that_knows_no_clocks_tells_the_memory(programs: Path) -> None:
    fields = "--query-gpu=memory.total,memory.free,mig.mode.current"
    nvidia_smi(programs, f"[ $2 = {fields} ] && echo '100, 90, [N/A]'")
    assert memory_of(UUID) == GpuMemory(100 * MB, 90 * MB)


@pytest.mark.parametrize(
    ("backend", "memory_on_gpu"),
    [("metal", None), ("cpu", None), ("cuda", GpuMemory(100 * MB, 90 * MB))],
)
def test_the_gpu_is_queried_only_for_cuda(
    backend: str, memory_on_gpu: GpuMemory | None, programs: Path
) -> None:
    nvidia_smi(programs, f"echo '100, 90, [N/A], {IDLE}'")
    assert memory.for_trials(gpu_of(backend, UUID)).gpu == memory_on_gpu


def test_one_query_tells_all_about_a_gpu_at_one_moment(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(programs, f"echo $1 >> {programs}/called; echo '100, 90, [N/A], {IDLE}'")
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    gpu = Gpu(UUID)
    for _ in range(2):
        assert memory.for_trials(gpu).gpu == GpuMemory(100 * MB, 90 * MB)
        assert conditions.read("cuda", gpu).gpu_clock_mhz == 345
    called = programs / "called"
    assert called.read_text() == f"--id={UUID}\n"
    now += nvidia.MOMENT_SECONDS
    nvidia_smi(programs, f"echo '100, 80, [N/A], {IDLE}'")
    assert memory.for_trials(gpu).gpu == GpuMemory(100 * MB, 80 * MB)


def test_this_machine() -> None:
    now = memory.read()
    assert 0 < now.available_bytes <= now.total_bytes
    assert now.swap_used_bytes >= 0
    assert (now.pressure is None) == (sys.platform != "darwin")
    assert memory.for_trials(None).total_bytes == now.total_bytes <= psutil.virtual_memory().total


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A recorded v2 cgroup of 1000 MB: 600 MB are used, 100 MB of these for the cache."""
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
