"""A real worker that takes the machine's memory, and is ended before the machine has none."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable

from tests.process.trials import FOREVER, PATIENT, giant_spec, is_gone, tiny_spec
from worker.protocol import Started, TrialSpec, encode_request
from your_ai.host.memory import MachineMemory
from your_ai.log import TrialLog
from your_ai.observation import Kill, Observation
from your_ai.outcome import Certainty, Outcome, OutcomeKind, classify
from your_ai.supervisor import supervise

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


def lost(nbytes: int) -> Callable[[MachineMemory, MachineMemory], str | None]:
    """An alarm that is raised as soon as so much less is available: this machine has plenty."""

    def alarm(before: MachineMemory, now: MachineMemory) -> str | None:
        return "too little left" if now.available_bytes < before.available_bytes - nbytes else None

    return alarm


def watched(spec: TrialSpec, log: TrialLog, nbytes: int) -> tuple[Observation, Outcome]:
    request = encode_request(spec)
    seen = supervise(request, log=log, limits=PATIENT, alarm=lost(nbytes))
    assert (seen.killed, seen.returncode) == (Kill.MEMORY, -signal.SIGKILL), log.tail()
    assert seen.alarm == "too little left"
    return seen, classify(seen, spec.steps)


def test_a_worker_that_takes_too_much_is_ended_first(log: TrialLog) -> None:
    seen, outcome = watched(giant_spec(), log, ENOUGH)
    (started,) = [event for event in seen.events if isinstance(event, Started)]
    assert is_gone(started.pid)
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.OOM, Certainty.HIGH)
    assert outcome.reason == (
        "the machine ran short of memory (too little left); the worker was ended first"
    )
    assert seen.footprint_peak_bytes is not None
    assert seen.footprint_peak_bytes > ENOUGH / 2
    assert "the worker had " in outcome.evidence


def test_a_worker_is_not_blamed_for_what_others_take(log: TrialLog) -> None:
    """It needs some 300 MB itself, most of it Python and MLX; the other takes 2 GB."""
    with subprocess.Popen(
        [sys.executable, "-c", HOG, str(2048 * MB)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as hog:
        try:
            _, outcome = watched(tiny_spec(FOREVER), log, 1500 * MB)
        finally:
            hog.kill()
    assert (outcome.kind, outcome.certainty) == (OutcomeKind.ERROR, Certainty.MEDIUM)
    assert outcome.reason.startswith("other programs took the machine's memory (too little left)")
