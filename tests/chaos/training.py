"""A training whose parent is killed at random steps, and whose worker runs out of memory."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from tests.chaos.report import Report
from tests.support.cgroups import MIB, MemoryCgroup, memory_cgroup
from tests.support.workspace import ITERS, Workspace, prepare, wait_for, worker_of

CLOSE = 1e-3
ALIKE = 1e-2
"""Gradients that are gathered in bf16 are rounded once more; other batches differ by ten times."""

EVEN = ["--data", "even"]
"""Texts of one length: mlx-lm weighs each part of a batch alike, be it longer or not."""
MOST_SECONDS = 120.0

GREEDY = "import time; held = b'x' * 2**28; time.sleep(600)"
"""A neighbour that wants 256 MB: the kernel then kills the worker, which offers itself."""


def killed(workspace: Workspace, name: str, at: int) -> dict[str, Any]:
    """The record of a training whose parent was killed at an iteration, and resumed."""
    process = workspace.start(workspace.train(name))
    wait_for(lambda: workspace.iteration(name) >= at, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    workspace.run("train", "--resume", "--run-dir", name)
    return workspace.record(name)


def killed_often(workspace: Workspace, name: str, draw: random.Random, times: int) -> int:
    """Kill the parent of one training so many times, then let it end; how often it was killed."""
    arguments = workspace.train(name)
    for kills in range(times):
        process = workspace.start(arguments)
        arguments = ["train", "--resume", "--run-dir", name]
        seen, at = workspace.reports(name), draw.randrange(1, 8)
        wait_for(partial(workspace.has_reported, name, seen + at), process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == 0:  # it was at its end before
            return kills
    workspace.run(*arguments)
    return times


def starved(workspace: Workspace, name: str) -> dict[str, Any]:
    """The record of a training whose memory is taken away half way, until its worker is killed."""
    with memory_cgroup(4096 * MIB) as box:
        process = workspace.start(workspace.train(name, *EVEN), box)
        wait_for(lambda: workspace.iteration(name) >= ITERS // 2, process)
        worker_of(process).suspend()  # so that it is not done before it is killed
        before = _kills(box)
        _set_limit(box, _used(box) + 32 * MIB)
        with subprocess.Popen(box.command([sys.executable, "-c", GREEDY])) as greedy:
            wait_for(lambda: _kills(box) > before, process)
            greedy.kill()
        _set_limit(box, 4096 * MIB)
        output, _ = process.communicate(timeout=MOST_SECONDS)
        if process.returncode != 0:
            raise SystemExit(output)
    return workspace.record(name)


def training(number: int = 20) -> Report:
    """Kill parents and workers; hold what comes out against an undisturbed training."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        workspace = prepare(Path(name))
        workspace.run(*workspace.train("trained"))
        return disturbed(workspace, number)


def disturbed(workspace: Workspace, number: int) -> Report:
    """Trainings of a workspace that has the undisturbed one, ``trained``, already.

    That one of them is killed often includes that it is killed once.
    """
    draw = random.Random(number)
    failures: list[str] = []
    wanted = workspace.record("trained")
    worst = 0.0
    once = number if number > 1 else 0
    for n in range(once):
        at = draw.randrange(1, ITERS)
        found = killed(workspace, f"killed-{n}", at)
        off = _off(found, wanted)
        worst = max(worst, off)
        if off > CLOSE or found["samples"] != wanted["samples"]:
            failures.append(f"killed at {at}: losses off by {off}")
    often = killed_often(workspace, "killed-often", draw, number)
    found = workspace.record("killed-often")
    off = _off(found, wanted)
    worst = max(worst, off)
    if off > CLOSE or found["samples"] != wanted["samples"]:
        failures.append(f"killed {often} times: losses off by {off}")
    workspace.run(*workspace.train("even-undisturbed", *EVEN))
    wanted = workspace.record("even-undisturbed")
    ooms, apart = max(1, number // 4), 0.0
    for n in range(ooms):
        found = starved(workspace, f"starved-{n}")
        if (found["outcome"], found["samples"]) != ("pass", wanted["samples"]):
            failures.append(f"out of memory: {found['outcome']}, {found['samples']} samples")
        if [each["outcome"] for each in found["failures"]] != ["oom"]:
            failures.append(f"out of memory: {found['failures']}")
        off = _off(found, wanted)
        apart = max(apart, off)
        if off > ALIKE:
            failures.append(f"out of memory: losses off by {off}")
    figures = {
        "trainings whose parent was killed at a random iteration, and resumed": once,
        "kills of one more training, each at a random iteration": often,
        "largest difference of any iteration's loss from an undisturbed training's": worst,
        "workers killed for memory half way": ooms,
        "largest difference of their losses from an undisturbed training's": apart,
        "other losses, other numbers of samples, or not ended": len(failures),
    }
    return Report("A training", figures, failures)


def _off(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    """By how much the losses differ at most; infinity where they are not of the same iterations."""
    ours: dict[int, float] = dict(found["losses"])
    theirs: dict[int, float] = dict(wanted["losses"])
    if ours.keys() != theirs.keys():
        return float("inf")
    return max(abs(ours[iteration] - theirs[iteration]) for iteration in ours)


def _kills(box: MemoryCgroup) -> int:
    found = re.search(r"oom_kill (\d+)", box.counter.read_text())
    return int(found[1]) if found else 0


def _used(box: MemoryCgroup) -> int:
    name = "memory.usage_in_bytes" if box.version == 1 else "memory.current"
    return int((box.directory / name).read_text())


def _set_limit(box: MemoryCgroup, nbytes: int) -> None:
    names = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
    if box.version == 2:
        names = ["memory.max"]
    for name in names * 2:  # the second may not be below the first, whichever way they go
        with contextlib.suppress(OSError):
            (box.directory / name).write_text(str(nbytes))
