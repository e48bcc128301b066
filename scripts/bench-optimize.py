#!/usr/bin/env python3
"""Compare the search with an exhaustive scan of the grid: the optimum and the number of trials.

Runs ``your_ai optimize`` with and without ``--exhaustive`` for one model and each budget. All other
options, such as ``--quick`` or ``--layers 1,2,4``, are passed to both.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchlib import BenchmarkRun, table, your_ai

from your_ai.units import show_size

HEAD = ["model", "budget", "mode", "optimum", "needed", "tokens/s", "trials", "failed", "wall s"]


def row(run: BenchmarkRun, mode: str) -> list[object]:
    """Return a row of the table."""
    (entry,) = run.results
    found: dict[str, Any] = entry["optimal_config"]
    speed, needed = found["tokens_per_second"], found["needed_memory_bytes"]
    tried = found["all_results"]
    return [
        entry["preset"],
        show_size(run.document["budget_bytes"]),
        mode,
        optimum(run),
        "–" if needed is None else show_size(needed),
        "–" if speed is None else f"{speed:,.0f}",
        len(tried),
        sum(not trial["success"] for trial in tried),
        f"{run.seconds:.0f}",
    ]


def optimum(run: BenchmarkRun) -> str:
    """Return the best configuration as batch/rank/layers, or "none"."""
    found = run.results[0]["optimal_config"]
    axes = ("optimal_batch_size", "optimal_lora_rank", "optimal_lora_layers")
    return "/".join(str(found[axis]) for axis in axes) if found["optimal_batch_size"] else "none"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="preset, folder or Hub id")
    parser.add_argument(
        "--budgets", default="", help="budgets in GB, separated by commas [default: your_ai's own]"
    )
    parser.add_argument("--only", choices=("search", "exhaustive"), help="run only one of the two")
    parser.add_argument("--save", type=Path, help="folder in which to save the results files")
    arguments, options = parser.parse_known_args()
    rows = []
    for budget in arguments.budgets.split(","):
        limit = [f"--max-memory={budget}"] if budget else []
        optima = set()
        for mode in ("search", "exhaustive"):
            if arguments.only not in (None, mode):
                continue
            exhaustive = ["--exhaustive"] if mode == "exhaustive" else []
            run = your_ai("optimize", arguments.model, *limit, *exhaustive, *options)
            optima.add(optimum(run))
            rows.append(row(run, mode))
            if arguments.save is not None:
                arguments.save.mkdir(parents=True, exist_ok=True)
                name = f"{Path(arguments.model).name}-{budget or 'default'}-{mode}.json"
                (arguments.save / name).write_text(json.dumps(run.document))
        if len(optima) > 1:
            rows.append([arguments.model, budget, "DIFFERENT OPTIMA", *sorted(optima)])
    table("Search and exhaustive scan", HEAD, rows)
