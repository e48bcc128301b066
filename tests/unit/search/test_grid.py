"""The grid: its configurations, their order on each axis, and what they cover."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.protocol.configuration import Configuration
from your_ai.models.quantization import Quantization, named
from your_ai.search.grid import FULL, QUICK, Axes, Grid, lengths_up_to, middle_length
from your_ai.search.search import Objective, Search

SIZES = st.integers(1, 8)
CONFIGURATIONS = st.builds(
    Configuration,
    batch_size=SIZES,
    lora_rank=SIZES,
    lora_layers=SIZES,
    seq_length=SIZES,
    quantization_bits=st.sampled_from((4, 8, None)),
    grad_checkpoint=st.booleans(),
)
AXIS = st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple)
BITS = (named("4"), named("8"), Quantization())
ALL = Axes((1,), (1,), (1,), (1,), grad_checkpoints=(True, False)).around(
    Configuration(), sys.maxsize, BITS
)


def full(axes: Axes) -> Grid:
    return axes.around(Configuration(), sys.maxsize)


def preference(configuration: Configuration, objective: Objective) -> tuple[int, ...]:
    return Search(ALL, 1, objective).preference(configuration)


def sized(batch: int, rank: int, layers: int) -> Configuration:
    return Configuration(batch_size=batch, lora_rank=rank, lora_layers=layers)


def test_the_grids_match_the_documentation() -> None:
    assert (full(FULL).size, full(QUICK).size) == (96, 12)
    assert full(FULL).largest == sized(12, 128, 32)
    assert full(QUICK).largest == sized(8, 128, 24)


def test_the_capacity_score() -> None:
    assert sized(8, 128, 32).capacity == 32768


@given(AXIS, AXIS, AXIS, AXIS)
def test_a_grid_has_every_combination_once(
    batches: tuple[int, ...],
    ranks: tuple[int, ...],
    layers: tuple[int, ...],
    lengths: tuple[int, ...],
) -> None:
    grid = Axes(batches, ranks, layers, lengths, grad_checkpoints=(False, True)).around(
        Configuration(), sys.maxsize, BITS
    )
    expected = {
        Configuration(
            batch_size=b,
            lora_rank=r,
            lora_layers=n,
            seq_length=tokens,
            quantization_bits=bits,
            grad_checkpoint=checkpoint,
        )
        for b, r, n, tokens, bits, checkpoint in product(
            batches, ranks, layers, lengths, (4, 8, None), (True, False)
        )
    }
    assert {*grid.configurations} == expected
    assert len(grid.configurations) == len(expected) == grid.size
    assert all(grid.covers(grid.largest, c) and grid.covers(c, grid.smallest) for c in expected)
    assert (grid.smallest.quantization_bits, grid.smallest.grad_checkpoint) == (4, True)
    assert (grid.largest.quantization_bits, grid.largest.grad_checkpoint) == (None, False)
    assert grid.axes.quantizations == ("4", "8", "none")
    assert grid.axes.grad_checkpoints == (True, False)


def test_axes_are_sorted_and_deduplicated() -> None:
    grid = full(Axes((4, 2, 2, 8), (128, 64), (24, 16, 24)))
    assert grid == full(QUICK)
    assert hash(grid) == hash(full(QUICK))
    assert (grid.batch_sizes, grid.lora_ranks, grid.lora_layers) == ((2, 4, 8), (64, 128), (16, 24))


def test_an_axis_without_values_is_not_varied() -> None:
    base = Configuration(batch_size=3, lora_rank=7, seq_length=77, quantization_bits=4)
    grid = Axes(seq_lengths=(16, 32)).around(base, 99)
    assert grid.configurations == tuple(replace(base, seq_length=n) for n in (16, 32))
    assert grid.axes.varied == ("seq_lengths",)


def test_full_fine_tuning_has_no_ranks() -> None:
    grid = FULL.around(Configuration(lora_rank=0), 16)
    assert grid.lora_ranks == (0,)


@pytest.mark.parametrize("objective", list(Objective))
@given(CONFIGURATIONS, CONFIGURATIONS)
def test_of_two_configurations_exactly_one_is_preferred(
    objective: Objective, one: Configuration, other: Configuration
) -> None:
    """Preference is a strict total order; transitivity follows from comparing tuples."""
    assert (preference(one, objective) == preference(other, objective)) == (one == other)


@given(CONFIGURATIONS, CONFIGURATIONS)
def test_larger_capacity_and_covering_configurations_are_preferred(
    one: Configuration, other: Configuration
) -> None:
    ours, theirs = (preference(c, Objective.CAPACITY) for c in (one, other))
    if one.capacity > other.capacity or (ALL.covers(one, other) and one != other):
        assert ours > theirs


@given(CONFIGURATIONS, CONFIGURATIONS)
def test_longer_sequences_are_preferred_if_the_length_is_searched(
    one: Configuration, other: Configuration
) -> None:
    ours, theirs = (preference(c, Objective.LENGTH) for c in (one, other))
    if one.seq_length > other.seq_length or (ALL.covers(one, other) and one != other):
        assert ours > theirs


def test_of_equal_capacities_more_rank_then_more_layers_is_preferred() -> None:
    equal = [sized(*sizes) for sizes in permutations((2, 4, 8))]
    ordered = sorted(equal, key=lambda c: preference(c, Objective.CAPACITY), reverse=True)
    assert [(c.lora_rank, c.lora_layers) for c in ordered] == [
        (8, 4),
        (8, 2),
        (4, 8),
        (4, 2),
        (2, 8),
        (2, 4),
    ]


def test_ties_go_to_more_bits_and_then_to_stored_activations() -> None:
    ties = [
        replace(Configuration(), quantization_bits=bits, grad_checkpoint=checkpoint)
        for bits in (4, 8, None)
        for checkpoint in (True, False)
    ]
    for objective in (Objective.CAPACITY, Objective.LENGTH):
        assert sorted(ties, key=lambda c: preference(c, objective)) == ties


@given(CONFIGURATIONS, CONFIGURATIONS)
def test_a_configuration_covers_another_if_no_axis_is_smaller(
    one: Configuration, other: Configuration
) -> None:
    bits = [c.quantization_bits or 16 for c in (one, other)]
    pairs = [
        (one.batch_size, other.batch_size),
        (one.lora_rank, other.lora_rank),
        (one.lora_layers, other.lora_layers),
        (one.seq_length, other.seq_length),
        (bits[0], bits[1]),
        (not one.grad_checkpoint, not other.grad_checkpoint),
    ]
    assert ALL.covers(one, other) == (not any(ours < theirs for ours, theirs in pairs))
    assert (ALL.covers(one, other) and ALL.covers(other, one)) == (one == other)


@given(AXIS, AXIS, st.data())
def test_counting_what_covers_each_configuration(
    batches: tuple[int, ...], lengths: tuple[int, ...], data: st.DataObject
) -> None:
    axes = Axes(batches, seq_lengths=lengths, grad_checkpoints=(True, False))
    grid = axes.around(Configuration(), sys.maxsize, BITS)
    some = set(data.draw(st.lists(st.sampled_from(grid.configurations), max_size=9)))
    counted = [sum(grid.covers(other, c) for other in some) for c in grid.configurations]
    assert grid.covering(some) == counted


@pytest.mark.parametrize(
    ("layers", "left"),
    [(80, (8, 16, 24, 32)), (32, (8, 16, 24, 32)), (28, (8, 16, 24, 28)), (9, (8, 9)), (4, (4,))],
)
def test_a_model_with_fewer_layers_cuts_the_grid(layers: int, left: tuple[int, ...]) -> None:
    base = Configuration(seq_length=77)
    cut = FULL.around(base, layers)
    assert cut == replace(full(FULL), lora_layers=left, seq_lengths=(77,), base=base)
    assert {configuration.seq_length for configuration in cut.configurations} == {77}


@pytest.mark.parametrize(
    ("longest", "count", "first", "last"),
    [
        (8192, 32, 256, 8192),
        (8000, 31, 256, 7936),
        (131_072, 512, 256, 131_072),
        (1_048_576, 512, 2048, 1_048_576),
        (100, 1, 100, 100),
        (None, 128, 256, 32_768),
    ],
)
def test_lengths_are_multiples_of_256_up_to_the_models_maximum(
    longest: int | None, count: int, first: int, last: int
) -> None:
    lengths = lengths_up_to(longest)
    assert (len(lengths), lengths[0], lengths[-1]) == (count, first, last)


def test_the_middle_of_lengths_is_that_of_their_ratio() -> None:
    assert middle_length((256, 1024, 4096, 16384)) in (1024, 4096)
    assert middle_length(lengths_up_to(131_072)) == 5888
