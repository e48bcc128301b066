#!/usr/bin/env python3
"""Count the trials that the search for the best configuration needs.

It searches on random surfaces: functions from configuration to needed memory (surfaces.py). Every
certificate (the proof of an answer) is checked by brute force, and every optimum or ceiling map is
compared with an exhaustive scan. The script exits with 1 if one is wrong.
"""

from __future__ import annotations

import argparse
import math
import random
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
    by_length,
    certificate_error,
    estimated_surface,
    length_surface,
    map_error,
    solve,
    surface,
)

from worker.protocol.configuration import Configuration
from your_ai.search import grid
from your_ai.search.forecast import Expected, Tried
from your_ai.search.grid import Axes, Grid
from your_ai.search.search import Objective, Search

FULL = grid.FULL.around(Configuration(), layers=32)
_LENGTHS = tuple(range(256, 8192 + 1, 256))
LENGTHS = Axes(seq_lengths=_LENGTHS).around(Configuration(), layers=32)
MAP = Axes((1, 2, 4, 8), seq_lengths=_LENGTHS, grad_checkpoints=(True, False)).around(
    Configuration(), layers=32
)

HEAD = [
    *("surfaces", "mean trials", "median", "90%", "95%", "maximum"),
    *("median failing", "maximum failing"),
]
ERRORS = (0.05, 0.15, 0.3)


@dataclass(frozen=True, slots=True)
class Solved:
    """A search that found the optimum: its number of trials and of failing trials."""

    kind: str
    trials: int
    failing: int


def main() -> None:
    """Search on all surfaces and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--surfaces", type=int, default=300, help="number of surfaces per table [default: 300]"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first surface [default: 0]"
    )
    arguments = parser.parse_args()
    if arguments.surfaces < 1:
        parser.error("--surfaces must be at least 1")
    seeds = range(arguments.seed, arguments.seed + arguments.surfaces)
    by_value, by_rank = partial(unestimated, budget_by_value), partial(unestimated, budget_by_rank)
    with ProcessPoolExecutor() as pool:
        plain = list(pool.map(by_value, seeds))
        show("Without an estimate, budgets uniform in memory (target: median 7, 95% 12)", plain)
        informed = [s for e in ERRORS for s in pool.map(partial(estimated, e), seeds)]
        show("With an estimate, budgets uniform in memory", informed, with_total=False)
        hard = list(pool.map(by_rank, seeds))
        show("Without an estimate, budgets uniform in the number of fitting configurations", hard)
        for what, on, target in (
            ("Longest of 32 lengths", longest, "median 4"),
            ("Ceiling map of 32 lengths × 4 batch sizes × 2", mapped, "median 14"),
        ):
            known = [s for e in ERRORS for s in pool.map(partial(on, e), seeds)]
            unknown = list(pool.map(partial(on, None), seeds))
            title = f"{what} (target with an error of 15%: {target})"
            show(title, [*known, *unknown], with_total=False)


def unestimated(budget: Callable[[Surface, random.Random], int], seed: int) -> Solved:
    """Search on one surface without an estimate."""
    draw = random.Random(seed)
    family = list(FAMILIES)[seed % len(FAMILIES)]
    drawn = surface(family, FULL, draw)
    return solved(f"{family}, seed {seed}", family, drawn, budget(drawn, draw))


def estimated(error: float, seed: int) -> Solved:
    """Search on one surface with an estimate whose terms have the relative error ``error``."""
    draw = random.Random(seed)
    drawn, expected = estimated_surface(FULL, error, draw)
    kind = f"error {error:.0%}"
    return solved(f"{kind}, seed {seed}", kind, drawn, budget_by_value(drawn, draw), expected)


def longest(error: float | None, seed: int) -> Solved:
    """Search for the longest sequence, without an estimate if ``error`` is ``None``."""
    kind, budget, tried, search, drawn = by_lengths(LENGTHS, Objective.LENGTH, error, seed)
    certificate = search.certificate(tried)
    if problem := certificate_error(LENGTHS, certificate, tried, by_length):
        raise SystemExit(f"invalid certificate ({kind}, seed {seed}): {problem}")
    best = drawn.best(budget, by_length)
    if certificate.optimum != best:
        raise SystemExit(f"wrong optimum ({kind}, seed {seed}): not {best}")
    return counted(kind, tried)


def mapped(error: float | None, seed: int) -> Solved:
    """Search for a ceiling map, without an estimate if ``error`` is ``None``."""
    kind, budget, tried, _, drawn = by_lengths(MAP, Objective.CEILING, error, seed)
    if problem := map_error(MAP, tried, drawn.fitting(budget)):
        raise SystemExit(f"wrong map ({kind}, seed {seed}): {problem}")
    return counted(kind, tried)


def by_lengths(
    grid: Grid, objective: Objective, error: float | None, seed: int
) -> tuple[str, int, list[Tried], Search, Surface]:
    """Search a surface that grows with the length; every other budget is uniform in memory."""
    draw = random.Random(seed)
    drawn, expected = length_surface(grid, error or 0.15, draw)
    budget = budget_by_value(drawn, draw) if seed % 2 else budget_by_rank(drawn, draw)
    known = None if error is None else expected
    search = Search(grid, budget, objective, known, error=error or 0.15)
    kind = "no estimate" if error is None else f"error {error:.0%}"
    return kind, budget, solve(search, partial(drawn.trial, budget_bytes=budget)), search, drawn


def solved(
    name: str,
    kind: str,
    drawn: Surface,
    budget: int,
    expected: Callable[[Configuration], Expected] | None = None,
) -> Solved:
    """Search, check the result, and count the trials."""
    search = Search(drawn.grid, budget, expected=expected)
    tried = solve(search, partial(drawn.trial, budget_bytes=budget))
    certificate = search.certificate(tried)
    if error := certificate_error(drawn.grid, certificate, tried):
        raise SystemExit(f"invalid certificate ({name}): {error}")
    if certificate.optimum != drawn.best(budget):
        raise SystemExit(
            f"wrong optimum ({name}): {certificate.optimum} instead of {drawn.best(budget)}"
        )
    return counted(kind, tried)


def counted(kind: str, tried: Sequence[Tried]) -> Solved:
    """Return the numbers of trials and of failing trials."""
    return Solved(kind, len(tried), sum(not trial.fits for trial in tried))


def show(title: str, done: Sequence[Solved], *, with_total: bool = True) -> None:
    """Print a table with a row for each kind and one for all."""
    kinds = dict.fromkeys(s.kind for s in done)
    rows = [row(kind, [s for s in done if s.kind == kind]) for kind in kinds]
    table(title, HEAD, [*rows, row("**all**", done)] if with_total else rows)


def row(name: str, done: Sequence[Solved]) -> list[object]:
    """Return a row of the table."""
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
    """Return the smallest of the numbers that is not exceeded by this share of them."""
    ordered = sorted(numbers)
    return ordered[math.ceil(share * len(ordered)) - 1]


if __name__ == "__main__":
    main()
