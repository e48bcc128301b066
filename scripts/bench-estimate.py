#!/usr/bin/env python3
"""The estimate against what was measured: every trial of a preset in the results documents given.

Prints the error of the estimated needed memory, and the largest misses.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchlib import table

from your_ai.models.presets import all_presets
from your_ai.models.resolve import from_preset
from your_ai.planning.memory_estimate import Estimate, estimate
from your_ai.planning.plan import TrainingOptions, plan
from your_ai.units import show_size

MISSES = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """One trial: what was estimated, what was measured (bytes)."""

    name: str
    backend: str
    estimated: Estimate
    needed_bytes: int

    @property
    def error(self) -> float:
        """By what share of the truth the estimate is too high."""
        return self.estimated.needed_bytes / self.needed_bytes - 1


def comparisons(document: dict[str, Any]) -> Iterator[Comparison]:
    """Every trial of a preset whose needed memory is known."""
    backend = document["device"]["backend"]
    for entry in document["results"]:
        searched = entry["optimal_config"]
        for trial in searched["all_results"] if searched else [entry]:
            if trial["needed_memory_bytes"] and trial["preset"] in all_presets():
                yield compare(trial, backend)


def compare(trial: dict[str, Any], backend: str) -> Comparison:
    """One trial of the results against its estimate."""
    config = trial["config"]
    options = TrainingOptions(
        batch_size=config["batch_size"],
        lora_rank=config["lora_rank"],
        lora_layers=config["lora_layers"],
        seq_length=config["seq_length"],
        quantize=config["quantization_bits"] or 0,
        grad_checkpoint=config["grad_checkpoint"],
    )
    model = from_preset(all_presets()[trial["preset"]])
    (planned,) = plan([model], options, config["budget_bytes"])
    axes = (options.batch_size, options.lora_rank, options.lora_layers)
    bits = f"{options.quantize}-bit" if options.quantize else "bf16"
    name = f"{model.name} {'/'.join(map(str, axes))}, {options.seq_length} tokens, {bits}"
    return Comparison(
        name, backend, estimate(planned.request, backend), trial["needed_memory_bytes"]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="+")
    found = [
        c for path in parser.parse_args().results for c in comparisons(json.loads(path.read_text()))
    ]
    rows = []
    for backend in sorted({c.backend for c in found}):
        errors = sorted(abs(c.error) for c in found if c.backend == backend)
        rows.append([backend, len(errors), f"{median(errors):.1%}", f"{errors[-1]:.1%}"])
    table("Estimated needed memory", ["backend", "trials", "median error", "largest"], rows)
    largest = sorted(found, key=lambda c: -abs(c.error))[:MISSES]
    table(
        "The largest misses",
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
