"""Rows in aligned columns, as plain text."""

from __future__ import annotations

from collections.abc import Sequence, Set
from io import StringIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from your_ai.terminal.output import printable, wrap

_MISSING = "–"
_NO_LIMIT = 10_000

Row = Sequence[str | None]
"""One cell a head; ``None`` where there is nothing to show."""


def table(heads: Sequence[str], rows: Sequence[Row], numbers: Set[str], columns: int | None) -> str:
    """A table, the columns called ``numbers`` aligned to the right.

    Where they do not fit a terminal of so many ``columns``, each row is a short paragraph instead.
    """
    grid = Table.grid(padding=(0, 2, 0, 0))
    for head in heads:
        grid.add_column(justify="right" if head in numbers else "left", no_wrap=True)
    for row in (heads, *rows):
        grid.add_row(*(Text(printable(cell or _MISSING)) for cell in row))
    drawn = StringIO()
    Console(file=drawn, width=_NO_LIMIT, color_system=None).print(grid)
    lines = [line.rstrip() for line in drawn.getvalue().rstrip().split("\n")]
    if columns is None or max(map(cell_len, lines)) <= columns:
        return "\n".join(lines)
    return wrap(printable("\n".join(_paragraph(heads, row) for row in rows)), columns)


def _paragraph(heads: Sequence[str], row: Row) -> str:
    cells = list(zip(heads, row, strict=True))[1:]
    return f"{row[0] or _MISSING}\n    " + ", ".join(
        f"{head.lower()} {cell}" for head, cell in cells if cell
    )
