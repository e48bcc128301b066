#!/usr/bin/env python3
"""The five presets at full size, on a machine with a GPU large enough for them.

Prints needed and peak memory and speed of each preset, 4-bit and unquantized, a real out-of-memory,
an over-budget run, and trials with budgets just above and below what was needed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchlib import GB, BenchmarkRun, benchmark, gb, table

from your_ai.models.presets import suite

# Peaks at a tight limit, GB, measured on an H200 with MLX 0.32.4 before this tool existed.
REFERENCE = {
    "hermes-mistral-7b": 6.09,
    "dolphin-8b": 6.53,
    "llama-8b": 6.53,
    "r1-distill-14b": 10.20,
    "hermes-70b": 40.26,
}
HEAD = ["model", "outcome", "needed", "peak", "limit", "tokens/s", "at needed", "wall s", "why"]


def row(entry: dict[str, Any]) -> list[object]:
    """One line of the tables: sizes in GB."""
    speeds = (entry.get("tokens_per_second"), entry.get("tokens_per_second_at_needed_memory"))
    return [
        entry["preset"],
        entry["outcome"],
        gb(entry["needed_memory_bytes"]),
        gb(entry["peak_memory_bytes"]),
        gb(entry["memory_limit_bytes"]),
        *("–" if speed is None else f"{speed:,.0f}" for speed in speeds),
        f"{entry.get('wall_seconds', 0):.1f}",
        "" if entry["success"] else f"{entry['error']} [{entry['certainty']}: {entry['evidence']}]",
    ]


def show(title: str, run: BenchmarkRun) -> None:
    """Print one run's table."""
    title = f"{title} (exit {run.exit_status}, {run.seconds:.0f} s in all)"
    table(title, HEAD, [row(entry) for entry in run.results])


def quantized() -> BenchmarkRun:
    """All five presets, 4-bit, against the reference."""
    run = benchmark("--suite", "default")
    show("Five presets, 4-bit", run)
    table(
        "Needed memory against the reference",
        ["model", "needed", "reference", "ratio"],
        [
            [e["preset"], gb(e["needed_memory_bytes"]), known, f"{needed / GB / known:.3f}"]
            for e in run.results
            if (needed := e["needed_memory_bytes"]) and (known := REFERENCE[e["preset"]])
        ],
    )
    return run


def unquantized(batch: str) -> list[BenchmarkRun]:
    """7B to 14B pass; the 70B, with the whole device as its budget, really runs out of it."""
    device_gb = DEVICE["memory_bytes"] / GB
    small = [f"--model={name}" for name in list(REFERENCE)[:4]]
    first = benchmark("--quantize", "none", *small)
    show("Unquantized", first)
    whole = ["--max-memory", f"{device_gb - 0.005:.2f}", "--quantize", "none"]
    with tempfile.TemporaryDirectory() as folder:
        # A yet larger model behind it shows that the run goes on, and why that one is skipped.
        larger = Path(folder) / "larger-than-70b"
        larger.mkdir()
        config = suite("default").presets[-1].config
        config_file = larger / "config.json"
        config_file.write_text(json.dumps({**config, "num_hidden_layers": 96}))
        options = ["--batch-size", batch, "--model=hermes-70b", f"--model={larger}"]
        second = benchmark(*whole, *options)
    show("Unquantized 70B in the whole device", second)
    return [first, second]


def budget_12() -> BenchmarkRun:
    """A budget of 12 GB: the 70B says at once that it is over."""
    run = benchmark("--max-memory", "12")
    show("Budget of 12 GB", run)
    return run


def around_needed(preset: str) -> list[BenchmarkRun]:
    """Just above the needed memory passes, just below is over budget.

    By 3 %, since on CUDA a step now and then holds a buffer for longer.
    """
    needed = benchmark("--model", preset).results[0]["needed_memory_bytes"]
    runs = []
    for factor in (1.03, 0.97):
        run = benchmark("--model", preset, "--max-memory", f"{needed * factor / GB:.4f}")
        show(f"{preset}, budget of {factor} × needed memory", run)
        runs.append(run)
    return runs


PARTS = {
    "quantized": lambda a: [quantized()],
    "unquantized": lambda a: unquantized(a.oom_batch),
    "budget": lambda a: [budget_12()],
    "around": lambda a: around_needed("dolphin-8b"),
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; several times")
    parser.add_argument("--oom-batch", default="8", help="batch size of the trial that runs out")
    parser.add_argument("--save", type=Path, help="a folder for the runs' results documents")
    arguments = parser.parse_args()
    if arguments.save is not None:
        arguments.save.mkdir(parents=True, exist_ok=True)
    DEVICE = benchmark("--model", "smoke-tiny", "--quantize", "none").document["device"]
    print(
        f"{DEVICE['name']}, {gb(DEVICE['memory_bytes'])} GB, {DEVICE['versions']}", file=sys.stderr
    )
    for part in arguments.part or PARTS:
        for index, run in enumerate(PARTS[part](arguments)):
            if arguments.save is not None:
                target = arguments.save / f"{part}-{index}.json"
                target.write_text(json.dumps(run.document))
