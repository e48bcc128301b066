"""The kinds of value that options take, beyond click's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

FILE = click.Path(path_type=Path, readable=False)
"""A file to read; whether it can be is said where it is read, in the words of all such errors."""


class Gigabytes(click.ParamType[float]):
    """A size in GB of 2^30 bytes: a positive number."""

    name = "GB"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number; fails on what is none, and on 0, negatives, nan and infinity."""
        try:
            size = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of GB; give one such as 24.", param, ctx)
        if not math.isfinite(size) or size <= 0:
            self.fail(f"{value} GB is not a size; give a number above 0.", param, ctx)
        return size


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


class Percent(click.FloatRange):
    """A share in percent: 0 or more, and a number."""

    name = "PCT"

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number, be it with a percent sign; nan, which every comparison passes, is none."""
        value = str(value).removesuffix("%").rstrip()
        share: float = super().convert(value, param, ctx)
        if math.isnan(share):
            self.fail("nan is not a percentage; give a number such as 5.", param, ctx)
        return share


class Seconds(click.FloatRange):
    """A time limit: above 0, and a number, which nan is not though it passes every comparison."""

    name = "S"

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number of seconds; infinity is none at all."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail("nan is not a time; give a number of seconds above 0.", param, ctx)
        return seconds
