"""Where a run's lines go: nowhere, or out as they come."""

from __future__ import annotations

import sys

from worker.protocol.messages import Event
from your_ai.terminal.output import LastingStream, printable
from your_ai.terminal.status import Task

WIDTH = 60


class Screen:
    """A screen that shows nothing, for a quiet run.

    A worker's events may come from a thread of their own. ``begin``, ``track``, ``end`` and
    ``close`` are called while no worker runs.
    """

    width = WIDTH
    """Columns of a terminal's line; of a rule elsewhere."""

    @property
    def rule(self) -> str:
        """A line that sets one part off from the next."""
        return "━" * min(WIDTH, self.width)

    def heading(self, title: str) -> None:
        """Show a title between rules."""
        self.print(self.rule, title, self.rule)

    def note(self, text: str) -> None:
        """Show something that the user should know."""
        self.print(f"Note: {text}")

    def print(self, *texts: str) -> None:
        """Show each on whole lines of its own."""

    def begin(self, text: str) -> None:
        """Show the first half of a line, out at once: what begins now may take hours."""

    def end(self, text: str) -> None:
        """Show the second half of the line."""

    def track(self, task: Task) -> None:
        """Show the progress of the next worker, whose task this is, below the line begun."""

    def on_event(self, event: Event) -> None:
        """Take in what the worker reports."""

    def close(self) -> None:
        """Leave the terminal as it was, wherever the run has stopped."""


class PlainScreen(Screen):
    """Prints line by line, for a file, a pipe, or a terminal that cannot be redrawn."""

    def __init__(self) -> None:
        self._output = LastingStream(sys.stdout)

    def print(self, *texts: str) -> None:  # noqa: D102 - as in Screen
        self.begin("".join(f"{text}\n" for text in texts))

    def begin(self, text: str) -> None:  # noqa: D102
        self._output.write(printable(text))

    def end(self, text: str) -> None:  # noqa: D102
        self.print(text)
