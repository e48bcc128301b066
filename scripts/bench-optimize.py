#!/usr/bin/env python3
"""The search against the whole grid: for each budget the same optimum, by how many trials?

Runs ``your_ai optimize`` with and without ``--exhaustive`` for one model. All other options, such
as ``--quick`` or ``--layers 1,2,4``, are passed on to both.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchlib import BenchmarkRun, table, your_ai

from your_ai.units import show_size

HEAD = ["model", "budget", "", "optimum", "needed", "tokens/s", "trials", "failed", "wall s"]


def row(run: BenchmarkRun, how: str) -> list[object]:
    """One line of the table."""
    (entry,) = run.results
    found: dict[str, Any] = entry["optimal_config"]
    speed, needed = found["tokens_per_second"], found["needed_memory_bytes"]
    tried = found["all_results"]
    return [
        entry["preset"],
        show_size(run.document["budget_bytes"]),
        how,
        optimum(run),
        "–" if needed is None else show_size(needed),
        "–" if speed is None else f"{speed:,.0f}",
        len(tried),
        sum(not trial["success"] for trial in tried),
        f"{run.seconds:.0f}",
    ]


def optimum(run: BenchmarkRun) -> str:
    """The best configuration: batch, rank and layers."""
    found = run.results[0]["optimal_config"]
    axes = ("optimal_batch_size", "optimal_lora_rank", "optimal_lora_layers")
    return "/".join(str(found[axis]) for axis in axes) if found["optimal_batch_size"] else "none"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--budgets", default="", help="GB, with commas; the default one if empty")
    parser.add_argument("--only", choices=("search", "exhaustive"), help="not both")
    parser.add_argument("--save", type=Path, help="a folder for the runs' results documents")
    arguments, options = parser.parse_known_args()
    rows = []
    for budget in arguments.budgets.split(","):
        given = [f"--max-memory={budget}"] if budget else []
        optima = set()
        for how in ("search", "exhaustive"):
            if arguments.only not in (None, how):
                continue
            mode = ["--exhaustive"] if how == "exhaustive" else []
            run = your_ai("optimize", arguments.model, *given, *mode, *options)
            optima.add(optimum(run))
            rows.append(row(run, how))
            if arguments.save is not None:
                arguments.save.mkdir(parents=True, exist_ok=True)
                name = f"{Path(arguments.model).name}-{budget or 'default'}-{how}.json"
                (arguments.save / name).write_text(json.dumps(run.document))
        if len(optima) > 1:
            rows.append([arguments.model, budget, "NOT THE SAME", *sorted(optima)])
    table("The search against the whole grid", HEAD, rows)
