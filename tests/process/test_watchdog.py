"""Real workers that use up the machine's memory, and are killed before it runs out."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from tests.support.cgroups import MIB, memory_cgroup
from tests.support.trials import FOREVER, PATIENT, giant_request, is_gone, tiny_request
from worker.protocol.codec import encode
from worker.protocol.messages import Started
from worker.protocol.requests import TrialRequest
from your_ai.supervision import memory_guard
from your_ai.supervision.classify import classify
from your_ai.supervision.event_reader import OnEvent
from your_ai.supervision.observation import Kill, Notice, Observation
from your_ai.supervision.outcome import Certainty, Outcome, OutcomeKind
from your_ai.supervision.supervisor import ignore, supervise
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
    """Run another program that holds ``nbytes``."""
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


def alarm_after_loss_of(nbytes: int) -> memory_guard.Alarm:
    """Return an alarm for a loss of ``nbytes``, since this machine has plenty of memory."""

    def alarm(recent: Sequence[MachineMemory]) -> str | None:
        gone = recent[0].available_bytes - recent[-1].available_bytes
        return "too little left" if gone > nbytes else None

    return alarm


def watched(
    spec: TrialRequest, log: TrialLog, nbytes: int, on_event: OnEvent = ignore
) -> tuple[Observation, Outcome]:
    alarm = alarm_after_loss_of(nbytes)
    seen = supervise(encode(spec), log=log, limits=PATIENT, alarm=alarm, on_event=on_event)
    assert (seen.killed, seen.returncode) == (Kill.MEMORY, -signal.SIGKILL), log.tail()
    assert seen.alarm == "too little left"
    return seen, classify(seen, spec.steps)


def test_a_worker_that_uses_up_the_memory_is_killed(log: TrialLog) -> None:
    seen, outcome = watched(giant_request(), log, ENOUGH)
    (started,) = [event for event in seen.events if isinstance(event, Started)]
    assert is_gone(started.pid)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.OOM, Certainty.HIGH)
    assert outcome.reason == (
        "the machine ran short of memory (too little left), so the worker was stopped"
    )
    assert seen.footprint_peak_bytes is not None
    assert seen.footprint_peak_bytes > ENOUGH / 2
    assert "the worker's footprint: " in outcome.evidence


def test_a_worker_is_not_blamed_for_other_programs(log: TrialLog) -> None:
    """The worker needs about 100 MB, mostly for Python and MLX; the other program takes 2 GB.

    Meanwhile up to 0.7 GB of an earlier worker may become available: a virtual machine reports
    freed memory late.
    """
    with ExitStack() as programs:

        def start_another(notice: Notice) -> None:
            if isinstance(notice, Started):  # the memory before it is known by then
                programs.enter_context(hog(2048 * MB))

        _, outcome = watched(tiny_request(FOREVER), log, 1000 * MB, start_another)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.ERROR, Certainty.MEDIUM)
    assert outcome.reason.startswith("other programs used up the memory (too little left)")


class Scripted:
    """Simulates readings of a Mac with the given pressure levels; the last one is repeated."""

    def __init__(self, *levels: PressureLevel) -> None:
        self._levels = [*levels]
        self.readings_taken = 0

    def __call__(self) -> MachineMemory:
        self.readings_taken += 1
        level = self._levels.pop(0) if len(self._levels) > 1 else self._levels[0]
        return replace(READ(), pressure=level)


READ = memory.read
NORMAL, CRITICAL = PressureLevel.NORMAL, PressureLevel.CRITICAL


def under_pressure(
    levels: Scripted, spec: TrialRequest, log: TrialLog, monkeypatch: pytest.MonkeyPatch
) -> Observation:
    monkeypatch.setattr(memory, "read", levels)
    return supervise(encode(spec), log=log, limits=PATIENT)


def test_lasting_critical_pressure_kills_the_worker(
    log: TrialLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = under_pressure(Scripted(NORMAL, CRITICAL), tiny_request(FOREVER), log, monkeypatch)
    assert (seen.killed, seen.returncode) == (Kill.MEMORY, -signal.SIGKILL)
    assert seen.alarm == "macOS reports critical memory pressure"
    assert seen.pressure == "critical"


def test_brief_critical_pressure_is_ignored(log: TrialLog, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = [NORMAL, *[CRITICAL] * (memory_guard.CRITICAL_READINGS - 1), NORMAL]
    blip = Scripted(*levels)
    spec = tiny_request(steps=200)  # takes longer than the readings
    seen = under_pressure(blip, spec, log, monkeypatch)
    assert blip.readings_taken >= len(levels)
    assert (seen.killed, seen.alarm, seen.pressure) == (None, None, "critical")
    assert classify(seen, spec.steps).kind is OutcomeKind.PASS, log.tail()


def test_the_memory_of_a_dead_program_is_awaited() -> None:
    """The readings are those of a machine of 8 GB with only that program."""
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


IN_CONTAINER = """
import sys
import psutil
from your_ai.supervision import memory_guard
from your_ai.errors import MachineError
from your_ai.system import memory

ballast = b"x" * int(sys.argv[1])
now = memory.for_trials(None)
print(now.total_bytes, now.available_bytes, psutil.virtual_memory().total)
memory_guard.wait_for_memory(now, lambda: False, lambda: memory.for_trials(None), max_seconds=0)
"""


def in_container(ballast: int) -> subprocess.CompletedProcess[str]:
    with memory_cgroup(1024 * MIB) as box:
        command = box.command([sys.executable, "-c", IN_CONTAINER, str(ballast)])
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.root
def test_no_trial_starts_in_a_full_container() -> None:
    full = in_container(700 * MIB)
    total, available, machine = map(int, full.stdout.split())
    assert total == 1024 * MIB < machine
    assert available < 324 * MIB
    assert "MachineError: This machine is short of memory: only " in full.stderr


@pytest.mark.root
def test_a_trial_starts_in_a_container_with_free_memory() -> None:
    roomy = in_container(MIB)
    assert roomy.returncode == 0, roomy.stderr
    _, available, _ = map(int, roomy.stdout.split())
    assert 800 * MIB < available < 1024 * MIB
