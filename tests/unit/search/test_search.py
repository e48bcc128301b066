"""The search: on every monotone surface its answer is the best and its certificate holds."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import pytest

from your_ai.search.fit_model import Expected
from your_ai.search.grid import FULL, QUICK, Configuration, Grid, make_grid
from your_ai.search.search import Objective, Search, Tried

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))

from surfaces import (
    FAMILIES,
    Surface,
    budget_by_rank,
    budget_by_value,
    covers,
    estimated_surface,
    objection,
    preference,
    solve,
    surface,
)

Estimate = Callable[[Configuration], Expected]

BUDGETS: list[Callable[[Surface, random.Random], int]] = [
    budget_by_value,
    budget_by_rank,
    lambda drawn, draw: draw.choice(list(drawn.needed.values())),
    lambda drawn, draw: min(drawn.needed.values()) - 1,
    lambda drawn, draw: max(drawn.needed.values()),
]
"""In how much memory: anything, exactly what one needs, too little for any, enough for all."""


def scaled(factor: float) -> Callable[[Surface, int], Estimate]:
    """An estimate that has the surface's form, and is off by a factor."""

    def about(drawn: Surface, budget: int) -> Estimate:
        resident = int(min(drawn.needed.values()) * factor * 0.8)
        return lambda c: Expected(resident, int(drawn.needed[c] * factor))

    return about


def falling(drawn: Surface, budget: int) -> Estimate:
    """An estimate by which the largest needs least."""
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


def random_grid(draw: random.Random) -> Grid:
    """One to six values on each axis; seldom many on all of them."""
    counts = [draw.choice((1, 2, 2, 2, 3, 3, 4, 5, 6)) for _ in range(3)]
    ranges = range(1, 17), range(8, 257, 8), range(1, 49)
    return make_grid(*(draw.sample(r, count) for r, count in zip(ranges, counts, strict=True)))


def watched(
    search: Search, trial: Callable[[Configuration], Tried], told: Sequence[Tried] = ()
) -> list[Tried]:
    """Search to the end, and see that each trial could still end either way."""
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
    """Search a monotone surface: the answer is brute force's, and the certificate holds."""
    budget = search.budget_bytes
    tried = watched(search, trial or (lambda c: drawn.trial(c, budget)))
    certificate = search.certificate(tried)
    assert objection(search.grid, certificate, tried) is None
    assert certificate.optimum == drawn.best(budget)
    optimum = search.optimum(tried)
    assert (optimum and optimum.configuration) == certificate.optimum
    return tried


@pytest.mark.parametrize("estimate", ESTIMATES)
@pytest.mark.parametrize("family", FAMILIES)
def test_on_a_monotone_surface_the_answer_is_the_best_and_proven(
    family: str, estimate: str
) -> None:
    for seed in range(40):
        draw = random.Random(seed)
        drawn = surface(family, random_grid(draw), draw)
        budget = BUDGETS[seed % len(BUDGETS)](drawn, draw)
        expected = ESTIMATES[estimate](drawn, budget)
        assert_proven(Search(drawn.grid, budget, expected=expected), drawn)


def test_with_an_estimate_that_is_a_little_off() -> None:
    for seed in range(200):
        draw = random.Random(seed)
        error = draw.choice((0.0, 0.05, 0.15, 0.3))
        drawn, expected = estimated_surface(random_grid(draw), error, draw)
        budget = BUDGETS[seed % len(BUDGETS)](drawn, draw)
        assert_proven(Search(drawn.grid, budget, expected=expected), drawn)


@pytest.mark.parametrize("estimate", ["none", "exact", "100 times too low"])
def test_arbitrary_surfaces_of_two_heights(estimate: str) -> None:
    """All that matters to the answer is where it fits: nothing else is in these."""
    for seed in range(60):
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


def test_a_handful_of_trials_is_enough() -> None:
    """What scripts/bench-search.py measures, with room for other draws."""
    tried = []
    for seed in range(100):
        draw = random.Random(seed)
        drawn = surface(list(FAMILIES)[seed % len(FAMILIES)], FULL, draw)
        tried.append(assert_proven(Search(FULL, budget_by_value(drawn, draw)), drawn))
    assert median(len(trials) for trials in tried) <= 8
    assert median(sum(not t.fits for t in trials) for trials in tried) <= 5
    assert max(len(trials) for trials in tried) <= 24


@pytest.mark.parametrize("estimate", list(ESTIMATES))
def test_a_wrong_estimate_costs_a_few_trials_and_not_dozens(estimate: str) -> None:
    for seed in range(12):
        draw = random.Random(seed)
        drawn = surface(list(FAMILIES)[seed % len(FAMILIES)], FULL, draw)
        budget = budget_by_rank(drawn, draw)
        expected = ESTIMATES[estimate](drawn, budget)
        tried = assert_proven(Search(FULL, budget, expected=expected), drawn)
        assert len(tried) <= 24


def test_where_nothing_is_likely_to_fit_the_least_is_tried_first() -> None:
    search = Search(FULL, 100, expected=lambda c: Expected(200, 200 + c.capacity))
    least = FULL.configurations[0]
    assert search.propose([]) == least
    assert search.propose([Tried(least, fits=False)]) is None


def test_where_all_fits_as_estimated_one_trial_is_enough() -> None:
    search = Search(FULL, 2**40, expected=lambda c: Expected(2**20, 2**20 + c.capacity))
    assert search.propose([]) == FULL.largest
    assert search.propose([Tried(FULL.largest, True, 2**21)]) is None


@pytest.mark.parametrize("estimate", ["none", "exact", "3 times too high"])
def test_noise_may_cost_the_best_answer_and_never_the_certificate(estimate: str) -> None:
    """Each trial's own noise makes fit itself not monotone."""
    for seed in range(100):
        draw = random.Random(seed)
        family = list(FAMILIES)[seed % len(FAMILIES)]
        smooth = surface(family, random_grid(draw), draw)
        seen = {c: int(n * (1 + draw.uniform(-0.03, 0.03))) for c, n in smooth.needed.items()}
        measured = Surface(smooth.grid, seen)
        budget = BUDGETS[seed % len(BUDGETS)](smooth, draw)
        search = Search(smooth.grid, budget, expected=ESTIMATES[estimate](smooth, budget))
        tried = watched(search, lambda c, m=measured, b=budget: m.trial(c, b))  # type: ignore[misc]
        assert objection(search.grid, search.certificate(tried), tried) is None


@pytest.mark.parametrize("estimate", ["none", "exact", "100 times too low"])
def test_trials_outside_of_the_grid_are_used_and_never_the_answer(estimate: str) -> None:
    for seed in range(100):
        draw = random.Random(seed)
        whole = random_grid(draw)
        axes = (whole.batch_sizes, whole.lora_ranks, whole.lora_layers)
        grid = make_grid(*(draw.sample(axis, draw.randint(1, len(axis))) for axis in axes))
        drawn = surface(list(FAMILIES)[seed % len(FAMILIES)], whole, draw)
        budget = BUDGETS[seed % len(BUDGETS)](drawn, draw)
        others = sorted({*whole.configurations} - {*grid.configurations})
        told = [drawn.trial(c, budget) for c in draw.sample(others, min(len(others), seed % 5))]
        search = Search(grid, budget, expected=ESTIMATES[estimate](drawn, budget))
        tried = watched(search, lambda c, d=drawn, b=budget: d.trial(c, b), told)  # type: ignore[misc]
        certificate = search.certificate(tried)
        assert objection(grid, certificate, tried) is None
        inside = Surface(grid, {c: drawn.needed[c] for c in grid.configurations})
        assert certificate.optimum == inside.best(budget)


def test_one_smaller_than_the_grid_that_failed_proves_that_nothing_fits() -> None:
    search, failed = Search(QUICK, 100), Configuration(1, 8, 8)
    tried = [Tried(failed, fits=False)]
    assert search.propose(tried) is None
    certificate = search.certificate(tried)
    assert (certificate.optimum, certificate.failures) == (None, (failed,))


def test_one_larger_than_the_grid_that_passed_leaves_the_largest_to_be_measured() -> None:
    search, passed = Search(QUICK, 100), Tried(Configuration(16, 256, 48), True, 90)
    assert search.optimum([passed]) is None
    assert search.propose([passed]) == QUICK.largest
    assert search.propose([passed, Tried(QUICK.largest, True, 80)]) is None


@pytest.mark.parametrize("estimate", ["none", "exact", "100 times too high"])
def test_a_failure_that_needed_less_than_the_budget_is_a_failure(estimate: str) -> None:
    """It may run out of memory after its needed memory is known."""
    for seed in range(60):
        draw = random.Random(seed)
        drawn = surface(list(FAMILIES)[seed % len(FAMILIES)], random_grid(draw), draw)
        budget = BUDGETS[seed % len(BUDGETS)](drawn, draw)

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
def test_where_there_is_less_memory_than_the_budget_a_few_failures_tell(share: float) -> None:
    """Each of them needs less than the budget, and fails all the same."""
    for seed in range(18):
        draw = random.Random(seed)
        drawn = surface(list(FAMILIES)[seed % len(FAMILIES)], FULL, draw)
        budget = budget_by_value(drawn, draw)
        there_is = int(budget * share)

        def trial(
            configuration: Configuration,
            drawn: Surface = drawn,
            budget: int = budget,
            there_is: int = there_is,
        ) -> Tried:
            needed = drawn.needed[configuration]
            return Tried(configuration, needed <= there_is, needed if needed <= budget else None)

        search = Search(FULL, budget)
        tried = watched(search, trial)
        certificate = search.certificate(tried)
        assert objection(FULL, certificate, tried) is None
        assert certificate.optimum == drawn.best(there_is)
        assert len(tried) <= 24


def random_speeds(
    grid: Grid, draw: random.Random, digits: int | None
) -> dict[Configuration, float]:
    """Tokens a second: any at each batch size, less with more rank or layers.

    Rounded, many are the same.
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
    for seed in range(60):
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
    """Each one failed, covers one that did, or covers one that passed with its batch size."""
    for c in grid.configurations:
        assert any(
            covers(c, t.configuration)
            and (not t.fits or t.configuration.batch_size == c.batch_size)
            for t in tried
        )


def test_of_equally_fast_ones_the_one_of_larger_capacity() -> None:
    search = Search(QUICK, 100, Objective.TOKENS)
    small, large = Configuration(2, 64, 16), Configuration(8, 64, 16)
    tried = [Tried(c, True, 50, 10.0) for c in (small, large, Configuration(4, 64, 16))]
    best = search.optimum(tried)
    assert best is not None
    assert best.configuration == large


def test_an_exhaustive_search_tries_the_whole_grid_once_ascending() -> None:
    for seed in range(60):
        draw = random.Random(seed)
        drawn = surface(list(FAMILIES)[seed % len(FAMILIES)], random_grid(draw), draw)
        budget = BUDGETS[seed % len(BUDGETS)](drawn, draw)
        exhaustive = Search(drawn.grid, budget, exhaustive=True)
        tried = solve(exhaustive, lambda c, d=drawn, b=budget: d.trial(c, b))  # type: ignore[misc]
        assert [t.configuration for t in tried] == sorted(drawn.grid.configurations, key=preference)
        certificate = exhaustive.certificate(tried)
        assert objection(drawn.grid, certificate, tried) is None
        search = Search(drawn.grid, budget)
        found = search.optimum(assert_proven(search, drawn))
        assert (found and found.configuration) == certificate.optimum


def test_a_search_that_goes_on_proposes_what_it_would_have() -> None:
    """It has no memory of its own: the trials say it all, in whichever order they are told."""
    draw = random.Random(0)
    drawn = surface("rough", QUICK, draw)
    search = Search(QUICK, budget_by_rank(drawn, draw))
    tried: list[Tried] = []
    while (proposed := search.propose(tried)) is not None:
        assert Search(QUICK, search.budget_bytes).propose(tried) == proposed
        tried.append(drawn.trial(proposed, search.budget_bytes))
    assert search.propose(tried[::-1]) is None
    assert search.certificate(tried[::-1]) == search.certificate(tried)


def test_before_it_is_proven_the_certificate_says_what_is_missing() -> None:
    search, small = Search(QUICK, 100), QUICK.configurations[0]
    certificate = search.certificate([Tried(small, True, 50)])
    assert (certificate.optimum, certificate.failures) == (small, ())
    assert set(certificate.unsettled) == {*QUICK.configurations} - {small}
    assert search.certificate([]).unsettled == tuple(sorted(QUICK.configurations))
