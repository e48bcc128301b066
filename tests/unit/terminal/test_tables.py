"""Tables, and paragraphs instead of them on narrow terminals."""

from __future__ import annotations

import pytest

from your_ai.terminal.tables import Column, Row, table

COLUMNS = [
    Column("Model"),
    Column("Needed", "needed {}", is_number=True),
    Column("Verdict"),
    Column("Source"),
]
ROWS: list[Row] = [
    ("模型", "1.0 MB", "fits", "measured here"),
    ("[b]x\x1b[2J", "10.0 MB", None, "measured here"),
]
WIDE = """\
Model         Needed  Verdict  Source
模型          1.0 MB  fits     measured here
[b]x\\x1b[2J  10.0 MB  –        measured here"""
SHARED_ABOVE = """\
Source: measured here
Model         Needed  Verdict
模型          1.0 MB  fits
[b]x\\x1b[2J  10.0 MB  –"""
PARAGRAPHS = """\
Source: measured here
模型
    needed 1.0 MB, fits
[b]x\\x1b[2J
    needed 10.0 MB"""
NARROWEST = """\
Source: measured
    here
模型
    needed 1.0 MB,
    fits
[b]x\\x1b[2J
    needed 10.0 MB"""


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (None, WIDE),
        (44, WIDE),
        (43, SHARED_ABOVE),
        (29, SHARED_ABOVE),
        (28, PARAGRAPHS),
        (18, NARROWEST),
    ],
)
def test_a_table_becomes_narrower_in_steps(width: int | None, shown: str) -> None:
    assert table(COLUMNS, ROWS, width) == shown


def test_a_number_that_all_rows_share_stays_in_its_row() -> None:
    rows = [("a", "1.0 MB", "fits", "x" * 40), ("b", "1.0 MB", "fits", "y")]
    assert table(COLUMNS, rows, 30).splitlines()[:3] == ["Verdict: fits", "a", "    needed 1.0 MB,"]
    assert "Verdict: fits" not in table(COLUMNS, rows[:1], 30)


@pytest.mark.parametrize("columns", [-1, 0, 1])
def test_a_very_narrow_terminal_is_no_error(columns: int) -> None:
    assert "measured here" in table(COLUMNS, ROWS, columns).replace("\n    ", " ")
