"""A real worker that takes the machine's memory, and is ended before the machine has none."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.support.cgroups import MIB, memory_cgroup
from tests.support.trials import FOREVER, PATIENT, giant_request, is_gone, tiny_request
from worker.protocol.codec import encode
from worker.protocol.messages import Started, TrialRequest
from your_ai.supervision import memory_guard
from your_ai.supervision.observation import Kill, Observation
from your_ai.supervision.outcome import Certainty, Outcome, OutcomeKind, classify
from your_ai.supervision.supervisor import supervise
from your_ai.supervision.trial_log import TrialLog
from your_ai.system import memory
from your_ai.system.footprint import footprint
from your_ai.system.macos import PressureLevel
from your_ai.system.memory import MachineMemory

pytestmark = pytest.mark.alone

MB = 2**20
ENOUGH = 600 * MB
HOG = """
import sys
hog = bytearray(int(sys.argv[1]))
for i in range(0, len(hog), 4096):
    hog[i] = 1
print("taken", flush=True)
sys.stdin.read()
"""


@contextmanager
def hog(nbytes: int) -> Iterator[subprocess.Popen[bytes]]:
    """Another program that holds so much."""
    with subprocess.Popen(
        [sys.executable, "-c", HOG, str(nbytes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def await_taken(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"taken\n"


def lost(nbytes: int) -> Callable[[MachineMemory, Sequence[MachineMemory]], str | None]:
    """An alarm that is raised as soon as so much less is available: this machine has plenty."""

    def alarm(before: MachineMemory, recent: Sequence[MachineMemory]) -> str | None:
        gone = before.available_bytes - recent[-1].available_bytes
        return "too little left" if gone > nbytes else None

    return alarm


def watched(spec: TrialRequest, log: TrialLog, nbytes: int) -> tuple[Observation, Outcome]:
    request = encode(spec)
    seen = supervise(request, log=log, limits=PATIENT, alarm=lost(nbytes))
    assert (seen.killed, seen.returncode) == (Kill.MEMORY, -signal.SIGKILL), log.tail()
    assert seen.alarm == "too little left"
    return seen, classify(seen, spec.steps)


def test_a_worker_that_takes_too_much_is_ended_first(log: TrialLog) -> None:
    seen, outcome = watched(giant_request(), log, ENOUGH)
    (started,) = [event for event in seen.events if isinstance(event, Started)]
    assert is_gone(started.pid)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.OOM, Certainty.HIGH)
    assert outcome.reason == (
        "the machine ran short of memory (too little left), so the worker was stopped"
    )
    assert seen.footprint_peak_bytes is not None
    assert seen.footprint_peak_bytes > ENOUGH / 2
    assert "footprint of the worker: " in outcome.evidence


def test_a_worker_is_not_blamed_for_what_others_take(log: TrialLog) -> None:
    """It needs some 100 MB itself, most of it Python and MLX; the other takes 2 GB."""
    with hog(2048 * MB):
        _, outcome = watched(tiny_request(FOREVER), log, 1500 * MB)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.ERROR, Certainty.MEDIUM)
    assert outcome.reason.startswith("other programs used up the memory (too little left)")


class Scripted:
    """Reads from a Mac of which the first pressure levels are given; the last one stays."""

    def __init__(self, *levels: PressureLevel) -> None:
        self._levels = [*levels]
        self.asked = 0

    def __call__(self) -> MachineMemory:
        self.asked += 1
        level = self._levels.pop(0) if len(self._levels) > 1 else self._levels[0]
        return replace(READ(), pressure=level)


READ = memory.read
NORMAL, CRITICAL = PressureLevel.NORMAL, PressureLevel.CRITICAL


def under_pressure(
    levels: Scripted, spec: TrialRequest, log: TrialLog, monkeypatch: pytest.MonkeyPatch
) -> Observation:
    monkeypatch.setattr(memory, "read", levels)
    return supervise(encode(spec), log=log, limits=PATIENT)


def test_lasting_critical_pressure_ends_a_worker(
    log: TrialLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = under_pressure(Scripted(NORMAL, CRITICAL), tiny_request(FOREVER), log, monkeypatch)
    assert (seen.killed, seen.returncode) == (Kill.MEMORY, -signal.SIGKILL)
    assert seen.alarm == "macOS reports critical memory pressure"
    assert seen.pressure == "critical"


def test_a_moment_of_critical_pressure_ends_nothing(
    log: TrialLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    blip = Scripted(NORMAL, *[CRITICAL] * (memory_guard.CRITICAL_READINGS - 1), NORMAL)
    spec = tiny_request()
    seen = under_pressure(blip, spec, log, monkeypatch)
    assert blip.asked > memory_guard.CRITICAL_READINGS + 1
    assert (seen.killed, seen.alarm, seen.pressure) == (None, None, "critical")
    assert classify(seen, spec.steps).kind is OutcomeKind.PASS, log.tail()


def test_a_dead_programs_memory_is_waited_for() -> None:
    """On a machine of 8 GB, of which only that program takes some."""
    free = MachineMemory(8192 * MB, 6144 * MB, 0, None)
    with hog(1024 * MB) as last:
        await_taken(last)
        readings: list[MachineMemory] = []

        def read() -> MachineMemory:
            held = footprint(last.pid)
            left = free.available_bytes - (held.current_bytes if held else 0)
            readings.append(replace(free, available_bytes=left))
            if len(readings) == 3:
                last.kill()
            return readings[-1]

        assert memory_guard.wait_for_memory(free, lambda: False, read) == free
    *before, after = readings
    assert len(before) >= 3
    assert not any(memory_guard.is_recovered(free, reading) for reading in before)
    assert after == free


IN_A_BOX = """
import sys
from your_ai.supervision import memory_guard
from your_ai.errors import MachineError
from your_ai.system import memory

ballast = b"x" * int(sys.argv[1])
now = memory.for_trials("cpu")
print(now.total_bytes, now.available_bytes, memory.read().total_bytes)
memory_guard.wait_for_memory(now, lambda: False, lambda: memory.for_trials("cpu"), max_seconds=0)
"""


def in_a_box(ballast: int) -> subprocess.CompletedProcess[str]:
    with memory_cgroup(1024 * MIB) as box:
        command = box.command([sys.executable, "-c", IN_A_BOX, str(ballast)])
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.root
def test_in_a_container_that_is_full_no_trial_is_started() -> None:
    full = in_a_box(700 * MIB)
    total, available, machine = map(int, full.stdout.split())
    assert total == 1024 * MIB < machine
    assert available < 324 * MIB
    assert "MachineError: This machine is short of memory: only " in full.stderr


@pytest.mark.root
def test_in_a_container_with_room_one_is() -> None:
    roomy = in_a_box(MIB)
    assert roomy.returncode == 0, roomy.stderr
    _, available, _ = map(int, roomy.stdout.split())
    assert 800 * MIB < available < 1024 * MIB
