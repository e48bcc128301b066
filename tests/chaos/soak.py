"""One run of a thousand trials, in which the parent's memory must not grow."""

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
"""Number of trials after which all modules are imported."""

GROWTH_PER_TRIAL = 15_000
"""Allowed growth in bytes per trial, because a run keeps the results of its trials."""
NOISE = 5 * 2**20
"""Allowed growth in bytes for any number of trials, because the allocator keeps freed memory."""
POLL_SECONDS = 0.2
WINDOW = 4
"""Maximum number of trials at the beginning and at the end to compare."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory and file descriptors of the parent after so many trials."""

    trials: int
    resident_bytes: int
    descriptors: int


def soak(times: int, warm_up: int = WARM_UP) -> Report:
    """Make a run of at least ``times`` trials, and measure how the parent grows."""
    batches, ranks, layers = _axes(times)
    arguments = [
        *("optimize", "smoke-tiny", "--exhaustive", "--seq-length", "8", "--steps", "1"),
        *("--batch-sizes", _joined(batches), "--ranks", _joined(ranks)),
        *("--layers", _joined(layers)),
    ]
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        home = Folder(Path(name))
        samples = _watched(home, arguments)
        trials = len(home.ended())
        passed = sum(entry["success"] for entry in home.ended().values())
    window = min(WINDOW, (times - warm_up) // 2)
    first = [sample for sample in samples if warm_up <= sample.trials < warm_up + window]
    last = [sample for sample in samples if sample.trials > trials - window]
    memory = median(sample.resident_bytes for sample in first)
    # Ignore samples after the last trial, because the parent then makes the report.
    during = [s.resident_bytes for s in samples if warm_up <= s.trials < trials]
    growth = max(during) - memory
    allowed = NOISE + GROWTH_PER_TRIAL * (trials - warm_up)
    # The median, because pipes and the results file are open only some of the time.
    descriptors = [median_low(sample.descriptors for sample in part) for part in (first, last)]
    failures = []
    if growth >= allowed:
        failures.append(f"memory grew by {growth / 2**20:.1f} MB")
    if descriptors[1] > descriptors[0]:
        failures.append("the number of file descriptors grew")
    if trials < len(batches) * len(ranks) * len(layers):
        failures.append(f"only {trials} trials finished")
    figures = {
        "trials": trials,
        "passed": passed,
        f"resident memory after {warm_up} trials": f"{memory / 2**20:.1f} MB",
        "maximum growth": f"{growth / 2**20:.1f} MB",
        "growth per trial": f"{growth / (trials - warm_up) / 1000:.1f} kB",
        f"file descriptors after {warm_up} trials and at the end": (
            f"{descriptors[0]}, {descriptors[1]}"
        ),
    }
    return Report("One run of many trials", figures, failures)


def _watched(home: Folder, arguments: list[str]) -> list[Sample]:
    """Run the command, and return a sample of the parent for every ``POLL_SECONDS``."""
    samples: list[Sample] = []
    path, read, done = home.run / JOURNAL, 0, 0
    with home.running(*arguments) as parent:
        process = psutil.Process(parent.pid)
        while parent.poll() is None:
            time.sleep(POLL_SECONDS)
            if path.exists() and path.stat().st_size > read:
                with path.open("rb") as file:
                    file.seek(read)
                    new = file.read()
                read, done = read + len(new), done + new.count(b'"kind":"ended"')
            with contextlib.suppress(psutil.Error):  # the parent may have ended
                sample = Sample(done, process.memory_info().rss, process.num_fds())
                samples += [sample] if sample.resident_bytes else []
    return samples


def _axes(times: int) -> tuple[range, range, range]:
    """Return the axes of the smallest grid of at least ``times`` configurations."""
    sizes = product(range(1, 26), range(1, 11))
    batch, rank = min((b * r, (b, r)) for b, r in sizes if b * r * 4 >= times)[1]
    return range(1, batch + 1), range(1, rank + 1), range(1, 5)


def _joined(axis: range) -> str:
    return ",".join(map(str, axis))
