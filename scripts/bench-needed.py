#!/usr/bin/env python3
"""Repeat trials and print how much their needed memory varies, and how many tight steps they took.

usage: scripts/bench-needed.py MODEL... [--repetitions N] [--old FOLDER] [--options OPTIONS]

``--old`` is a checkout of another version to compare with; both alternate.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections import defaultdict
from pathlib import Path

from benchlib import benchmark, table

from your_ai.units import show_size

PATH = "PYTHONPATH"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--old", type=Path)
    parser.add_argument("--options", default="--steps 1", help="options for your_ai benchmark")
    arguments = parser.parse_args()
    folders = {"old": arguments.old, "new": None} if arguments.old else {"new": None}
    inherited = os.environ.get(PATH, "")
    needed: dict[tuple[str, str], list[int]] = defaultdict(list)
    steps: dict[tuple[str, str], list[int]] = defaultdict(list)
    for _ in range(arguments.repetitions):
        for version, folder in folders.items():
            os.environ[PATH] = f"{folder}{os.pathsep}{inherited}" if folder else inherited
            for entry in benchmark(
                *(f"--model={model}" for model in arguments.models), *arguments.options.split()
            ).results:
                key = entry["preset"], version
                needed[key].append(entry["needed_memory_bytes"])
                steps[key].append(sum(step["phase"] == "tight" for step in entry["steps"]))
    rows = [
        [
            *key,
            show_size(statistics.median_low(sizes)),
            spread(sizes),
            shares(sizes),
            counts(steps[key]),
        ]
        for key, sizes in sorted(needed.items())
    ]
    head = ["model", "version", "median", "largest / smallest", "each / largest", "tight steps"]
    table("Needed memory, repeated", head, rows)


def spread(sizes: list[int]) -> str:
    """Return how far the largest size is above the smallest."""
    return f"{max(sizes) / min(sizes):.4f}"


def shares(sizes: list[int]) -> str:
    """Return each size in relation to the largest."""
    return " ".join(f"{size / max(sizes):.3f}" for size in sizes)


def counts(numbers: list[int]) -> str:
    """Return the smallest and largest number."""
    return f"{min(numbers)} to {max(numbers)}"


if __name__ == "__main__":
    main()
