"""``your_ai compare``: what became worse between two results files."""

from __future__ import annotations

from pathlib import Path

import click

from your_ai.cli import options
from your_ai.cli.params import FILE, Number
from your_ai.errors import ExitCode
from your_ai.report.compare import compare
from your_ai.runs.results_file import load
from your_ai.terminal.comparison import FORMATS
from your_ai.terminal.output import say


@click.command(name="compare")
@click.argument("base", type=FILE)
@click.argument("new", type=FILE)
@options.option(
    "--fail-above",
    Number("PCT", "percent", "5", above_zero=False),
    "Percent by which a figure may become worse.",
    5.0,
)
@options.flag(
    "--memory-only",
    "Show speeds, and let none fail: on a machine that is shared they mean little.",
)
@options.option(
    "--format form",
    click.Choice(list(FORMATS)),
    "How to print it; markdown is for a pull request's comment.",
    "text",
)
def command(base: Path, new: Path, fail_above: float, *, memory_only: bool, form: str) -> ExitCode:
    """Compare the results file NEW with BASE: memory, speed, outcomes.

    Each is a results file, or the folder of a run.

    Exits with 1 if a trial no longer passes, or if a metric regressed by more than --fail-above and
    more than the measurement noise.
    """
    comparison = compare(load(base), load(new), memory_only=memory_only)
    say(FORMATS[form](comparison, fail_above / 100), wrapped=form == "text")
    worse = comparison.has_regression(fail_above / 100)
    return ExitCode.NONE_PASSED if worse else ExitCode.OK
