"""Formatting and parsing sizes, size labels and times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from your_ai.units import GB, now, parameter_label, parameters_of, show_size, to_gb


@pytest.mark.parametrize(
    ("parameters", "label"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1K"),
        (262_720, "263K"),
        (1_777_000, "1.8M"),
        (9_940_000, "9.9M"),
        (9_960_000, "10M"),
        (494_032_768, "494M"),
        (1_543_714_304, "1.5B"),
        (7_248_023_552, "7.2B"),
        (70_553_706_496, "71B"),
        (1_000_000_000_000, "1T"),
    ],
)
def test_a_label_is_the_common_name_of_a_size(parameters: int, label: str) -> None:
    assert parameter_label(parameters) == label


@given(st.integers(1000, 10**14))
def test_a_label_is_close_to_its_number(parameters: int) -> None:
    assert parameters_of(parameter_label(parameters)) == pytest.approx(parameters, rel=0.051)


@given(st.integers(1, 10**14), st.integers(1, 10**14))
def test_labels_sort_like_their_numbers(one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert parameters_of(parameter_label(small)) <= parameters_of(parameter_label(large))


@given(st.integers(1, 999), st.sampled_from("KMBT"))
def test_a_label_survives_a_round_trip(number: int, unit: str) -> None:
    label = f"{number}{unit}"
    assert parameter_label(int(parameters_of(label))) == label


@pytest.mark.parametrize(
    ("label", "parameters"), [("7B", 7e9), ("1.5B", 1.5e9), ("350M", 3.5e8), ("12", 12.0)]
)
def test_a_label_is_parsed(label: str, parameters: float) -> None:
    assert parameters_of(label) == parameters


@pytest.mark.parametrize("label", ["", "B", "7b", "7 B", "7GB", "-7B", "1e9", "1.2.3B", ".", "∞"])
def test_an_invalid_label_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match=r"size label|could not convert"):
        parameters_of(label)


@pytest.mark.parametrize(
    ("nbytes", "shown"),
    [
        (0, "0.0 MB"),
        (2**20, "1.0 MB"),
        (GB - 2**20, "1023.0 MB"),
        (GB, "1.0 GB"),
        (36 * GB, "36.0 GB"),
        (150_754_820_096, "140.4 GB"),
    ],
)
def test_sizes_are_shown_in_binary_units(nbytes: int, shown: str) -> None:
    assert show_size(nbytes) == shown


def test_a_36_gb_mac_has_36_gb() -> None:
    assert to_gb(38_654_705_664) == 36.0


@given(st.integers(0, 2**53))
def test_gigabytes_are_exact(nbytes: int) -> None:
    assert to_gb(nbytes) * GB == nbytes


def test_now_is_utc_to_the_second() -> None:
    time = datetime.strptime(now(), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert timedelta() <= datetime.now(UTC) - time < timedelta(seconds=60)
