"""Lets other programs swap while trainings run, and checks when the memory guard steps in."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.report import Report
from tests.chaos.training import MAX_DIFFERENCE, largest_difference
from tests.support.workspace import ITERS, Workspace, disturbed, prepare
from your_ai.supervision import memory_guard
from your_ai.system.macos import PressureLevel
from your_ai.system.memory import MachineMemory
from your_ai.units import GB

HOURS = 3
TRAININGS = 0.1
"""Real trainings for each simulated one."""


@dataclass(frozen=True, slots=True)
class Swapping:
    """Hours of readings, and the second from which the guard must step in, ``None`` if never."""

    name: str
    readings: list[MachineMemory]
    alarm_from: int | None


def guard(number: int = 100) -> Report:
    """Simulate the readings of ``number`` trainings, and let the guard end some real ones."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        workspace = prepare(Path(name))
        workspace.run(*workspace.train("trained"))
        return guarded(workspace, number)


def guarded(workspace: Workspace, number: int) -> Report:
    """Do the same with a workspace that has the undisturbed training ``trained``."""
    draw = random.Random(number)
    simulated = [_swapping(draw, n) for n in range(number)]
    failures = [problem for each in simulated if (problem := _problem(each))]
    trainings = math.ceil(number * TRAININGS)
    largest = 0.0
    for n in range(trainings):
        found = _ended_by_the_guard(workspace, f"guarded-{n}", draw.randrange(1, ITERS - 10))
        largest = max(largest, found)
        if found > MAX_DIFFERENCE:
            failures.append(f"training {n} ended by the guard: losses differ by {found}")
    figures = {
        f"simulated trainings of {HOURS} hours": number,
        "of these, the guard had to step in": sum(e.alarm_from is not None for e in simulated),
        "real trainings that the guard ended at a random iteration": trainings,
        "largest difference of a loss from the undisturbed training": largest,
        "wrong alarms, late alarms, or different losses": len(failures),
    }
    return Report("The memory guard while other programs swap", figures, failures)


def _swapping(draw: random.Random, number: int) -> Swapping:
    """Return slow swapping, on every second machine followed by a storm."""
    total = draw.choice([8, 16, 36, 64, 128]) * GB
    allowed = max(2 * GB, total // 10)
    pressure = draw.choice([None, PressureLevel.NORMAL, PressureLevel.WARNING])
    swap, seconds = list(_slowly(draw, allowed)), HOURS * 3600
    begin, storm = draw.randrange(60, seconds - 60), number % 2 == 1
    if storm:
        step = allowed // draw.randrange(2, 30)
        swap[begin:] = [swap[begin] + step * (n + 1) for n in range(seconds - begin)]
    readings = [MachineMemory(total, total // 2, used, pressure) for used in swap]
    is_alarming = storm and pressure is not PressureLevel.NORMAL
    name = f"{total // GB} GB, pressure {pressure}, storm {storm}"
    return Swapping(name, readings, begin if is_alarming else None)


def _slowly(draw: random.Random, allowed: int) -> Iterator[int]:
    """Yield the used swap of each second; it moves far, but never by ``allowed`` in a minute."""
    used, most = 0, 0.9 * allowed / memory_guard.WINDOW_SECONDS
    for _ in range(HOURS * 3600):
        used = max(0, used + int(draw.uniform(-most / 3, most)))
        yield used


def _problem(swapping: Swapping) -> str | None:
    window = memory_guard.Window()
    for second, reading in enumerate(swapping.readings):
        if memory_guard.alarm(window.add(float(second), reading)):
            due = swapping.alarm_from
            if due is None or not due <= second <= due + memory_guard.WINDOW_SECONDS:
                return f"{swapping.name}: alarm at {second} s, due from {due} s"
            return None
    return None if swapping.alarm_from is None else f"{swapping.name}: no alarm"


def _ended_by_the_guard(workspace: Workspace, name: str, at: int) -> float:
    """Let the guard end a training at iteration ``at``.

    Return the largest difference of a loss, infinite if the guard did not end it.
    """
    disturbed(workspace, "alarm", name, at)
    found = workspace.record(name)
    if not found["failures"]:
        return math.inf
    return largest_difference(found, workspace.record("trained"))
