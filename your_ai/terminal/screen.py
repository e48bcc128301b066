"""The screens that a run is shown on, except the one in `live`."""

from __future__ import annotations

import sys

from your_ai.supervision.observation import Notice
from your_ai.terminal.output import LastingStream, printable
from your_ai.terminal.status import Task

WIDTH = 60


class Screen:
    """A screen that shows nothing, for --quiet.

    ``on_event`` may be called from another thread. ``begin``, ``track``, ``cool_down``, ``end`` and
    ``close`` are called while no worker is running.
    """

    width: int | None = None
    """Width of the terminal; ``None`` for a pipe or file."""

    @property
    def rule(self) -> str:
        """A horizontal line between two parts of the output."""
        return "━" * min(WIDTH, self.width or WIDTH)

    def heading(self, title: str) -> None:
        """Show a title between rules."""
        self.print(self.rule, title, self.rule)

    def note(self, text: str) -> None:
        """Show a note."""
        self.print(f"Note: {text}")

    def print(self, *texts: str) -> None:
        """Show each text on its own lines."""

    def begin(self, text: str) -> None:
        """Show the first half of a line immediately, since the trial may take hours."""

    def end(self, text: str) -> None:
        """Show the second half of the line."""

    def working(self, text: str) -> None:
        """Show how far something other than a trial is, behind the first half of the line.

        May be called from another thread.
        """

    def track(self, task: Task) -> None:
        """Show the progress of the next worker below the first half of the line."""

    def cool_down(self, seconds: float) -> None:
        """Show that the tracked worker starts after a pause."""

    def on_event(self, event: Notice) -> None:
        """Update the progress with an event of the worker."""

    def close(self) -> None:
        """Restore the terminal; the run may have stopped at any point."""


class PlainScreen(Screen):
    """Prints line by line, for a file, a pipe, or a terminal that cannot be redrawn."""

    def __init__(self) -> None:
        self._output = LastingStream(sys.stdout)

    def print(self, *texts: str) -> None:  # noqa: D102 - see Screen
        self.begin("".join(f"{text}\n" for text in texts))

    def begin(self, text: str) -> None:  # noqa: D102
        self._output.write(printable(text))

    def end(self, text: str) -> None:  # noqa: D102
        self.print(text)
