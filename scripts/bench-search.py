#!/usr/bin/env python3
"""How many trials the search for the best configuration needs, over random memory surfaces.

Every certificate is checked by brute force and every answer against a look at the whole grid; a
wrong one ends the script with status 1.
"""

from __future__ import annotations

import argparse
import math
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median

from benchlib import table
from surfaces import (
    FAMILIES,
    Surface,
    budget_by_rank,
    budget_by_value,
    estimated_surface,
    objection,
    solve,
    surface,
)

from your_ai.search.fit_model import Expected
from your_ai.search.grid import FULL, Configuration
from your_ai.search.search import Search

HEAD = ["trials", "mean", "median", "90 %", "95 %", "most", "failing: median", "failing: most"]
ERRORS = (0.05, 0.15, 0.3)
STARTS = 7
"""How often a process is started to see how long that takes."""


@dataclass(frozen=True, slots=True)
class Solved:
    """One search that ended with the right answer."""

    kind: str
    trials: int
    failing: int
    seconds_a_proposal: float


def main() -> None:
    """Search all surfaces, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--surfaces", type=int, default=300, help="of each table (default 300)")
    parser.add_argument("--seed", type=int, default=0, help="the first surface's (default 0)")
    arguments = parser.parse_args()
    if arguments.surfaces < 1:
        parser.error("--surfaces: at least 1")
    seeds = range(arguments.seed, arguments.seed + arguments.surfaces)
    by_value, by_rank = partial(unestimated, budget_by_value), partial(unestimated, budget_by_rank)
    with ProcessPoolExecutor() as pool:
        plain = list(pool.map(by_value, seeds))
        show("Without an estimate, budgets even in memory (median ≤ 7, 95 % ≤ 12)", plain)
        informed = [s for e in ERRORS for s in pool.map(partial(estimated, e), seeds)]
        show("With an estimate, budgets even in memory", informed, together=False)
        hard = list(pool.map(by_rank, seeds))
        show("Without an estimate, budgets even in how many configurations fit", hard)
    show_time({"without an estimate": [*plain, *hard], "with one": informed})


def unestimated(budget: Callable[[Surface, random.Random], int], seed: int) -> Solved:
    """Search one surface of a family of which nothing is known beforehand."""
    draw = random.Random(seed)
    family = list(FAMILIES)[seed % len(FAMILIES)]
    drawn = surface(family, FULL, draw)
    return solved(f"{family}, seed {seed}", family, drawn, budget(drawn, draw))


def estimated(error: float, seed: int) -> Solved:
    """Search one surface with an estimate whose terms are off by ``error``."""
    draw = random.Random(seed)
    drawn, expected = estimated_surface(FULL, error, draw)
    kind = f"off by {error:.0%}"
    return solved(f"{kind}, seed {seed}", kind, drawn, budget_by_value(drawn, draw), expected)


def solved(
    name: str,
    kind: str,
    drawn: Surface,
    budget: int,
    expected: Callable[[Configuration], Expected] | None = None,
) -> Solved:
    """Search, check, count."""
    search = Search(drawn.grid, budget, expected=expected)
    began = time.perf_counter()
    tried = solve(search, lambda configuration: drawn.trial(configuration, budget))
    seconds = time.perf_counter() - began
    certificate = search.certificate(tried)
    if wrong := objection(drawn.grid, certificate, tried):
        raise SystemExit(f"invalid certificate ({name}): {wrong}")
    if certificate.optimum != drawn.best(budget):
        raise SystemExit(f"{name}: {certificate.optimum}, the best is {drawn.best(budget)}")
    # Its last call proposes nothing, and takes almost no time.
    failing = sum(not trial.fits for trial in tried)
    return Solved(kind, len(tried), failing, seconds / len(tried))


def show(title: str, done: Sequence[Solved], *, together: bool = True) -> None:
    """Print one table: a row for each kind, and one for all of them together."""
    kinds = dict.fromkeys(s.kind for s in done)
    rows = [row(kind, [s for s in done if s.kind == kind]) for kind in kinds]
    table(title, HEAD, [*rows, row("**all**", done)] if together else rows)


def row(name: str, done: Sequence[Solved]) -> list[object]:
    """One line of the table."""
    trials, failing = [s.trials for s in done], [s.failing for s in done]
    return [
        f"{name} ({len(done)})",
        f"{fmean(trials):.2f}",
        f"{median(trials):g}",
        quantile(trials, 0.9),
        quantile(trials, 0.95),
        max(trials),
        f"{median(failing):g}",
        max(failing),
    ]


def quantile(numbers: Iterable[int], share: float) -> int:
    """The least of the numbers that so large a share of them does not exceed."""
    ordered = sorted(numbers)
    return ordered[math.ceil(share * len(ordered)) - 1]


def show_time(done: dict[str, Sequence[Solved]]) -> None:
    """Print how long a proposal takes, beside the least that its trial takes."""
    start = median(worker_start() for _ in range(STARTS))
    rows = []
    for name, searches in done.items():
        proposal = median(s.seconds_a_proposal for s in searches)
        rows.append([name, f"{1000 * proposal:.1f} ms", f"{100 * proposal / start:.1f} %"])
    head = ["", "a proposal (median)", f"of a process that only imports mlx-lm ({start:.2f} s)"]
    table("What a proposal costs beside its trial, which begins with such an import", head, rows)


def worker_start() -> float:
    """Seconds from the start to the end of a fresh process that imports what a worker trains on."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", "import mlx_lm.tuner.trainer"], check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
