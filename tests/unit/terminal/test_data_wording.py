"""The lines on the user's data, at several widths."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support import builders
from your_ai.planning.distribution import distribution
from your_ai.runs.expected_training import ExpectedTraining
from your_ai.terminal import data_wording
from your_ai.units import GB

EXPECTED = ExpectedTraining(
    iters=1000,
    batches_per_epoch=250,
    seconds=900.0,
    seconds_at_needed_memory=1200.0,
    validations=6,
    validation_seconds=60.0,
    seconds_per_iteration=0.84,
    peak_memory_bytes=7 * GB,
)
HISTOGRAM = "  ▅▅████████████████████████████"
RESULT = builders.result(
    expected_training=EXPECTED, data_lengths=distribution([*range(100, 1100)], 1024)
)


def test_the_distribution() -> None:
    lengths = distribution([*range(100, 1100)], 1024)
    assert [*data_wording.distribution(lengths, 80)] == [
        "Lengths of 1,000 samples: median 599, 95 % 1,049, longest 1,099 tokens; 75 are cut at "
        "1,024",
        f"    1 {HISTOGRAM} 1,104 tokens",
    ]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_histogram_fits_or_is_left_out(columns: int) -> None:
    for longest in (50, 5_000, 5_000_000):
        lines = [*data_wording.distribution(distribution([1, longest], 2048), columns)]
        assert all(len(line) <= columns for line in lines[1:])


def test_equal_lengths_need_no_histogram() -> None:
    (line,) = data_wording.distribution(distribution([7, 7], 2048), 80)
    assert line == "Lengths of 2 samples: median 7, 95 % 7, longest 7 tokens"


def test_the_expected_time() -> None:
    assert [*data_wording.expectation(RESULT)] == [
        "        1,000 iterations: about 15 min with mlx_lm.lora, peak 7.0 GB, including 1 min for "
        "6 validations",
        "        with `your_ai train`: the same, or about 20 min in 6.0 GB",
    ]


def test_an_assumed_length_is_named() -> None:
    first, *_ = data_wording.expectation(replace(RESULT, data_lengths=None))
    assert "about 15 min with mlx_lm.lora if every sequence has 1,024 tokens, peak" in first


def test_nothing_is_said_without_data() -> None:
    assert [*data_wording.expectation(builders.result())] == []


def test_a_limit_that_costs_nothing_is_not_mentioned() -> None:
    same = replace(EXPECTED, seconds_at_needed_memory=900.0, validations=0)
    (line,) = data_wording.expectation(replace(RESULT, expected_training=same))
    assert line == "        1,000 iterations: about 15 min with mlx_lm.lora, peak 7.0 GB"
