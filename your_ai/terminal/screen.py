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
    """Columns that a rule may take."""

    def print(self, text: str) -> None:
        """Show whole lines."""

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

    def print(self, text: str) -> None:  # noqa: D102 - as in Screen
        self.begin(f"{text}\n")

    def begin(self, text: str) -> None:  # noqa: D102
        self._output.write(printable(text))

    def end(self, text: str) -> None:  # noqa: D102
        self.print(text)
