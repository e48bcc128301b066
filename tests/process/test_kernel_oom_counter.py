"""Real processes killed by the kernel, and its counters afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.support.cgroups import MIB, MemoryCgroup, memory_cgroup
from your_ai.system import cgroups
from your_ai.system.cgroups import machine_oom_kills

pytestmark = pytest.mark.root

LIMIT = 64 * MIB

# Waits for input, so that the counters can be read first. Stops far above the limit, so that only
# the test fails if the limit does not work.
ALLOCATE = """
import sys
print("ready", flush=True)
sys.stdin.readline()
blocks = [b"x" * (4 << 20) for _ in range(128)]
sys.exit(3)
"""

# A parent that outlives its worker and reports how it died, like the product.
PARENT = f"""
import subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", {ALLOCATE!r}])
print(worker.wait(), flush=True)
"""


def start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def await_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def found(cgroup: MemoryCgroup) -> cgroups.MemoryCgroup:
    return cgroups.MemoryCgroup(cgroup.version, cgroup.directory)


def kills_in(cgroup: MemoryCgroup) -> int:
    kills = found(cgroup).oom_kills()
    assert kills is not None
    return kills


def test_a_kill_by_the_kernel_is_counted_once() -> None:
    with memory_cgroup(LIMIT) as cgroup, start(cgroup.join_code + ALLOCATE) as victim:
        await_ready(victim)
        assert cgroups.of_process(victim.pid) == found(cgroup)
        before, machine_before = kills_in(cgroup), machine_oom_kills()
        victim.communicate("go\n", timeout=60)
        assert victim.returncode == -signal.SIGKILL
        assert kills_in(cgroup) == before + 1
        machine_after = machine_oom_kills()
        assert machine_before is not None
        assert machine_after is not None
        assert machine_after > machine_before


def test_another_kill_is_not_counted() -> None:
    with memory_cgroup(LIMIT) as cgroup, start(ALLOCATE) as victim:
        await_ready(victim)
        assert cgroups.of_process(victim.pid) != found(cgroup)
        cgroup.add(victim.pid)
        assert cgroups.of_process(victim.pid) == found(cgroup)
        before = kills_in(cgroup)
        victim.kill()
        assert victim.wait(60) == -signal.SIGKILL
        assert kills_in(cgroup) == before


def test_a_parent_in_the_same_cgroup_outlives_its_worker() -> None:
    with memory_cgroup(LIMIT) as cgroup:
        parent = subprocess.Popen(
            cgroup.command([sys.executable, "-c", PARENT]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with parent:
            await_ready(parent)
            assert parent.pid in cgroup.members()
            before = kills_in(cgroup)
            out, _ = parent.communicate("go\n", timeout=60)
        assert (parent.returncode, int(out)) == (0, -signal.SIGKILL)
        assert kills_in(cgroup) == before + 1


def test_the_helper_removes_its_cgroup() -> None:
    with memory_cgroup(LIMIT) as cgroup:
        left = start(cgroup.join_code + ALLOCATE)
        await_ready(left)
    with left:
        assert left.wait(60) == -signal.SIGKILL
    assert not cgroup.directory.exists()


def test_the_machines_memory_is_limited_by_its_cgroup() -> None:
    with memory_cgroup(512 * MIB) as group:
        code = "from your_ai.system.machine import describe; print(describe().memory_bytes)"
        command = group.command([sys.executable, "-c", code])
        seen = subprocess.run(command, check=True, capture_output=True, text=True)
        assert int(seen.stdout) == 512 * MIB
