"""A thousand trials in one run: the parent stays as small as it was."""

from __future__ import annotations

import contextlib
import tempfile
import time
from itertools import product
from pathlib import Path

import psutil

from tests.chaos.report import Report
from tests.chaos.runs import Folder
from your_ai.journal import JOURNAL

WARM_UP = 20
"""Trials until all that is ever imported has been."""

MOST_GROWTH = 5 * 2**20
POLL_SECONDS = 0.2


def soak(times: int) -> Report:
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
    warm = [sample for sample in samples if sample[0] >= WARM_UP]
    (_, memory, descriptors), last = warm[0], warm[-1]
    growth = max(sample[1] for sample in warm) - memory
    failures = []
    if growth >= MOST_GROWTH:
        failures.append(f"grew by {growth / 2**20:.1f} MB")
    if max(sample[2] for sample in warm) > descriptors:
        failures.append("descriptors grew")
    if trials < len(batches) * len(ranks) * len(layers):
        failures.append(f"only {trials} trials")
    figures = {
        "trials": trials,
        "passed": passed,
        f"resident after {WARM_UP} trials": f"{memory / 2**20:.1f} MB",
        "resident at the end": f"{last[1] / 2**20:.1f} MB",
        "most that it grew in between": f"{growth / 2**20:.1f} MB",
        f"file descriptors after {WARM_UP} trials, at the end, at most": (
            f"{descriptors}, {last[2]}, {max(sample[2] for sample in warm)}"
        ),
    }
    return Report("One run of many trials", figures, failures)


def _watched(home: Folder, asked: list[str]) -> list[tuple[int, int, int]]:
    """Trials done, the parent's resident bytes and open descriptors, whenever a trial has ended."""
    samples: list[tuple[int, int, int]] = []
    path, read, done = home.run / JOURNAL, 0, 0
    with home.running(*asked) as parent:
        process = psutil.Process(parent.pid)
        while parent.poll() is None:
            time.sleep(POLL_SECONDS)
            if not path.exists() or path.stat().st_size == read:
                continue
            with path.open("rb") as file:
                file.seek(read)
                new = file.read()
            read += len(new)
            done += new.count(b'"kind":"ended"')
            with contextlib.suppress(psutil.Error):  # it has just ended
                sample = (done, process.memory_info().rss, process.num_fds())
                samples += [sample] if sample[1] else []
            if done % 100 == 0 and b'"kind":"ended"' in new:
                print(f"{samples[-1]}", flush=True)
    return samples


def _axes(times: int) -> tuple[range, range, range]:
    """The axes of a grid of that size or a little more."""
    sizes = product(range(1, 26), range(1, 11))
    batch, rank = min((b * r, (b, r)) for b, r in sizes if b * r * 4 >= times)[1]
    return range(1, batch + 1), range(1, rank + 1), range(1, 5)


def _listed(axis: range) -> str:
    return ",".join(map(str, axis))
