#!/usr/bin/env python3
"""Compare the ceiling map that a walk finds with an exhaustive one, in real trials on this machine.

Exits with 1 if they differ. A length whose needed memory is within a few percent of the budget can
differ from one trial to the next.
"""

from __future__ import annotations

import argparse
import time

from benchlib import table, your_ai

MODEL = "smoke-tiny"
SIZES = ["--batch-sizes", "1,2,4", "--seq-lengths", "32,64,96,128,192,256,384,512"]


def main() -> None:
    """Make both maps for each budget, and print their trials and times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--budgets", nargs="*", default=["0.012", "0.03"], help="budgets in GB [default: both]"
    )
    rows, differs = [], False
    for budget in parser.parse_args().budgets:
        found = {}
        for name, more in (("walk", []), ("exhaustive", ["--exhaustive"])):
            began = time.monotonic()
            lengths, trials = ceiling(budget, more)
            found[name] = lengths
            rows.append([budget, name, lengths, trials, f"{time.monotonic() - began:.0f}"])
        differs |= found["walk"] != found["exhaustive"]
    head = ["budget (GB)", "map", "longest with; without checkpointing", "trials", "seconds"]
    table(f"Ceiling of {MODEL}, batch sizes 1, 2, 4", head, rows)
    raise SystemExit(1 if differs else 0)


def ceiling(budget: str, more: list[str]) -> tuple[str, int]:
    """Return the longest lengths of a map, as text, and the number of its trials."""
    options = [*SIZES, "--steps", "1", "--max-memory", budget, *more, "--quiet"]
    (entry,) = your_ai("ceiling", MODEL, *options).results
    found = entry["ceiling"]
    kinds = [
        ", ".join(f"{c['longest'] or 0}" for c in found["columns"] if c["grad_checkpoint"] == kind)
        for kind in (True, False)
    ]
    return "; ".join(kinds), len(found["all_results"])


if __name__ == "__main__":
    main()
