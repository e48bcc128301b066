"""Tables with aligned columns, as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from your_ai.terminal.output import printable, wrap, wrap_parts

_MISSING = "–"
_UNLIMITED = 10_000
_INDENT = "    "

Row = Sequence[str | None]
"""One cell per column; ``None`` for a missing value."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column. ``sentence`` shows a cell outside a table, such as ``needed {}``."""

    head: str
    sentence: str = "{}"
    is_number: bool = False


def table(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> str:
    """A table for a terminal of this ``width``; ``None`` means unlimited.

    If the table is too wide, columns with the same text in every row are shown above it. If it is
    still too wide, each row becomes a paragraph.
    """
    drawn = _drawn(columns, rows)
    if width is None or _fits(drawn, width):
        return "\n".join(drawn)
    shared, columns, rows = _without_shared(columns, rows)
    drawn = _drawn(columns, rows)
    if not _fits(drawn, width):
        drawn = [line for row in rows for line in _paragraph(columns, row, width)]
    above = [wrap(printable(text), width) for text in shared]
    return "\n".join([*above, *drawn])


def _drawn(columns: Sequence[Column], rows: Sequence[Row]) -> list[str]:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for column in columns:
        grid.add_column(justify="right" if column.is_number else "left", no_wrap=True)
    for row in ([column.head for column in columns], *rows):
        grid.add_row(*(Text(printable(cell or _MISSING)) for cell in row))
    output = StringIO()
    Console(file=output, width=_UNLIMITED, color_system=None).print(grid)
    return [line.rstrip() for line in output.getvalue().rstrip().split("\n")]


def _fits(lines: Sequence[str], width: int) -> bool:
    return max(map(cell_len, lines)) <= width


def _without_shared(
    columns: Sequence[Column], rows: Sequence[Row]
) -> tuple[list[str], list[Column], list[Row]]:
    """The texts that all rows share, and the columns and rows without them."""
    shared = [
        index
        for index, column in enumerate(columns)
        if index
        and not column.is_number
        and len(rows) > 1
        and len({row[index] for row in rows}) == 1
    ]
    kept = [index for index in range(len(columns)) if index not in shared]
    texts = [f"{columns[index].head}: {rows[0][index]}" for index in shared if rows[0][index]]
    return texts, [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _paragraph(columns: Sequence[Column], row: Row, width: int) -> list[str]:
    name, *cells = zip(columns, row, strict=True)
    parts = [printable(column.sentence.format(cell)) for column, cell in cells if cell]
    below = wrap_parts(parts, width - len(_INDENT))
    head = name[0].sentence.format(name[1] or _MISSING)
    return [printable(head), *(_INDENT + line for line in below)]
