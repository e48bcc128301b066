"""``your_ai compare``: find regressions between two results files."""

from __future__ import annotations

from pathlib import Path

import click

from your_ai.cli.groups import flag, option
from your_ai.cli.params import FILE, Number
from your_ai.errors import ExitCode
from your_ai.report.compare import compare
from your_ai.runs.results_file import load
from your_ai.terminal.comparison import FORMATS
from your_ai.terminal.output import say

_OPTIONS: list[click.Parameter] = [
    option(
        "--fail-above",
        Number("PERCENT", "percent", "5", above_zero=False),
        "Percentage by which a figure may become worse.",
        5.0,
    ),
    flag(
        "--memory-only",
        "Do not count a lower speed as a regression, for example on a shared machine.",
    ),
    option(
        "--format form",
        click.Choice(list(FORMATS)),
        "Output format; markdown is meant for comments on pull requests.",
        "text",
    ),
]


@click.command(name="compare", params=[*_OPTIONS])
@click.argument("base", type=FILE)
@click.argument("new", type=FILE)
def command(base: Path, new: Path, fail_above: float, *, memory_only: bool, form: str) -> ExitCode:
    """Compare the memory, speed and outcomes in NEW with those in BASE.

    BASE and NEW are results files or run folders.

    Exits with 1 if a trial no longer passes, if a model that passed is missing in NEW, or if memory
    or speed is worse by more than --fail-above and by more than the measurement noise: how much
    they differ between the steps of a trial.
    """
    comparison = compare(load(base), load(new), memory_only=memory_only)
    say(FORMATS[form](comparison, fail_above / 100), wrapped=form == "text")
    worse = comparison.has_regression(fail_above / 100)
    return ExitCode.NONE_PASSED if worse else ExitCode.OK
