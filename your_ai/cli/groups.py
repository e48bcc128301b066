"""Options in groups, and commands whose help lists each group under its heading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.types import OptionHelpExtra

_MAX_COLUMNS = 30
"""Width of the column with the options' names; longer names get a line of their own."""


class Option(click.Option):
    """A click option that shows its default in the help, but not its range.

    An error shows the range. ``fallback`` is shown as the default of an option whose value is
    ``None`` if it is not given, because a suite can have another default.
    """

    def __init__(self, names: Sequence[str], *, fallback: object = None, **attributes: Any) -> None:
        super().__init__(names, **{"show_default": True, **attributes})
        self._fallback = fallback

    def get_help_extra(self, ctx: click.Context) -> OptionHelpExtra:
        """What the help shows behind the description."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        default = self.default if self._fallback is None else self._fallback
        if isinstance(default, float):
            extra["default"] = f"{default:g}"
        elif self._fallback is not None:
            extra["default"] = str(default)
        return extra


def option(
    names: str,
    kind: Any,
    text: str,
    default: object = None,
    *,
    computed: str | None = None,
    **more: Any,
) -> Option:
    """An option with these names, separated by spaces.

    ``computed`` describes a default that depends on the model, the results or the machine.
    """
    shown = True if computed is None else computed
    return Option(names.split(), type=kind, help=text, default=default, show_default=shown, **more)


def flag(name: str, text: str) -> Option:
    """An option without a value."""
    return Option([name], is_flag=True, help=text)


@dataclass(frozen=True, slots=True)
class Group:
    """Options that the help lists under one heading."""

    heading: str
    options: tuple[Option, ...]


class GroupedCommand(click.Command):
    """A command with groups of options; groups with the same heading are listed together."""

    def __init__(
        self,
        name: str | None,
        *,
        groups: Sequence[Group],
        params: list[click.Parameter],
        **attributes: Any,
    ) -> None:
        options = [option for group in groups for option in group.options]
        super().__init__(name, params=[*params, *options], **attributes)
        self._groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those without a group last."""
        headings: dict[click.Parameter, str] = {
            option: group.heading for group in self._groups for option in group.options
        }
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                sections.setdefault(headings.get(parameter, "Other"), []).append(record)
        names = [name for rows in sections.values() for name, _ in rows]
        width = min(max(map(len, names)), _MAX_COLUMNS)
        for heading, rows in sections.items():
            with formatter.section(heading):
                # Padded, so that the descriptions of all sections are aligned.
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])
