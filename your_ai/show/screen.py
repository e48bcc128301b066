"""Where a run's lines go: nowhere, out as they come, or to a terminal that can be redrawn."""

from __future__ import annotations

import os
import sys

import click

from worker.protocol import Event
from your_ai.plan import Trial
from your_ai.show.terminal import printable

WIDTH = 60


class Screen:
    """Shows nothing: the run is quiet."""

    width = WIDTH
    """Columns that a rule may take."""

    def print(self, text: str) -> None:
        """Show whole lines."""

    def begin(self, text: str) -> None:
        """Show the first half of a line, out at once: what begins now may take hours."""

    def trial(self, trial: Trial, text: str, seconds_left: float | None) -> None:
        """Tell which trial is run for the line that has begun, and how long the run will take."""

    def hear(self, event: Event) -> None:
        """Take in what the trial's worker reports."""

    def end(self, text: str) -> None:
        """Show the second half of the line."""

    def close(self) -> None:
        """Leave the terminal as it was, wherever the run has stopped."""


class PlainScreen(Screen):
    """Prints line by line, for a file, a pipe, or a terminal that can no more."""

    def print(self, text: str) -> None:  # noqa: D102 - as in Screen
        self._echo(text, newline=True)

    def begin(self, text: str) -> None:  # noqa: D102
        self._echo(text, newline=False)

    def end(self, text: str) -> None:  # noqa: D102
        self._echo(text, newline=True)

    def _echo(self, text: str, *, newline: bool) -> None:
        click.echo(printable(text), nl=newline)


def open_screen(*, quiet: bool) -> Screen:
    """The best that standard output can do."""
    if quiet:
        return Screen()
    if not sys.stdout.isatty() or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return PlainScreen()
    from your_ai.show.live import LiveScreen  # only here: rich takes a while to import

    return LiveScreen()
