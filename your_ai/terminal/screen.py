"""Where a run's lines go: nowhere, out as they come, or to a terminal that can be redrawn."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from worker.protocol.messages import Event
from your_ai.terminal.output import abandon, printable
from your_ai.terminal.status import View

WIDTH = 60


class Screen:
    """Shows nothing: the run is quiet."""

    width = WIDTH
    """Columns that a rule may take."""

    def print(self, text: str) -> None:
        """Show whole lines."""

    def begin(self, text: str) -> None:
        """Show the first half of a line, out at once: what begins now may take hours."""

    def running(self, view: View) -> None:
        """Tell what a worker is about to be run for, below the line that has begun."""

    def hear(self, event: Event) -> None:
        """Take in what the worker reports."""

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


class LastingScreen(Screen):
    """Another screen, until that can no longer be written to: that ends no run."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self.width = screen.width

    def print(self, text: str) -> None:  # noqa: D102
        self._show(lambda screen: screen.print(text))

    def begin(self, text: str) -> None:  # noqa: D102
        self._show(lambda screen: screen.begin(text))

    def running(self, view: View) -> None:  # noqa: D102
        self._show(lambda screen: screen.running(view))

    def hear(self, event: Event) -> None:  # noqa: D102
        self._show(lambda screen: screen.hear(event))

    def end(self, text: str) -> None:  # noqa: D102
        self._show(lambda screen: screen.end(text))

    def close(self) -> None:  # noqa: D102
        self._show(lambda screen: screen.close())

    def _show(self, how: Callable[[Screen], None]) -> None:
        try:
            how(self._screen)
        except OSError:  # nobody reads any more
            self._screen = Screen()
            abandon(sys.stdout)
