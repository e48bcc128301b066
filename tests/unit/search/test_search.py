"""The search: on every monotone surface it finds the best, and its certificate holds."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import pytest

from worker.protocol.configuration import Configuration
from your_ai.models.quantization import Quantization, named
from your_ai.search import grid
from your_ai.search.forecast import Expected, Tried
from your_ai.search.grid import Axes, Grid
from your_ai.search.search import Objective, Search

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))

from surfaces import (
    FAMILIES,
    Surface,
    budget_by_rank,
    budget_by_value,
    by_length,
    certificate_error,
    covers,
    estimated_surface,
    length_surface,
    map_error,
    preference,
    solve,
    surface,
)

Estimate = Callable[[Configuration], Expected]


def make_grid(batches: Iterable[int], ranks: Iterable[int], layers: Iterable[int]) -> Grid:
    return Axes(tuple(batches), tuple(ranks), tuple(layers)).around(Configuration(), sys.maxsize)


FULL = grid.FULL.around(Configuration(), sys.maxsize)
QUICK = grid.QUICK.around(Configuration(), sys.maxsize)

BUDGETS: list[Callable[[Surface, random.Random], int]] = [
    budget_by_value,
    budget_by_rank,
    lambda drawn, draw: draw.choice(list(drawn.needed.values())),
    lambda drawn, draw: min(drawn.needed.values()) - 1,
    lambda drawn, draw: max(drawn.needed.values()),
]
"""Budgets: random, exactly the need of a configuration, too little for all, enough for all."""


def scaled(factor: float) -> Callable[[Surface, int], Estimate]:
    """Return an estimate that is the surface multiplied by ``factor``."""

    def about(drawn: Surface, budget: int) -> Estimate:
        resident = int(min(drawn.needed.values()) * factor * 0.8)
        return lambda c: Expected(resident, int(drawn.needed[c] * factor))

    return about


def falling(drawn: Surface, budget: int) -> Estimate:
    """Return an estimate by which the largest configuration needs least."""
    most = max(drawn.needed.values())
    return lambda c: Expected(0, most - drawn.needed[c])


ESTIMATES: dict[str, Callable[[Surface, int], Estimate | None]] = {
    "none": lambda drawn, budget: None,
    "exact": scaled(1),
    "30 % low": scaled(0.7),
    "3 times too high": scaled(3),
    "100 times too low": scaled(0.01),
    "100 times too high": scaled(100),
    "constant": lambda drawn, budget: lambda c: Expected(budget // 2, budget),
    "no training part": lambda drawn, budget: lambda c: Expected(drawn.needed[c], drawn.needed[c]),
    "nothing": lambda drawn, budget: lambda c: Expected(0, 0),
    "falling": falling,
}


def sized(batch: int, rank: int, layers: int) -> Configuration:
    return Configuration(batch_size=batch, lora_rank=rank, lora_layers=layers)


def random_grid(draw: random.Random) -> Grid:
    """Return a grid with one to four values per axis, rarely many on all axes."""
    counts = [draw.choice((1, 2, 2, 3, 3, 4)) for _ in range(3)]
    ranges = range(1, 17), range(8, 257, 8), range(1, 49)
    return make_grid(*(draw.sample(r, count) for r, count in zip(ranges, counts, strict=True)))


def watched(
    search: Search, trial: Callable[[Configuration], Tried], told: Sequence[Tried] = ()
) -> list[Tried]:
    """Search to the end, and check that no earlier trial implies the outcome of a proposed one."""
    known = list(told)

    def watching(proposed: Configuration) -> Tried:
        assert proposed in search.grid.configurations
        for earlier in known:
            if not earlier.fits:
                assert not covers(proposed, earlier.configuration)
            elif earlier.configuration in search.grid.configurations:
                assert not covers(earlier.configuration, proposed)
        known.append(trial(proposed))
        return known[-1]

    return solve(search, watching, told)


def assert_proven(
    search: Search, drawn: Surface, trial: Callable[[Configuration], Tried] | None = None
) -> list[Tried]:
    """Search a monotone surface; check the result against brute force, and the certificate."""
    budget = search.budget_bytes
    tried = watched(search, trial or (lambda c: drawn.trial(c, budget)))
    certificate = search.certificate(tried)
    assert certificate_error(search.grid, certificate, tried) is None
    assert certificate.optimum == drawn.best(budget)
    optimum = search.optimum(tried)
    assert (optimum and optimum.configuration) == certificate.optimum
    return tried


def seeded(seed: int, grid: Grid | None = None) -> tuple[random.Random, Surface, int]:
    """Return a surface (each family in turn) and a budget; without ``grid``, on a random one."""
    draw = random.Random(seed)
    drawn = surface(list(FAMILIES)[seed % len(FAMILIES)], grid or random_grid(draw), draw)
    return draw, drawn, BUDGETS[seed % len(BUDGETS)](drawn, draw)


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_the_best_configuration_is_found_and_proven(estimate: str) -> None:
    for seed in range(4 * len(FAMILIES) * len(BUDGETS)):
        _, drawn, budget = seeded(seed)
        assert_proven(
            Search(drawn.grid, budget, expected=ESTIMATES[estimate](drawn, budget)), drawn
        )


def test_a_slightly_wrong_estimate_does_not_change_the_result() -> None:
    for seed in range(100):
        draw = random.Random(seed)
        error = draw.choice((0.0, 0.05, 0.15, 0.3))
        drawn, expected = estimated_surface(random_grid(draw), error, draw)
        budget = BUDGETS[seed % len(BUDGETS)](drawn, draw)
        assert_proven(Search(drawn.grid, budget, expected=expected), drawn)


@pytest.mark.parametrize("estimate", ["none", "exact", "100 times too low"])
def test_the_best_is_found_wherever_the_boundary_is(estimate: str) -> None:
    """These surfaces say only what fits, and nothing else affects the result."""
    for seed in range(40):
        draw = random.Random(seed)
        grid = random_grid(draw)
        least_failing = draw.sample(grid.configurations, min(3, len(grid.configurations)))
        drawn = Surface(
            grid,
            {
                c: 200 if any(covers(c, failing) for failing in least_failing) else 50
                for c in grid.configurations
            },
        )
        expected = ESTIMATES[estimate](drawn, 100)
        assert_proven(Search(grid, 100, expected=expected), drawn)


def test_few_trials_are_enough() -> None:
    """The limits are those measured by scripts/bench-search.py, with room for other seeds."""
    tried, informed = [], []
    for seed in range(60):
        draw = random.Random(seed)
        drawn = surface(list(FAMILIES)[seed % len(FAMILIES)], FULL, draw)
        tried.append(assert_proven(Search(FULL, budget_by_value(drawn, draw)), drawn))
        drawn, expected = estimated_surface(FULL, 0.15, draw)
        budget = budget_by_value(drawn, draw)
        informed.append(assert_proven(Search(FULL, budget, expected=expected), drawn))
    assert median(len(trials) for trials in tried) <= 8
    assert median(sum(not t.fits for t in trials) for trials in tried) <= 5
    assert median(len(trials) for trials in informed) <= 4
    assert max(len(trials) for trials in tried) <= 20
    assert max(len(trials) for trials in informed) <= 16


@pytest.mark.parametrize("estimate", list(ESTIMATES))
def test_a_wrong_estimate_costs_only_a_few_trials(estimate: str) -> None:
    for seed in range(2 * len(FAMILIES)):
        draw = random.Random(seed)
        drawn = surface(list(FAMILIES)[seed % len(FAMILIES)], FULL, draw)
        budget = budget_by_rank(drawn, draw)
        expected = ESTIMATES[estimate](drawn, budget)
        tried = assert_proven(Search(FULL, budget, expected=expected), drawn)
        assert len(tried) <= 20


LINEAR = Surface(FULL, {c: 1000 + c.capacity for c in FULL.configurations})


@pytest.mark.parametrize("factor", [0.4, 0.8, 1.25, 10.0])
def test_one_pass_corrects_what_training_is_estimated_to_add(factor: float) -> None:
    search = Search(FULL, 9000, expected=lambda c: Expected(1000, 1000 + int(c.capacity * factor)))
    assert search.propose([LINEAR.trial(sized(2, 64, 16), 9000)]) == LINEAR.best(9000)


def test_one_pass_corrects_an_overestimated_resident_memory() -> None:
    search = Search(FULL, 9000, expected=lambda c: Expected(4000, 4 * LINEAR.needed[c]))
    assert search.propose([LINEAR.trial(FULL.smallest, 9000)]) == LINEAR.best(9000)


def test_the_estimate_is_raised_until_a_trial_passes() -> None:
    search = Search(FULL, 9000, expected=lambda c: Expected(1000, LINEAR.needed[c]))
    cautious = LINEAR.best(1000 + round(8000 / 1.1))
    assert search.propose([]) == cautious
    assert cautious is not None
    assert cautious != LINEAR.best(9000)
    assert search.propose([LINEAR.trial(cautious, 9000)]) == LINEAR.best(9000)


def test_a_crash_does_not_correct_the_estimate() -> None:
    search = Search(FULL, 9000, expected=lambda c: Expected(1000, LINEAR.needed[c]))
    passed = LINEAR.trial(sized(2, 64, 16), 9000)
    crashed = Tried(sized(6, 32, 8), fits=False, too_large=False)
    left = [c for c in FULL.configurations if not covers(c, crashed.configuration)]
    inside = Surface(FULL, {c: LINEAR.needed[c] for c in left})
    assert search.propose([passed, crashed]) == inside.best(9000)


def test_the_middle_is_tried_without_an_estimate() -> None:
    search = Search(make_grid(range(1, 18), [8], [8]), 100)

    def tried(batch: int, needed: int | None) -> Tried:
        return Tried(sized(batch, 8, 8), needed is not None, needed)

    assert search.propose([]) == sized(9, 8, 8)
    assert search.propose([tried(9, None)]) == sized(5, 8, 8)
    assert search.propose([tried(9, 95)]) == sized(13, 8, 8)
    assert search.propose([tried(9, 95), tried(13, None)]) == sized(11, 8, 8)
    assert search.propose([tried(9, 10)]) == sized(17, 8, 8), "however it grows, all of it fits"


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_the_search_ends_for_any_outcomes(estimate: str) -> None:
    """That includes contradicting trials and absurd estimates."""
    for seed in range(60):
        draw, drawn, budget = seeded(seed)
        search = Search(drawn.grid, budget, expected=ESTIMATES[estimate](drawn, budget))
        answer = partial(anything, draw, budget)
        some = draw.sample(search.grid.configurations, min(seed % 4, search.grid.size))
        tried = watched(search, answer, [answer(c) for c in some])
        assert certificate_error(search.grid, search.certificate(tried), tried) is None


def anything(draw: random.Random, budget: int, configuration: Configuration) -> Tried:
    """Return a random outcome."""
    needed = draw.choice([0, 1, budget // 10, budget, 1000 * budget])
    fits, too_large = draw.random() < 0.6, draw.random() < 0.5
    known = fits or draw.random() < 0.3
    return Tried(configuration, fits, needed if known else None, too_large=too_large)


def test_the_smallest_is_tried_first_if_nothing_should_fit() -> None:
    search = Search(FULL, 100, expected=lambda c: Expected(200, 200 + c.capacity))
    least = FULL.smallest
    assert search.propose([]) == least
    assert search.propose([Tried(least, fits=False)]) is None


def test_one_trial_is_enough_if_everything_fits() -> None:
    search = Search(FULL, 2**40, expected=lambda c: Expected(2**20, 2**20 + c.capacity))
    assert search.propose([]) == FULL.largest
    assert search.propose([Tried(FULL.largest, True, 2**21)]) is None


@pytest.mark.parametrize("estimate", ["none", "exact", "3 times too high"])
def test_noise_never_invalidates_the_certificate(estimate: str) -> None:
    """With noise in each trial, fit is not monotone."""
    for seed in range(60):
        draw, smooth, budget = seeded(seed)
        seen = {c: int(n * (1 + draw.uniform(-0.03, 0.03))) for c, n in smooth.needed.items()}
        measured = Surface(smooth.grid, seen)
        search = Search(smooth.grid, budget, expected=ESTIMATES[estimate](smooth, budget))
        tried = watched(search, partial(measured.trial, budget_bytes=budget))
        assert certificate_error(search.grid, search.certificate(tried), tried) is None


@pytest.mark.parametrize("estimate", ["none", "exact", "100 times too low"])
def test_trials_outside_the_grid_are_used_but_never_the_optimum(estimate: str) -> None:
    for seed in range(60):
        draw, drawn, budget = seeded(seed)
        whole = drawn.grid
        axes = (whole.batch_sizes, whole.lora_ranks, whole.lora_layers)
        grid = make_grid(*(draw.sample(axis, draw.randint(1, len(axis))) for axis in axes))
        others = [c for c in whole.configurations if c not in grid.configurations]
        told = [drawn.trial(c, budget) for c in draw.sample(others, min(len(others), seed % 5))]
        search = Search(grid, budget, expected=ESTIMATES[estimate](drawn, budget))
        tried = watched(search, partial(drawn.trial, budget_bytes=budget), told)
        certificate = search.certificate(tried)
        assert certificate_error(grid, certificate, tried) is None
        inside = Surface(grid, {c: drawn.needed[c] for c in grid.configurations})
        assert certificate.optimum == inside.best(budget)


def test_a_failure_below_the_grid_proves_that_nothing_fits() -> None:
    search, failed = Search(QUICK, 100), sized(1, 8, 8)
    tried = [Tried(failed, fits=False)]
    assert search.propose(tried) is None
    certificate = search.certificate(tried)
    assert (certificate.optimum, certificate.failures) == (None, (failed,))


def test_a_pass_above_the_grid_still_requires_measuring_the_largest() -> None:
    search, passed = Search(QUICK, 100), Tried(sized(16, 256, 48), True, 90)
    assert search.optimum([passed]) is None
    assert search.propose([passed]) == QUICK.largest
    assert search.propose([passed, Tried(QUICK.largest, True, 80)]) is None


@pytest.mark.parametrize("estimate", ["none", "exact", "100 times too high"])
def test_a_failure_within_the_budget_counts_as_a_failure(estimate: str) -> None:
    """A trial may run out of memory after its needed memory was measured."""
    for seed in range(60):
        draw, drawn, budget = seeded(seed)

        def trial(
            configuration: Configuration,
            drawn: Surface = drawn,
            budget: int = budget,
            draw: random.Random = draw,
        ) -> Tried:
            tried = drawn.trial(configuration, budget)
            if tried.fits:
                return tried
            return Tried(configuration, fits=False, needed_bytes=draw.randint(1, budget))

        search = Search(drawn.grid, budget, expected=ESTIMATES[estimate](drawn, budget))
        assert_proven(search, drawn, trial)


@pytest.mark.parametrize("share", [0.6, 0.8, 0.95])
def test_few_failures_are_enough_if_the_memory_is_below_the_budget(share: float) -> None:
    """Each failed trial needs less than the budget, but more than the actual memory."""
    for seed in range(2 * len(FAMILIES)):
        draw = random.Random(seed)
        drawn = surface(list(FAMILIES)[seed % len(FAMILIES)], FULL, draw)
        budget = budget_by_value(drawn, draw)
        available = int(budget * share)

        def trial(
            configuration: Configuration,
            drawn: Surface = drawn,
            budget: int = budget,
            available: int = available,
        ) -> Tried:
            needed = drawn.needed[configuration]
            return Tried(configuration, needed <= available, needed if needed <= budget else None)

        search = Search(FULL, budget)
        tried = watched(search, trial)
        certificate = search.certificate(tried)
        assert certificate_error(FULL, certificate, tried) is None
        assert certificate.optimum == drawn.best(available)
        assert len(tried) <= 24


def random_speeds(
    grid: Grid, draw: random.Random, digits: int | None
) -> dict[Configuration, float]:
    """Return random tokens per second for each batch size, decreasing with rank and layers.

    If they are rounded, many are equal.
    """
    speed = {batch: draw.uniform(50, 100) for batch in grid.batch_sizes}
    by_rank, by_layers = draw.uniform(0.001, 0.01), draw.uniform(0.001, 0.05)
    exact = {
        c: speed[c.batch_size] / (1 + by_rank * c.lora_rank + by_layers * c.lora_layers)
        for c in grid.configurations
    }
    return exact if digits is None else {c: round(tps, digits) for c, tps in exact.items()}


@pytest.mark.parametrize("digits", [None, -1])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_fastest_that_fits(family: str, digits: int | None) -> None:
    for seed in range(8 * len(BUDGETS)):
        draw = random.Random(seed)
        drawn = surface(family, random_grid(draw), draw)
        grid, budget = drawn.grid, BUDGETS[seed % len(BUDGETS)](drawn, draw)
        speeds = random_speeds(grid, draw, digits)
        search = Search(grid, budget, Objective.TOKENS)
        tried = watched_for_speed(search, drawn, speeds)
        found, fitting = search.optimum(tried), [c for c, n in drawn.needed.items() if n <= budget]
        assert_settled(grid, tried)
        assert search.certificate(tried).unsettled == ()
        assert (found is None) == (not fitting)
        if found is not None:
            best = max(fitting, key=lambda c: (speeds[c], preference(c)))
            assert speeds[found.configuration] == speeds[best]
            assert digits is not None or found.configuration == best
        if len(fitting) == len(grid.configurations):
            assert len(tried) <= len(grid.batch_sizes)


def watched_for_speed(
    search: Search, drawn: Surface, speeds: dict[Configuration, float]
) -> list[Tried]:
    def trial(configuration: Configuration) -> Tried:
        tried = drawn.trial(configuration, search.budget_bytes)
        speed = speeds[configuration] if tried.fits else None
        return Tried(configuration, tried.fits, tried.needed_bytes, speed)

    return watched(search, trial)


def assert_settled(grid: Grid, tried: Sequence[Tried]) -> None:
    """Check that each failed, covers a failure, or covers a pass with the same batch size."""
    for c in grid.configurations:
        assert any(
            covers(c, t.configuration)
            and (not t.fits or t.configuration.batch_size == c.batch_size)
            for t in tried
        )


def test_of_equally_fast_configurations_the_larger_capacity_wins() -> None:
    search = Search(QUICK, 100, Objective.TOKENS)
    small, large = sized(2, 64, 16), sized(8, 64, 16)
    tried = [Tried(c, True, 50, 10.0) for c in (small, large, sized(4, 64, 16))]
    best = search.optimum(tried)
    assert best is not None
    assert best.configuration == large


def test_an_exhaustive_search_tries_the_whole_grid_in_order() -> None:
    for seed in range(60):
        _, drawn, budget = seeded(seed)
        exhaustive = Search(drawn.grid, budget, exhaustive=True)
        tried = solve(exhaustive, partial(drawn.trial, budget_bytes=budget))
        assert [t.configuration for t in tried] == sorted(drawn.grid.configurations, key=preference)
        certificate = exhaustive.certificate(tried)
        assert certificate_error(drawn.grid, certificate, tried) is None
        search = Search(drawn.grid, budget)
        found = search.optimum(assert_proven(search, drawn))
        assert (found and found.configuration) == certificate.optimum


def test_a_resumed_search_makes_the_same_proposals() -> None:
    """A search has no state: the proposals depend only on the trials, in any order."""
    draw = random.Random(0)
    drawn = surface("rough", QUICK, draw)
    search = Search(QUICK, budget_by_rank(drawn, draw))
    tried: list[Tried] = []
    while (proposed := search.propose(tried)) is not None:
        assert Search(QUICK, search.budget_bytes).propose(tried) == proposed
        tried.append(drawn.trial(proposed, search.budget_bytes))
    assert search.propose(tried[::-1]) is None
    assert search.certificate(tried[::-1]) == search.certificate(tried)


def test_an_incomplete_certificate_lists_what_is_missing() -> None:
    search, small = Search(QUICK, 100), QUICK.smallest
    certificate = search.certificate([Tried(small, True, 50)])
    assert (certificate.optimum, certificate.failures) == (small, ())
    assert set(certificate.unsettled) == {*QUICK.configurations} - {small}
    assert search.certificate([]).unsettled == tuple(sorted(QUICK.configurations, key=preference))


LENGTHS = tuple(range(256, 8192 + 1, 256))
LONG = Axes(seq_lengths=LENGTHS).around(Configuration(), sys.maxsize)
MAP = Axes((1, 2, 4), seq_lengths=LENGTHS[1::2], grad_checkpoints=(True, False)).around(
    Configuration(), sys.maxsize
)
BOTH = pytest.mark.parametrize("is_estimated", [True, False])


def by_lengths(
    grid: Grid, objective: Objective, seed: int, *, is_estimated: bool
) -> tuple[Search, Surface]:
    """Return a search of a surface that grows with the length; the estimate is off by 15 %."""
    draw = random.Random(seed)
    drawn, expected = length_surface(grid, 0.15, draw)
    budget = BUDGETS[seed % len(BUDGETS)](drawn, draw)
    known = expected if is_estimated else None
    return Search(grid, budget, objective, known, error=0.15), drawn


def recorded(search: Search, drawn: Surface) -> list[Tried]:
    return watched(search, partial(drawn.trial, budget_bytes=search.budget_bytes))


@BOTH
def test_the_longest_sequence_is_found_and_proven(is_estimated: bool) -> None:
    counts = []
    for seed in range(60):
        search, drawn = by_lengths(LONG, Objective.LENGTH, seed, is_estimated=is_estimated)
        tried = recorded(search, drawn)
        certificate = search.certificate(tried)
        assert certificate_error(LONG, certificate, tried, by_length) is None
        assert certificate.optimum == drawn.best(search.budget_bytes, by_length)
        counts.append(len(tried))
    assert median(counts) <= (4 if is_estimated else 9)


@BOTH
def test_a_map_implies_exactly_what_fits(is_estimated: bool) -> None:
    counts = []
    for seed in range(40):
        search, drawn = by_lengths(MAP, Objective.CEILING, seed, is_estimated=is_estimated)
        tried = recorded(search, drawn)
        assert map_error(MAP, tried, drawn.fitting(search.budget_bytes)) is None
        assert search.certificate(tried).unsettled == ()
        counts.append(len(tried))
    assert median(counts) <= (14 if is_estimated else 24)


def test_quantizations_and_checkpointing_are_searched_with_the_sizes() -> None:
    axes = Axes((1, 4), (8,), (2, 4), (16, 64), grad_checkpoints=(True, False))
    grid = axes.around(Configuration(), sys.maxsize, [named("4"), Quantization()])
    for seed in range(60):
        draw = random.Random(seed)
        drawn = surface("rough", grid, draw)
        budget = budget_by_rank(drawn, draw)
        assert_proven(Search(grid, budget), drawn)


@pytest.mark.parametrize("grid", [LONG, MAP])
def test_without_an_estimate_no_trial_is_twice_as_long_as_what_passed(grid: Grid) -> None:
    objective = Objective.LENGTH if grid is LONG else Objective.CEILING
    for seed in range(30):
        search, drawn = by_lengths(grid, objective, seed, is_estimated=False)
        tried = recorded(search, drawn)
        assert tried[0].configuration.seq_length == grid.seq_lengths[0]
        for number, each in enumerate(tried):
            c = each.configuration
            passed = [t.configuration for t in tried[:number] if t.fits]
            assert c.seq_length == grid.seq_lengths[0] or any(
                c.seq_length <= 2 * p.seq_length
                and c.batch_size * c.seq_length <= 2 * p.batch_size * p.seq_length
                and p.grad_checkpoint <= c.grad_checkpoint
                for p in passed
            )


def test_an_uncertain_estimate_is_approached_from_below() -> None:
    def about(c: Configuration) -> Expected:
        return Expected(1000, 1000 + c.seq_length)

    for error, first in ((0.0, 4096), (0.15, 3584), (0.3, 3072)):
        search = Search(LONG, 1000 + 4096, Objective.LENGTH, about, error=error)
        proposed = search.propose([])
        assert proposed is not None
        assert proposed.seq_length <= 4096 / (1 + error) < proposed.seq_length + 256
        assert proposed.seq_length <= first


def test_a_kind_without_an_estimate_is_approached_carefully() -> None:
    """On Metal there is no estimate without gradient checkpointing."""

    def about(c: Configuration) -> Expected | None:
        return Expected(1000, 1000 + c.seq_length) if c.grad_checkpoint else None

    grid = Axes(seq_lengths=LENGTHS, grad_checkpoints=(True, False)).around(Configuration(), 1)
    search = Search(grid, 1000 + 8192, Objective.CEILING, about)
    tried: list[Tried] = []
    while (proposed := search.propose(tried)) is not None:
        fits = proposed.grad_checkpoint or proposed.seq_length <= 2048
        tried.append(Tried(proposed, fits, 1000 + proposed.seq_length if fits else None))
    stored = [t.configuration.seq_length for t in tried if not t.configuration.grad_checkpoint]
    assert stored[0] == 256
    assert max(stored) <= 4096


def test_a_search_for_the_length_without_an_estimate_wastes_no_trials() -> None:
    counts = []
    for seed in range(30):
        search, drawn = by_lengths(MAP, Objective.LENGTH, seed, is_estimated=False)
        tried = recorded(search, drawn)
        certificate = search.certificate(tried)
        assert certificate_error(MAP, certificate, tried, by_length) is None
        assert certificate.optimum == drawn.best(search.budget_bytes, by_length)
        counts.append(len(tried))
    assert max(counts) <= 24


def test_a_failure_without_memory_as_its_cause_leaves_other_quantizations() -> None:
    grid = Axes(seq_lengths=(256, 512, 1024)).around(
        Configuration(quantization_bits=4), 1, [named("4"), Quantization()]
    )
    search = Search(grid, 100, Objective.LENGTH)
    quantized = replace(grid.base, seq_length=1024)
    plain = replace(quantized, quantization_bits=None)
    unsettled = {
        too_large: search.certificate([Tried(quantized, False, too_large=too_large)]).unsettled
        for too_large in (True, False)
    }
    assert plain in unsettled[False]
    assert plain not in unsettled[True]
    assert quantized not in unsettled[False]


def test_the_certificate_names_the_failure_that_rules_out_each_quantization() -> None:
    grid = Axes(seq_lengths=(256, 512, 1024)).around(
        Configuration(quantization_bits=4), 1, [named("4"), Quantization()]
    )
    quantized = replace(grid.base, seq_length=1024)
    plain = replace(quantized, quantization_bits=None)
    passed = Tried(replace(plain, seq_length=512), True, 50)
    tried = [passed, Tried(quantized, False, too_large=False), Tried(plain, False)]
    certificate = Search(grid, 100, Objective.LENGTH).certificate(tried)
    assert certificate.failures == (quantized, plain)
    assert certificate.unsettled == ()
