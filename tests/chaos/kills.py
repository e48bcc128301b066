"""Kills parents at random times: nothing may be lost, repeated or left running."""

from __future__ import annotations

import contextlib
import random
import subprocess
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.report import Report, counted
from tests.chaos.runs import Folder, plain
from your_ai.errors import UsageError
from your_ai.runs.journal import STARTED
from your_ai.supervision.outcome import OutcomeKind

ARGUMENTS = [
    *("benchmark", "--model", "smoke-tiny", "--model", "smoke-small", "--seq-length", "16"),
    *("--lora-rank", "4", "--batch-size", "1", "--steps", "20"),
]
ORPHAN_SECONDS = 1.0
SECOND_KILLS = 0.25
"""Share of the resumed runs that are killed, too."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An uninterrupted run: its duration and its results."""

    seconds: float
    document: Mapping[str, Any]

    def phase(self, key: str, seconds: float) -> str:
        """Return the phase of the worker of trial ``key`` after so many seconds."""
        entries = {f"{i:02d}": e for i, e in enumerate(self.document["results"], start=1)}
        phases = entries[key.partition("-")[0]]["phases"]
        began = [phase["phase"] for phase in phases if phase["at"] <= seconds]
        return began[-1] if began else "start"


@dataclass(frozen=True, slots=True)
class Cycle:
    """A run that was killed once or twice and then resumed until it was complete."""

    phases: list[str]
    failures: list[str]
    quarantined: int


def kills(times: int, seed: int = 0) -> Report:
    """Kill ``times`` parents with SIGKILL, each at a random time, and resume their runs."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        reference = _reference(folder)

        def cycle(number: int) -> Cycle:
            home = folder / f"{number:04d}"
            home.mkdir()
            return _cycle(Folder(home), random.Random(seed + number), reference)

        with ThreadPoolExecutor(2) as pool:
            cycles: list[Cycle] = []
            for done in pool.map(cycle, range(times)):
                cycles.append(done)
                for failure in done.failures:
                    print(f"cycle {len(cycles) - 1}: {failure}", flush=True)
                if len(cycles) % 50 == 0:
                    print(f"{len(cycles)} runs", flush=True)
    phases = [phase for cycle in cycles for phase in cycle.phases]
    failures = [failure for cycle in cycles for failure in cycle.failures]
    figures = {
        "runs killed and resumed": times,
        "kills": len(phases),
        "phases of the worker when killed": counted(phases),
        "trials killed twice and then quarantined": sum(cycle.quarantined for cycle in cycles),
        "finished trials repeated": sum("repeated" in failure for failure in failures),
        "finished trials lost": sum("lost" in failure for failure in failures),
        "damaged journals": sum("damaged" in failure for failure in failures),
        f"orphans after {ORPHAN_SECONDS:g} s": sum("orphan" in failure for failure in failures),
        "results that differ from those of an uninterrupted run": sum(
            "differ" in failure for failure in failures
        ),
    }
    return Report("Parents killed at random times", figures, failures)


def _reference(folder: Path) -> Reference:
    home = Folder(folder / "reference")
    home.path.mkdir()
    home.finish(*ARGUMENTS)  # not measured, because MLX compiles kernels in the first run
    (home.run).rename(home.path / "first")
    began = time.monotonic()
    done = home.finish(*ARGUMENTS)
    assert done.code == 0, done.stdout + done.stderr
    return Reference(time.monotonic() - began, home.document)


def _cycle(home: Folder, draw: random.Random, reference: Reference) -> Cycle:
    phases, failures = [], []
    arguments = ARGUMENTS
    for _ in range(2 if draw.random() < SECOND_KILLS else 1):
        phases.append(_killed(home, arguments, draw.uniform(0, reference.seconds), reference))
        if orphans := home.survivors(ORPHAN_SECONDS):
            failures.append(f"orphan processes {orphans} after a kill in phase {phases[-1]}")
        try:
            arguments = ["benchmark", "--resume"] if home.records() else ARGUMENTS
        except UsageError as error:
            return Cycle(phases, [*failures, f"damaged: {error}"], 0)
    before, starts = home.ended(), home.keys(STARTED)
    done = home.finish(*arguments)
    if done.code != 0:
        return Cycle(phases, [*failures, f"lost: exit code {done.code}: {done.stderr}"], 0)
    failures += _compare(home, before, starts, reference)
    return Cycle(phases, failures, len(_quarantined(home)))


def _killed(home: Folder, arguments: list[str], after: float, reference: Reference) -> str:
    """Kill the command ``after`` so many seconds. Return what its worker was doing then."""
    began = time.monotonic()
    before = len(home.records())
    started = began
    with home.running(*arguments) as parent:
        while (left := began + after - time.monotonic()) > 0 and parent.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                parent.wait(min(left, 0.02))
            if len(records := home.records()) > before:
                before, started = len(records), time.monotonic()
        was_running = parent.poll() is None
        parent.kill()
    records = home.records()
    if not was_running:
        return "after the run"
    if not records:
        return "before the run"
    if records[-1].kind != STARTED:
        return "between trials"
    return reference.phase(records[-1].fields["trial"], time.monotonic() - started)


def _compare(
    home: Folder, before: Mapping[str, Any], starts: list[str], reference: Reference
) -> list[str]:
    """Return the failures found after the resumed run is complete."""
    failures = [f"{key} repeated" for key in before if home.starts(key) > starts.count(key)]
    document = home.document
    now = {f"{i:02d}": entry for i, entry in enumerate(document["results"], start=1)}
    for key, entry in before.items():
        if now.get(key.partition("-")[0]) != entry:
            failures.append(f"{key} lost")
    if not document["complete"]:
        failures.append("lost: not complete")
    if not _quarantined(home) and plain(document) != plain(reference.document):
        failures.append("results differ from those of an uninterrupted run")
    return failures


def _quarantined(home: Folder) -> list[str]:
    """Return the trials during which the parent was killed twice."""
    crashes = {k for k, e in home.ended().items() if e["outcome"] == OutcomeKind.CRASH}
    return [key for key in crashes if home.starts(key) == 2]
