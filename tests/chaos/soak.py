"""A thousand trials in one run: the parent stays as small as it was."""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median, median_low

import psutil

from tests.chaos.report import Report
from tests.chaos.runs import Folder
from your_ai.runs.journal import JOURNAL

WARM_UP = 20
"""Trials until all that is ever imported has been, for sure."""

GROWTH_PER_TRIAL = 15_000
"""Bytes: a run holds the results of its trials."""
NOISE = 5 * 2**20
"""Bytes by which a parent of any length grows: what an allocator keeps."""
POLL_SECONDS = 0.2
WINDOW = 4
"""Trials at the beginning and at the end that are compared, at most."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The parent after so many trials."""

    trials: int
    resident_bytes: int
    descriptors: int


def soak(times: int, warm_up: int = WARM_UP) -> Report:
    """One run of so many trials at least; how much the parent's memory and descriptors grow."""
    batches, ranks, layers = _axes(times)
    asked = [
        *("optimize", "smoke-tiny", "--exhaustive", "--seq-length", "8", "--steps", "1"),
        *("--batch-sizes", _listed(batches), "--ranks", _listed(ranks)),
        *("--layers", _listed(layers)),
    ]
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        home = Folder(Path(name))
        samples = _watched(home, asked)
        trials = len(home.ended())
        passed = sum(entry["success"] for entry in home.ended().values())
    window = min(WINDOW, (times - warm_up) // 2)
    first = [sample for sample in samples if warm_up <= sample.trials < warm_up + window]
    last = [sample for sample in samples if sample.trials > trials - window]
    memory = median(sample.resident_bytes for sample in first)
    # Not after the last trial: the report is made then, in this process.
    during = [s.resident_bytes for s in samples if warm_up <= s.trials < trials]
    growth = max(during) - memory
    most = NOISE + GROWTH_PER_TRIAL * (trials - warm_up)
    # The middle one: a worker's pipes come and go, and so does the results file.
    descriptors = [median_low(sample.descriptors for sample in part) for part in (first, last)]
    failures = []
    if growth >= most:
        failures.append(f"grew by {growth / 2**20:.1f} MB")
    if descriptors[1] > descriptors[0]:
        failures.append("descriptors grew")
    if trials < len(batches) * len(ranks) * len(layers):
        failures.append(f"only {trials} trials")
    figures = {
        "trials": trials,
        "passed": passed,
        f"resident after {warm_up} trials": f"{memory / 2**20:.1f} MB",
        "most that it grew": f"{growth / 2**20:.1f} MB",
        "per trial": f"{growth / (trials - warm_up) / 1000:.1f} kB",
        f"file descriptors after {warm_up} trials, at the end": (
            f"{descriptors[0]}, {descriptors[1]}"
        ),
    }
    return Report("One run of many trials", figures, failures)


def _watched(home: Folder, asked: list[str]) -> list[Sample]:
    """The parent all along, five times a second."""
    samples: list[Sample] = []
    path, read, done = home.run / JOURNAL, 0, 0
    with home.running(*asked) as parent:
        process = psutil.Process(parent.pid)
        while parent.poll() is None:
            time.sleep(POLL_SECONDS)
            if path.exists() and path.stat().st_size > read:
                with path.open("rb") as file:
                    file.seek(read)
                    new = file.read()
                read, done = read + len(new), done + new.count(b'"kind":"ended"')
            with contextlib.suppress(psutil.Error):  # it has just ended
                sample = Sample(done, process.memory_info().rss, process.num_fds())
                samples += [sample] if sample.resident_bytes else []
    return samples


def _axes(times: int) -> tuple[range, range, range]:
    """The axes of a grid of that size or a little more."""
    sizes = product(range(1, 26), range(1, 11))
    batch, rank = min((b * r, (b, r)) for b, r in sizes if b * r * 4 >= times)[1]
    return range(1, batch + 1), range(1, rank + 1), range(1, 5)


def _listed(axis: range) -> str:
    return ",".join(map(str, axis))
