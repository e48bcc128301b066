"""Tables, and what becomes of them where there is no room."""

from __future__ import annotations

import pytest

from your_ai.terminal.tables import table

HEADS = ("Model", "Needed", "Verdict")
ROWS = [("模型", "1.0 MB", "fits"), ("[b]x\x1b[2J", "10.0 MB", None)]
WIDE = """\
Model         Needed  Verdict
模型          1.0 MB  fits
[b]x\\x1b[2J  10.0 MB  –"""
NARROW = """\
模型
    needed 1.0 MB, verdict
    fits
[b]x\\x1b[2J
    needed 10.0 MB"""


@pytest.mark.parametrize(("columns", "lines"), [(None, WIDE), (29, WIDE), (28, NARROW)])
def test_a_table_that_does_not_fit_is_told_in_paragraphs(columns: int | None, lines: str) -> None:
    assert table(HEADS, ROWS, {"Needed"}, columns) == lines
