"""Macs as users describe them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from your_ai.errors import UsageError
from your_ai.recommend.macs import Mac, find


@pytest.mark.parametrize(
    "text",
    [
        "M4 Pro, 24 GB",
        "Apple M4 Pro 24GB",
        "m4pro 24gb",
        "24 GiB, m4 pro",
        "M4-Pro/24",
        "M4PRO24G",
        "MacBook Pro with M4 Pro (24 GB)",
        "Mac mini, Apple M4 Pro chip, 24.0 GB unified memory",
        "  m4   PRO\t24  ",
    ],
)
def test_a_mac_is_found_however_it_is_written(text: str) -> None:
    assert find(text) == Mac("M4 Pro", 24)


@pytest.mark.parametrize(
    ("text", "mac"),
    [
        ("MacBook Pro M4 16 GB", Mac("M4", 16)),
        ("Mac Pro, M2 Ultra, 192 GB", Mac("M2 Ultra", 192)),
        ("m3 ultra 512", Mac("M3 Ultra", 512)),
        ("MacBook Neo, A18 Pro", Mac("A18 Pro", 8)),
    ],
)
def test_the_name_of_a_mac_is_not_part_of_its_chip(text: str, mac: Mac) -> None:
    assert find(text) == mac


def error(text: str) -> str:
    with pytest.raises(UsageError) as raised:
        find(text)
    return str(raised.value)


def test_an_unknown_size_lists_those_that_were_sold() -> None:
    assert error("M4 Pro, 32 GB") == (
        "The M4 Pro was sold with 24, 48 or 64 GB, not with 32 GB. For another size, use "
        "--memory 32 --backend metal."
    )
    assert error("A18 Pro 16 GB").startswith("The A18 Pro was sold with 8 GB, not with 16 GB.")


def test_a_missing_size_is_asked_for() -> None:
    assert error("m1") == (
        'The M1 was sold with 8 or 16 GB. Choose one, for example --machine "M1, 8 GB".'
    )


@pytest.mark.parametrize("text", ["M4 Ultra, 256 GB", "M99 16 GB"])
def test_an_unknown_chip_lists_those_that_exist(text: str) -> None:
    assert error(text).startswith("No Mac has been sold with an M")
    assert "Chips: M1, M1 Pro, M1 Max, M1 Ultra, M2, " in error(text)


@pytest.mark.parametrize(
    "text",
    ["", "24 GB", "RTX 4090, 24 GB", "M4 Pro Max 24 GB", "M4 Pro, 24 GB, 512 GB", "M4 Pro, -x GB"],
)
def test_other_texts_get_an_example(text: str) -> None:
    assert error(text).startswith(f'{text!r} is not a chip and a memory size such as "M4 Pro, ')


@given(st.text() | st.from_regex(r"(m[0-9]+|apple|pro|max|gb|[0-9]+|[ ,.])*", fullmatch=True))
def test_any_text_is_a_mac_or_an_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert find(text).memory_gb >= 8
