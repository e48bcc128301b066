#!/usr/bin/env python3
"""Compare the estimated needed memory of presets with that of the trials in results files.

Prints the estimate's errors for each backend, and the trials with the largest errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchlib import table

from worker.protocol.requests import ModelSource, TrialRequest
from your_ai.models.presets import all_presets
from your_ai.planning.memory_estimate import Estimate, estimate
from your_ai.runs import results
from your_ai.units import show_size

LARGEST_COUNT = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """The estimated and the measured needed memory of one trial."""

    name: str
    backend: str
    estimated: Estimate
    needed_bytes: int

    @property
    def error(self) -> float:
        """Relative error of the estimate; positive if it is too high."""
        return self.estimated.needed_bytes / self.needed_bytes - 1


def comparisons(run: results.Results) -> Iterator[Comparison]:
    """Yield a comparison for each trial of a preset whose needed memory is known."""
    backend = run.device.backend
    for trial in run.trials:
        preset, needed = all_presets().get(trial.preset), trial.needed_memory_bytes
        if preset is None or needed is None:
            continue
        configuration = trial.config.configuration
        request = TrialRequest(ModelSource(preset.config), configuration, 1, run.budget_bytes)
        axes = "/".join(map(str, trial.axes))
        quantized = configuration.quantization_bits
        bits = f"{quantized}-bit" if quantized else "bf16"
        name = f"{preset.name} {axes}, {configuration.seq_length} tokens, {bits}"
        yield Comparison(name, backend, estimate(request, backend), needed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="results files")
    files: list[Path] = parser.parse_args().results
    found = [c for path in files for c in comparisons(results.read(path.read_bytes(), path.name))]
    rows = []
    for backend in sorted({c.backend for c in found}):
        errors = sorted(abs(c.error) for c in found if c.backend == backend)
        rows.append([backend, len(errors), f"{median(errors):.1%}", f"{errors[-1]:.1%}"])
    table("Estimated needed memory", ["backend", "trials", "median error", "largest error"], rows)
    largest = sorted(found, key=lambda c: -abs(c.error))[:LARGEST_COUNT]
    table(
        "Largest errors",
        ["trial", "backend", "measured", "estimated", "error"],
        [
            [
                c.name,
                c.backend,
                show_size(c.needed_bytes),
                show_size(c.estimated.needed_bytes),
                f"{c.error:+.1%}",
            ]
            for c in largest
        ],
    )
