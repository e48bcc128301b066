"""Workers that use up the memory of a container. The container is a real memory cgroup."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.cgroups import MIB, MemoryCgroup, memory_cgroup
from tests.support.fakes import dying
from tests.support.trials import FOREVER, fake, giant_request, is_gone, tiny_request, wait_for
from worker.protocol.codec import encode
from worker.protocol.requests import TrialRequest
from your_ai.supervision.outcome import Certainty, OutcomeKind
from your_ai.supervision.supervisor import WORKER

pytestmark = [pytest.mark.alone, pytest.mark.root]

KERNEL = "the kernel killed the worker because memory ran out"
READ_ONLY = ["unshare", "--mount", "sh", "-c", 'mount -o remount,bind,ro "$0" && exec "$@"']


def parent(log: Path, guard: str, command: list[str], ballast_mib: int = 0) -> list[str]:
    words = [str(log), "5", str(ballast_mib), guard, *command]
    return [sys.executable, "-m", "tests.support.parent", *words]


def outcome(command: list[str], request: TrialRequest) -> dict[str, Any]:
    """Run a parent until its worker has ended."""
    done = subprocess.run(
        command, input=encode(request), capture_output=True, check=False, timeout=90
    )
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def oom_kills(cgroup: MemoryCgroup) -> int:
    (line,) = [line for line in cgroup.counter.read_text().splitlines() if "oom_kill " in line]
    return int(line.split()[1])


STEADY = fake(dying.use_up_memory)


@pytest.mark.parametrize(
    ("command", "limit_mib"),
    [([*WORKER], 2048), (STEADY, 1024), (STEADY, 2048)],
    ids=["real-2048", "steady-1024", "steady-2048"],
)
def test_the_guard_ends_the_worker_before_the_limit_is_reached(
    tmp_path: Path, command: list[str], limit_mib: int
) -> None:
    """The steady worker allocates up to 1 GB/s.

    In the smaller container the real one is too fast: it fills 2 GB at several GB/s.
    """
    with memory_cgroup(limit_mib * MIB) as box:
        seen = outcome(box.command(parent(tmp_path / "log", "guarded", command)), giant_request())
        assert (oom_kills(box), box.was_full) == (0, False)
    assert (seen["kind"], seen["certainty"]) == (OutcomeKind.OOM, Certainty.HIGH), seen
    assert seen["reason"].startswith("the machine ran short of memory (only ")
    assert seen["returncode"] == -signal.SIGKILL


def test_the_kernel_kills_a_worker_that_is_too_fast_before_the_container_is_full(
    tmp_path: Path,
) -> None:
    # The parent uses more memory than the worker, so by size the kernel would kill the parent.
    with memory_cgroup(1024 * MIB) as box:
        box.kill_as_a_whole()
        command = parent(tmp_path / "log", "unguarded", [*WORKER], ballast_mib=600)
        seen = outcome(box.command(command), giant_request())
        assert not box.was_full
        assert box.workers == []
    assert seen["returncode"] == -signal.SIGKILL
    assert (seen["kind"], seen["certainty"]) == (OutcomeKind.OOM, Certainty.CERTAIN), seen
    assert seen["reason"] == KERNEL


def test_a_worker_without_a_cgroup_of_its_own_if_the_hierarchy_is_read_only(tmp_path: Path) -> None:
    with memory_cgroup(1024 * MIB) as box:
        mount = "/sys/fs/cgroup/memory" if box.version == 1 else "/sys/fs/cgroup"
        command = [*READ_ONLY, mount, *parent(tmp_path / "log", "unguarded", [*WORKER])]
        seen = outcome(box.command(command), giant_request())
        assert box.was_full
        assert oom_kills(box) == 1
    assert (seen["kind"], seen["certainty"]) == (OutcomeKind.OOM, Certainty.CERTAIN), seen
    assert seen["reason"] == KERNEL


def test_the_cgroup_that_a_killed_parent_left_is_removed(tmp_path: Path) -> None:
    command = parent(tmp_path / "log", "guarded", [*WORKER])
    with memory_cgroup(1024 * MIB) as box:
        with subprocess.Popen(box.command(command), stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            process.stdin.write(encode(tiny_request(FOREVER)))
            process.stdin.flush()
            (left,) = wait_for(lambda: box.workers, "a worker's cgroup")
            (worker,) = wait_for(
                lambda: (left / "cgroup.procs").read_text().split(), "the worker in its cgroup"
            )
            process.kill()
        wait_for(lambda: is_gone(int(worker)), "the worker's end")
        assert box.workers == [left]
        box.let_join()
        seen = outcome(box.command(command), tiny_request(5))
        assert box.workers == []
    assert seen["kind"] == OutcomeKind.PASS, seen


def test_the_doctor_compares_the_budget_with_the_containers_memory() -> None:
    hold = "held = b'x' * (700 << 20); print('ready', flush=True); input()"
    with (
        memory_cgroup(2048 * MIB) as box,
        subprocess.Popen(
            [sys.executable, "-c", box.join_code + hold],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        command = box.command([sys.executable, "-m", "your_ai", "doctor"])
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=90)
        other.kill()
    assert "! Budget: 1.6 GB of the device's 2.0 GB\n" in done.stdout
    assert "is available now, so a run may swap" in done.stdout
