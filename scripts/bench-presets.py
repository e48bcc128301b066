#!/usr/bin/env python3
"""Benchmark the presets at full size. Requires a GPU with enough memory for them.

Prints the needed memory, peak memory and speed of each preset (4-bit and unquantized), and the
outcomes of a trial that runs out of memory, of one that is over budget, and of trials with budgets
just above and below the needed memory.
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

# Needed memory in GB, measured on an H200 with MLX 0.32.4 without your_ai.
REFERENCE = {
    "hermes-mistral-7b": 6.09,
    "dolphin-8b": 6.53,
    "llama-8b": 6.53,
    "r1-distill-14b": 10.20,
    "hermes-70b": 40.26,
}
FIGURES = ("needed", "peak", "tokens/s")
HEAD = [
    *("model", "outcome", "needed", "peak", "limit", "tokens/s", "tokens/s at needed memory"),
    *("wall s", "reason"),
]


def row(entry: dict[str, Any]) -> list[object]:
    """Return a row of the tables, with sizes in GB."""
    speeds = (entry.get("tokens_per_second"), entry.get("tokens_per_second_at_needed_memory"))
    return [
        entry["preset"],
        entry["outcome"],
        gb(entry["needed_memory_bytes"]),
        gb(entry["peak_memory_bytes"]),
        gb(entry["memory_limit_bytes"]),
        *("–" if speed is None else f"{speed:,.0f}" for speed in speeds),
        f"{entry['wall_seconds'] or 0:.1f}",
        "" if entry["success"] else f"{entry['error']} [{entry['certainty']}: {entry['evidence']}]",
    ]


def show(title: str, run: BenchmarkRun) -> None:
    """Print one run's table."""
    title = f"{title} (exit code {run.exit_status}, {run.seconds:.0f} s in total)"
    table(title, HEAD, [row(entry) for entry in run.results])


def quantized() -> BenchmarkRun:
    """Benchmark all five presets in 4-bit, and compare them with the reference."""
    run = benchmark("--suite", "default", "--lora-keys", "attention", "--optimizer", "adamw")
    show("Five presets, 4-bit", run)
    table(
        "Needed memory compared with the reference",
        ["model", "needed", "reference", "ratio"],
        [
            [e["preset"], gb(e["needed_memory_bytes"]), known, f"{needed / GB / known:.3f}"]
            for e in run.results
            if (needed := e["needed_memory_bytes"]) and (known := REFERENCE[e["preset"]])
        ],
    )
    return run


def unquantized(batch: str) -> list[BenchmarkRun]:
    """Benchmark unquantized models: 7B to 14B pass, 70B runs out of the device's memory."""
    device_gb = DEVICE["memory_bytes"] / GB
    small = [f"--model={name}" for name in list(REFERENCE)[:4]]
    first = benchmark("--quantize", "none", *small)
    show("Unquantized", first)
    whole = ["--max-memory", f"{device_gb - 0.005:.2f}", "--quantize", "none"]
    with tempfile.TemporaryDirectory() as folder:
        # The run continues after the 70B, so an even larger model is skipped with a reason.
        larger = Path(folder) / "larger-than-70b"
        larger.mkdir()
        config = suite("default").presets[-1].config
        config_file = larger / "config.json"
        config_file.write_text(json.dumps({**config, "num_hidden_layers": 96}))
        options = ["--batch-size", batch, "--model=hermes-70b", f"--model={larger}"]
        second = benchmark(*whole, *options)
    show("Unquantized 70B with the whole device as budget", second)
    return [first, second]


def budget_12() -> BenchmarkRun:
    """Benchmark with a budget of 12 GB, which the 70B's weights alone exceed."""
    run = benchmark("--max-memory", "12")
    show("Budget of 12 GB", run)
    return run


def around_needed(preset: str) -> list[BenchmarkRun]:
    """Benchmark with budgets 3% above needed memory (passes) and 3% below it (over budget).

    On CUDA a smaller margin is not reliable, because a step sometimes holds a buffer longer.
    """
    needed = benchmark("--model", preset).results[0]["needed_memory_bytes"]
    runs = []
    for factor in (1.03, 0.97):
        run = benchmark("--model", preset, "--max-memory", f"{needed * factor / GB:.4f}")
        show(f"{preset}, budget of {factor} × needed memory", run)
        runs.append(run)
    return runs


def by_keys(suites: list[str], options: list[str]) -> list[BenchmarkRun]:
    """Benchmark suites with attention and with all modules, in one table."""
    runs = {
        (name, keys): benchmark("--suite", name, "--lora-keys", keys, *options)
        for name in suites
        for keys in ("attention", "all")
    }
    rows = [
        [old["preset"], *figures(old), *figures(new)]
        for name in suites
        for old, new in zip(*(runs[name, k].results for k in ("attention", "all")), strict=True)
    ]
    head = [f"{keys}: {what}" for keys in ("attention", "all") for what in FIGURES]
    seconds = sum(run.seconds for run in runs.values())
    table(f"Attention and all modules ({seconds:.0f} s in total)", ["model", *head], rows)
    return [*runs.values()]


def figures(entry: dict[str, Any]) -> list[object]:
    """Return needed and peak memory in GB, and the speed; the outcome if the trial failed."""
    if not entry["success"]:
        return [entry["outcome"], gb(entry["needed_memory_bytes"]), entry["error"]]
    sizes = (entry["needed_memory_bytes"], entry["peak_memory_bytes"])
    return [*map(gb, sizes), f"{entry['tokens_per_second']:,.0f}"]


PARTS = {
    "keys": lambda a: by_keys(a.suite or ["default", "current"], a.option or []),
    "quantized": lambda a: [quantized()],
    "unquantized": lambda a: unquantized(a.oom_batch),
    "budget": lambda a: [budget_12()],
    "around": lambda a: around_needed("dolphin-8b"),
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--part", choices=PARTS, action="append", help="run only this part; repeatable"
    )
    parser.add_argument(
        "--oom-batch",
        default="8",
        help="batch size of the trial that runs out of memory [default: 8]",
    )
    parser.add_argument("--suite", action="append", help="of the part keys; repeatable")
    parser.add_argument("--option", action="append", help="further option of the part keys")
    parser.add_argument("--save", type=Path, help="folder in which to save the results files")
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
