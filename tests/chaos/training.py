"""Kills parents of trainings at random steps, and lets workers run out of memory."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from tests.chaos.report import Report
from tests.support.cgroups import MIB, MemoryCgroup, memory_cgroup
from tests.support.trials import is_gone
from tests.support.workspace import ITERS, Workspace, prepare, wait_for, worker_of

MAX_DIFFERENCE = 1e-3
MAX_DIFFERENCE_SPLIT = 1e-2
"""Allowed difference of losses if batches are split: accumulating gradients in bf16 rounds once
more. Training on other batches makes ten times this difference."""

EQUAL_LENGTHS = ["--data", "even"]
"""Use texts of equal length, because mlx-lm gives all micro-batches the same weight."""
TIMEOUT_SECONDS = 120.0

ALLOCATE = "import time; held = b'x' * 2**28; time.sleep(600)"
"""Program that allocates 256 MB. The kernel then kills the worker, which has oom_score_adj 1000."""


def killed(workspace: Workspace, name: str, at: int) -> dict[str, Any]:
    """Kill the parent of a training at iteration ``at`` and resume. Return the record."""
    process = workspace.start(workspace.train(name))
    wait_for(lambda: workspace.iteration(name) >= at, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    workspace.run("train", "--resume", "--run-dir", name)
    return workspace.record(name)


def killed_often(workspace: Workspace, name: str, draw: random.Random, times: int) -> int:
    """Kill a training's parent up to ``times`` times and resume it. Return the number of kills."""
    arguments = workspace.train(name)
    for kills in range(times):
        process = workspace.start(arguments)
        arguments = ["train", "--resume", "--run-dir", name]
        seen, at = workspace.reports(name), draw.randrange(1, 8)
        wait_for(partial(workspace.has_reported, name, seen + at), process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == 0:  # it finished before the kill
            return kills
    workspace.run(*arguments)
    return times


def starved(workspace: Workspace, name: str) -> dict[str, Any]:
    """Take away a worker's memory halfway, so that the kernel kills it. Return the record."""
    with memory_cgroup(4096 * MIB) as box:
        process = workspace.start(workspace.train(name, *EQUAL_LENGTHS), box)
        wait_for(lambda: workspace.iteration(name) >= ITERS // 2, process)
        worker = worker_of(process)
        worker.suspend()  # so that it does not finish before it is killed
        (directory,) = box.workers
        own = MemoryCgroup(directory, box.directory, box.version)
        _set_limit(own, _used(own) + 32 * MIB)
        with subprocess.Popen([sys.executable, "-c", own.join_code + ALLOCATE]) as other:
            wait_for(lambda: is_gone(worker.pid), process)
            other.kill()
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        if process.returncode != 0:
            raise SystemExit(output)
    return workspace.record(name)


def training(number: int = 20) -> Report:
    """Kill parents and workers, and compare the results with an undisturbed training."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        workspace = prepare(Path(name))
        workspace.run(*workspace.train("trained"))
        return disturbed(workspace, number)


def disturbed(workspace: Workspace, number: int) -> Report:
    """Disturb trainings in a workspace that has the undisturbed training ``trained``.

    Kills ``number`` trainings once each, and another one ``number`` times. If ``number`` is 1, only
    the latter is done.
    """
    draw = random.Random(number)
    failures: list[str] = []
    expected = workspace.record("trained")
    largest = 0.0
    once = number if number > 1 else 0
    for n in range(once):
        at = draw.randrange(1, ITERS)
        found = killed(workspace, f"killed-{n}", at)
        difference = largest_difference(found, expected)
        largest = max(largest, difference)
        if difference > MAX_DIFFERENCE or found["samples"] != expected["samples"]:
            failures.append(f"killed at {at}: losses differ by {difference}")
    often = killed_often(workspace, "killed-often", draw, number)
    found = workspace.record("killed-often")
    difference = largest_difference(found, expected)
    largest = max(largest, difference)
    if difference > MAX_DIFFERENCE or found["samples"] != expected["samples"]:
        failures.append(f"killed {often} times: losses differ by {difference}")
    workspace.run(*workspace.train("even-undisturbed", *EQUAL_LENGTHS))
    expected = workspace.record("even-undisturbed")
    ooms, largest_split = max(1, number // 4), 0.0
    for n in range(ooms):
        found = starved(workspace, f"starved-{n}")
        if (found["outcome"], found["samples"]) != ("pass", expected["samples"]):
            failures.append(f"out of memory: {found['outcome']}, {found['samples']} samples")
        if [each["outcome"] for each in found["failures"]] != ["oom"]:
            failures.append(f"out of memory: {found['failures']}")
        difference = largest_difference(found, expected)
        largest_split = max(largest_split, difference)
        if difference > MAX_DIFFERENCE_SPLIT:
            failures.append(f"out of memory: losses differ by {difference}")
    figures = {
        "trainings killed at a random iteration and resumed": once,
        "kills of another training, each at a random iteration": often,
        "largest difference of a loss from the undisturbed training": largest,
        "workers killed halfway because memory ran out": ooms,
        "largest difference of their losses from the undisturbed training": largest_split,
        "wrong losses, wrong numbers of samples, or unfinished trainings": len(failures),
    }
    return Report("Trainings that are disturbed", figures, failures)


def largest_difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """Return the largest difference of losses, or infinity if iterations are missing."""
    ours: dict[int, float] = dict(found["losses"])
    theirs: dict[int, float] = dict(expected["losses"])
    if ours.keys() != theirs.keys():
        return float("inf")
    return max(abs(ours[iteration] - theirs[iteration]) for iteration in ours)


def _used(cgroup: MemoryCgroup) -> int:
    name = "memory.usage_in_bytes" if cgroup.version == 1 else "memory.current"
    return int((cgroup.directory / name).read_text())


def _set_limit(cgroup: MemoryCgroup, nbytes: int) -> None:
    names = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
    if cgroup.version == 2:
        names = ["memory.max"]
    # Write twice: the second limit must never be below the first, so one write may fail.
    for name in names * 2:
        with contextlib.suppress(OSError):
            (cgroup.directory / name).write_text(str(nbytes))
