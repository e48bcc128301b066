"""The grid: its configurations, their order and their preference."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.protocol.configuration import Configuration
from your_ai.search.grid import FULL, QUICK, make_grid

SIZES = st.integers(1, 8)
CONFIGURATIONS = st.builds(Configuration, batch_size=SIZES, lora_rank=SIZES, lora_layers=SIZES)
AXES = st.lists(st.integers(1, 40), min_size=1, max_size=5)


def sized(batch: int, rank: int, layers: int) -> Configuration:
    return Configuration(batch_size=batch, lora_rank=rank, lora_layers=layers)


def test_the_grids_match_the_documentation() -> None:
    assert (len(FULL.configurations), len(QUICK.configurations)) == (96, 12)
    assert FULL.largest == sized(12, 128, 32)
    assert QUICK.largest == sized(8, 128, 24)


def test_the_capacity_score() -> None:
    assert sized(8, 128, 32).capacity == 32768


@given(AXES, AXES, AXES)
def test_a_grid_has_every_combination_once_and_the_best_last(
    batches: list[int], ranks: list[int], layers: list[int]
) -> None:
    grid = make_grid(batches, ranks, layers)
    expected = {sized(*sizes) for sizes in product(batches, ranks, layers)}
    assert set(grid.configurations) == expected
    assert len(grid.configurations) == len(expected)
    worth = [(c.capacity, c.lora_rank, c.lora_layers) for c in grid.configurations]
    assert worth == sorted(worth)
    assert grid.largest == sized(max(batches), max(ranks), max(layers))
    assert grid.largest == grid.configurations[-1]
    assert all(grid.largest.covers(c) and c.covers(grid.smallest) for c in expected)


def test_axes_are_sorted_and_deduplicated() -> None:
    grid = make_grid((4, 2, 2, 8), (128, 64), (24, 16, 24))
    assert grid == QUICK
    assert hash(grid) == hash(QUICK)
    assert (grid.batch_sizes, grid.lora_ranks, grid.lora_layers) == ((2, 4, 8), (64, 128), (16, 24))


@given(CONFIGURATIONS, CONFIGURATIONS)
def test_of_two_configurations_exactly_one_is_preferred(
    one: Configuration, other: Configuration
) -> None:
    """Preference is a strict total order; transitivity follows from comparing tuples."""
    assert (one.preference == other.preference) == (one == other)


@given(CONFIGURATIONS, CONFIGURATIONS)
def test_larger_capacity_and_covering_configurations_are_preferred(
    one: Configuration, other: Configuration
) -> None:
    if one.capacity > other.capacity or (one.covers(other) and one != other):
        assert one.preference > other.preference


def test_of_equal_capacities_more_rank_then_more_layers_is_preferred() -> None:
    equal = [sized(*sizes) for sizes in permutations((2, 4, 8))]
    ordered = sorted(equal, key=lambda c: c.preference, reverse=True)
    assert [(c.lora_rank, c.lora_layers) for c in ordered] == [
        (8, 4),
        (8, 2),
        (4, 8),
        (4, 2),
        (2, 8),
        (2, 4),
    ]


@given(CONFIGURATIONS, CONFIGURATIONS)
def test_a_configuration_covers_another_if_no_axis_is_smaller(
    one: Configuration, other: Configuration
) -> None:
    pairs = [
        (one.batch_size, other.batch_size),
        (one.lora_rank, other.lora_rank),
        (one.lora_layers, other.lora_layers),
    ]
    assert one.covers(other) == (not any(ours < theirs for ours, theirs in pairs))
    assert (one.covers(other) and other.covers(one)) == (one == other)


@pytest.mark.parametrize(
    ("layers", "left"),
    [(80, (8, 16, 24, 32)), (32, (8, 16, 24, 32)), (28, (8, 16, 24, 28)), (9, (8, 9)), (4, (4,))],
)
def test_a_model_with_fewer_layers_cuts_the_grid(layers: int, left: tuple[int, ...]) -> None:
    base = Configuration(seq_length=77)
    cut = FULL.around(base, layers)
    assert cut == replace(make_grid(FULL.batch_sizes, FULL.lora_ranks, left), base=base)
    assert cut.lora_layers == left
    assert {configuration.seq_length for configuration in cut.configurations} == {77}
