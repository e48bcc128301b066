"""Batches, and the distribution of lengths that the user is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from your_ai.planning.batches import Batches, batches, padded
from your_ai.planning.distribution import BINS, distribution
from your_ai.planning.duration import Schedule
from your_ai.planning.training_data import training_data

LENGTHS = st.lists(st.integers(0, 500), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("tokens", "most", "expected"),
    [(1, 2048, 33), (32, 2048, 33), (33, 2048, 65), (500, 512, 512), (600, 512, 512)],
)
def test_batches_are_padded_and_cut(tokens: int, most: int, expected: int) -> None:
    assert padded(tokens, most) == expected


def test_batches_are_made_in_order_and_the_rest_is_left_out() -> None:
    assert batches([10, 40, 70, 10, 500], 2, 2048) == Batches(2, ((65, 1), (97, 1)))


def test_typical_lengths_have_the_longest_batch_even_if_it_is_rare() -> None:
    rare = Batches(1, ((33, 500), (65, 500), (2049, 1)))
    assert rare.typical == (33, 65, 2049)
    assert Batches(1, ()).typical == ()


@given(LENGTHS, st.integers(1, 600))
def test_the_distribution_counts_every_sample_and_token(lengths: list[int], most: int) -> None:
    found = distribution(lengths, most)
    assert sum(found.histogram) == found.samples == len(lengths)
    assert len(found.histogram) <= BINS
    assert found.shortest <= found.median <= found.percentile_95 <= found.longest
    kept = sum(min(length, most) for length in lengths)
    assert sum(lengths) - found.cut_tokens == kept


def test_percentiles_are_lengths_of_samples() -> None:
    found = distribution([*range(1, 101)], 98)
    assert (found.median, found.percentile_95, found.cut, found.cut_tokens) == (50, 95, 2, 3)


def test_the_longest_batch_of_any_size_in_question_is_measured() -> None:
    """The last sample fits in no batch of 4, but in one of 1."""
    lengths = [10] * 4 + [300]
    four, both = (
        training_data(
            *("/data", lengths, (), 0.0),
            batch_sizes=sizes,
            max_seq_length=2048,
            schedule=Schedule(),
        )
        for sizes in ((4,), (1, 4))
    )
    assert (four.seq_length, both.seq_length) == (33, 321)
