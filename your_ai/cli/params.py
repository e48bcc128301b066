"""The kinds of value that options take, beyond click's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

FILE = click.Path(path_type=Path, readable=False)
"""A file to read; the code that reads it reports what is wrong with it."""


class Number(click.FloatRange):
    """A number of some unit, 0 or more. NaN, which every comparison passes, is rejected."""

    def __init__(
        self, name: str, unit: str, example: str, *, above_zero: bool = True, finite: bool = False
    ) -> None:
        super().__init__(min=0, min_open=above_zero)
        self.name = name
        self._wanted = f"a number of {unit} such as {example}"
        self._finite = finite

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number; a percent sign after it is ignored."""
        try:
            number = float(str(value).removesuffix("%"))
        except ValueError:
            number = math.nan
        if math.isnan(number) or (self._finite and math.isinf(number)):
            self.fail(f"{value!r} is not {self._wanted}.", param, ctx)
        converted: float = super().convert(number, param, ctx)
        return converted


class Sizes(click.ParamType[tuple[int, ...]]):
    """Whole numbers above 0, with commas between them: one axis of a grid."""

    name = "N,N,…"

    def __init__(self, most: int) -> None:
        self._most = most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers; fails on anything else."""
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isascii() and part.isdigit() for part in parts):
            self.fail(f"{value!r} is not a list of numbers; give one such as 1,2,4.", param, ctx)
        # Longer ones are too large, and Python refuses to read very long ones at all.
        sizes = tuple(int(part) if len(part) < 10 else 0 for part in parts)
        if not all(1 <= size <= self._most for size in sizes):
            self.fail(f"{value!r} has a number outside 1 to {self._most}.", param, ctx)
        return sizes
