#!/usr/bin/env python3
"""Repeat trials and print how much their needed memory varies, and how many tight steps they took.

usage: scripts/bench-needed.py MODEL... [--repetitions N] [--old FOLDER] [--options OPTIONS]

``--old`` is a checkout of another version to compare with; both alternate.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

from benchlib import ROOT, Version, table

from your_ai.units import show_size

HEAD = ("model", "version", "median", "largest / smallest", "tight steps")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--old", type=Path)
    parser.add_argument("--options", default="--steps 1", help="options for your_ai benchmark")
    arguments = parser.parse_args()
    options = [*(f"--model={model}" for model in arguments.models), *arguments.options.split()]
    with tempfile.TemporaryDirectory(prefix="needed-") as name:
        folder = Path(name)
        versions = [Version(ROOT, folder / "new")]
        if arguments.old:
            versions.append(Version(arguments.old.resolve(), folder / "old"))
        for version in versions:
            version.prepare()
        measured = repeat(versions, arguments.repetitions, options)
    rows = [
        [model, version, show_size(statistics.median_low(sizes)), spread(sizes), counts(steps)]
        for (model, version), (sizes, steps) in sorted(measured.items())
    ]
    table("Needed memory, repeated", HEAD, rows)


def repeat(
    versions: list[Version], repetitions: int, options: list[str]
) -> dict[tuple[str, str], tuple[list[int], list[int]]]:
    """Return the needed memory and the number of tight steps of all trials.

    The keys are the names of the model and of the version.
    """
    found: dict[tuple[str, str], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for _ in range(repetitions):
        for version in versions:
            for entry in version.measure("benchmark", *options)[1]:
                sizes, steps = found[entry["preset"], version.home.name]
                sizes.append(entry["needed_memory_bytes"])
                steps.append(sum(step["phase"] == "tight" for step in entry["steps"]))
    return found


def spread(sizes: list[int]) -> str:
    """Return how far the largest size is above the smallest."""
    return f"{max(sizes) / min(sizes):.4f}"


def counts(numbers: list[int]) -> str:
    """Return the smallest and largest number."""
    return f"{min(numbers)} to {max(numbers)}"


if __name__ == "__main__":
    main()
