"""The sizes in tables of memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.protocol.memory import SEQ_LENGTHS, lengths_around


@given(st.integers(1, 10**6))
def test_the_length_that_is_asked_for_is_near_the_second_of_three(seq_length: int) -> None:
    lengths = lengths_around(seq_length)
    assert len(lengths) == 3
    first = SEQ_LENGTHS.index(lengths[0])
    assert SEQ_LENGTHS[first : first + 3] == lengths
    if SEQ_LENGTHS[0] <= seq_length <= SEQ_LENGTHS[-1]:
        assert lengths[0] <= seq_length <= lengths[-1]
    distances = [abs(math.log(length / seq_length)) for length in SEQ_LENGTHS[1:-1]]
    assert abs(math.log(lengths[1] / seq_length)) == min(distances)


@pytest.mark.parametrize("seq_length", SEQ_LENGTHS[1:-1])
def test_a_length_of_the_tables_is_between_its_neighbors(seq_length: int) -> None:
    assert lengths_around(seq_length)[1] == seq_length
