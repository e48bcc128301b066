"""Parameter types of the command line that click does not have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.protocol.configuration import ALL_KEYS, ATTENTION_KEYS

if TYPE_CHECKING:
    _SizesType = click.ParamType[tuple[int, ...]]
    _KeysType = click.ParamType[tuple[str, ...]]
else:
    _SizesType = _KeysType = click.ParamType  # generic only in newer versions of click

FILE = click.Path(path_type=Path, readable=False)
"""A file or folder to read. The code that reads it reports errors."""


class Count(click.IntRange):
    """A whole number in a range, which may leave out zero."""

    name = "integer"

    def __init__(self, least: int, most: int | None = None, *, zero: bool = True) -> None:
        super().__init__(least, most)
        self._zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the number."""
        number: int = super().convert(value, param, ctx)
        if number == 0 and not self._zero:
            self.fail("0 is not a number of layers; -1 means all.", param, ctx)
        return number

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What the help shows for the value."""
        return "N"


class Number(click.FloatRange):
    """A number of 0 or more, in some unit; NaN is rejected.

    ``metavar`` is what the help shows for the value. An error shows ``unit`` and ``example``.
    """

    def __init__(
        self,
        metavar: str,
        unit: str,
        example: str,
        *,
        above_zero: bool = True,
        finite: bool = False,
    ) -> None:
        super().__init__(min=0, min_open=above_zero)
        self.name = metavar
        self._expected = f"a number of {unit} such as {example}"
        self._finite = finite

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse a number; a percent sign after it is ignored."""
        try:
            number = float(str(value).removesuffix("%"))
        except ValueError:
            number = math.nan
        if math.isnan(number) or (self._finite and math.isinf(number)):
            self.fail(f"{value!r} is not {self._expected}.", param, ctx)
        converted: float = super().convert(number, param, ctx)
        return converted


class Keys(_KeysType):
    """``all``, ``attention``, or names of modules separated by commas."""

    name = "NAME,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Parse the names; their order does not matter."""
        if isinstance(value, tuple):
            return value
        names = {part.strip() for part in str(value).split(",")}
        if "" in names or (len(names) > 1 and names & {*ALL_KEYS, *ATTENTION_KEYS}):
            self.fail(
                f"{value!r} is not all, attention, or a list of names such as "
                "self_attn.q_proj,self_attn.v_proj.",
                param,
                ctx,
            )
        return tuple(sorted(names))


class Names(_KeysType):
    """One or more of these names, separated by commas; each once, in the order given."""

    name = "NAME,…"

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Parse the names."""
        if isinstance(value, tuple):
            return value
        names = [part.strip() for part in str(value).split(",")]
        for name in names:
            if name not in self._known:
                self.fail(
                    f"{name!r} is not one of {', '.join(map(repr, self._known))}.", param, ctx
                )
        return tuple(dict.fromkeys(names))


class Sizes(_SizesType):
    """Whole numbers from ``least`` to ``maximum``, separated by commas: one axis of a grid."""

    name = "N,N,…"

    def __init__(self, maximum: int, least: int = 1) -> None:
        self._least = least
        self._maximum = maximum

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Parse the numbers."""
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isascii() and part.isdigit() for part in parts):
            self.fail(
                f"{value!r} is not a list of positive whole numbers such as 1,2,4.", param, ctx
            )
        # int() raises an error for numbers of thousands of digits.
        sizes = tuple(int(part) if len(part) < 10 else 0 for part in parts)
        if not all(self._least <= size <= self._maximum for size in sizes):
            self.fail(
                f"{value!r} contains a number that is not between {self._least} and "
                f"{self._maximum}.",
                param,
                ctx,
            )
        return sizes
