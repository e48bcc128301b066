"""The belief about what fits: it learns, and no input makes it fail."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from your_ai.search.fit_model import Expected, Measured, chances
from your_ai.search.grid import FULL, QUICK, Configuration, Grid, make_grid

GB = 2**30
SMALLEST, LARGEST = FULL.configurations[0], FULL.largest
MIDDLE = Configuration(6, 64, 16)

Estimate = Callable[[Configuration], Expected]


def linear(configuration: Configuration) -> int:
    """From 5.4 to 23.5 GB on the full grid."""
    c = configuration
    activations = 0.02 * c.batch_size * c.lora_layers
    adapters = 0.001 * c.lora_rank * c.lora_layers
    return int((4 + 0.5 * c.batch_size + adapters + activations) * GB)


def estimate(factor: float) -> Estimate:
    """Off by a factor in all that comes on top of the weights."""
    return lambda c: Expected(4 * GB, int(4 * GB + (linear(c) - 4 * GB) * factor))


def expectations(budget: int) -> dict[str, Estimate | None]:
    """Estimates of every sort for a budget, also such as make no sense."""

    def share(configuration: Configuration, factor: float = 1.0) -> int:
        return int(budget * factor * (0.6 + 0.6 * linear(configuration) / linear(LARGEST)))

    return {
        "none": None,
        "good": lambda c: Expected(budget // 2, share(c)),
        "100 times too high": lambda c: Expected(50 * budget, share(c, 100)),
        "100 times too low": lambda c: Expected(budget // 200, share(c, 0.01)),
        "no training part": lambda c: Expected(share(c), share(c)),
        "less than the weights": lambda c: Expected(2 * budget, share(c)),
        "constant": lambda c: Expected(budget // 2, budget),
        "nothing": lambda c: Expected(0, 0),
        "astronomic": lambda c: Expected(2**60, 2**62),
    }


def trials(grid: Grid, budget: int, draw: random.Random) -> dict[str, list[Measured]]:
    """Trials of every sort, also such as contradict each other."""
    one, other = draw.choice(grid.configurations), draw.choice(grid.configurations)
    needed = [None, 0, 1, budget // 10, int(budget * 0.9), budget, 1000 * budget]
    some = [draw.choice(grid.configurations) for _ in range(30)]
    return {
        "none": [],
        "failures": [Measured(c, None) for c in some],
        "one failure, 30 times": [Measured(one, None)] * 30,
        "one pass, 100 times": [Measured(one, int(budget * 0.9))] * 100,
        "one that passes and fails": [Measured(one, None), Measured(one, budget // 10)] * 15,
        "one that needs now this, now that": [Measured(one, n) for n in needed],
        "the same everywhere": [Measured(c, int(budget * 0.9)) for c in some],
        "less memory for more": [
            Measured(c, budget // (rank + 1)) for rank, c in enumerate(grid.configurations)
        ],
        "the least fails, the largest passes": [
            Measured(grid.configurations[0], None),
            Measured(grid.largest, budget // 2),
        ],
        "anything": [Measured(c, draw.choice(needed)) for c in some],
        "off the grid": [
            Measured(Configuration(500, 1, 900), draw.choice(needed)),
            Measured(other, None),
        ],
    }


@pytest.mark.parametrize("kind", expectations(GB))
@pytest.mark.parametrize("budget", [1, 12345, 8 * GB, 2**45])
def test_whatever_is_told_there_is_a_probability(budget: int, kind: str) -> None:
    grids = [QUICK, make_grid([1], [1], [1]), make_grid([1, 10**6], [1, 8, 9], [1])]
    for seed, grid in enumerate(grids):
        for told in trials(grid, budget, random.Random(seed)).values():
            likely = chances(grid, told, budget, expectations(budget)[kind])
            assert likely.keys() == {*grid.configurations}
            assert all(0 <= chance <= 1 for chance in likely.values())  # nan is not


@pytest.mark.parametrize("kind", ["none", "good", "constant"])
def test_a_pass_makes_likely_and_a_failure_unlikely(kind: str) -> None:
    budget = 12 * GB
    expected = expectations(budget)[kind]
    before = chances(FULL, [], budget, expected)
    passed = chances(FULL, [Measured(MIDDLE, budget // 2)], budget, expected)
    failed = chances(FULL, [Measured(MIDDLE, None)], budget, expected)
    assert passed[MIDDLE] > 0.99
    assert passed[SMALLEST] > 0.95
    assert failed[MIDDLE] < min(0.15, before[MIDDLE])
    assert failed[LARGEST] < min(0.3, before[LARGEST])


def test_what_just_passes_leaves_its_neighbours_open() -> None:
    likely = chances(FULL, [Measured(MIDDLE, linear(MIDDLE))], linear(MIDDLE), estimate(1))
    assert 0.3 < likely[MIDDLE] < 0.7
    assert likely[SMALLEST] > 0.99
    assert likely[LARGEST] < 0.01


@pytest.mark.parametrize("factor", [None, 1.0, 0.5, 2.0])
def test_a_linear_surface_is_learnt_from_a_few_passes(factor: float | None) -> None:
    told = [(2, 32, 8), (12, 32, 8), (2, 128, 8), (2, 32, 32), (6, 96, 16), (10, 64, 16)]
    passes = [Measured(c, linear(c)) for c in (Configuration(*sizes) for sizes in told)]
    budget = 14 * GB
    likely = chances(FULL, passes, budget, estimate(factor) if factor else None)
    assert {linear(c) > budget for c in FULL.configurations} == {True, False}
    for configuration, chance in likely.items():
        if linear(configuration) < 0.9 * budget:
            assert chance > 0.9
        if linear(configuration) > 1.1 * budget:
            assert chance < 0.1


@pytest.mark.parametrize("factor", [1.0, 0.5, 0.1, 0.01])
def test_failures_alone_refute_an_estimate_that_is_too_low(factor: float) -> None:
    budget = 5 * GB
    failures = [Measured(Configuration(4, 32, 8), None), Measured(Configuration(2, 64, 16), None)]
    likely = chances(FULL, failures, budget, estimate(factor))
    for failure in failures:
        assert likely[failure.configuration] < 0.25
    assert likely[LARGEST] < 0.15


@pytest.mark.parametrize("factor", [3.0, 10.0, 100.0])
def test_passes_refute_an_estimate_that_is_too_high(factor: float) -> None:
    budget = 12 * GB
    told = [SMALLEST, Configuration(4, 32, 8), MIDDLE]
    assert chances(FULL, [], budget, estimate(factor))[MIDDLE] < 0.1
    likely = chances(FULL, [Measured(c, linear(c)) for c in told], budget, estimate(factor))
    assert likely[MIDDLE] > 0.9
    assert likely[Configuration(8, 64, 16)] > 0.6


def test_a_failure_far_from_the_estimate_is_not_lost_to_rounding() -> None:
    """Some 40 standard deviations out, where a normal distribution's tail is 0 as a float."""
    told = [Measured(LARGEST, None)]
    assert chances(FULL, [], 100 * GB, estimate(0.01))[LARGEST] > 0.95
    assert chances(FULL, told, 100 * GB, estimate(0.01))[LARGEST] < 0.25
