"""The screen for a terminal: shows the running trial below the lines of the finished ones."""

from __future__ import annotations

import re
import sys
import threading
import time
from datetime import UTC, datetime
from typing import TextIO, cast

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.status import Status
from rich.text import Text

from your_ai.supervision.observation import Notice
from your_ai.terminal.output import LastingStream, printable, wrap, wrap_parts
from your_ai.terminal.screen import Screen
from your_ai.terminal.status import Task, WorkerStatus, cooling, figures, outlook, progress

_INDENT = 8
_NARROW_INDENT = 4
_NARROW = 60
_BAR_COLUMNS = 40
_SPINNER_COLUMNS = 2
_OUTCOME_COLUMNS = len("✓ Pass (16.6 GB, needs 10.2 GB, 12,706 tokens/s)")
_NEARLY_FULL = 0.9
_STYLES = {
    r"✓ ?\w*": "green",
    r"✗ [^(]*": "red",
    r"– (Skipped|Interrupted)": "yellow",
    r"━+": "dim",
    r"(?m)^Note:": "yellow",
    r"(?m)^ +(log:|note:|try:|\|)": "dim",
    r"(?m)^(Recommended( so far)?|Optimal):": "bold",
}


class LiveScreen(Screen):
    """Redraws the phase, step, speed and memory of the running trial until its line is complete."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=cast("TextIO", LastingStream(sys.stdout)))
        self.width = self._console.width
        self._spinner = Spinner("dots" if self._console.encoding.startswith("utf") else "line")
        self._first_half = ""
        self._task: Task | None = None
        self._started = 0.0
        self._cool_at: float | None = None
        self._status = WorkerStatus()
        self._live: Live | None = None
        self._working: Status | None = None
        self._lock = threading.Lock()

    def print(self, *texts: str) -> None:  # noqa: D102 - see Screen
        for text in texts:
            styled = Text(wrap(printable(text), self._console.width))
            for pattern, style in _STYLES.items():
                styled.highlight_regex(pattern, style)
            self._console.print(styled, soft_wrap=True)  # keeps long paths on one line for copying

    def begin(self, text: str) -> None:  # noqa: D102
        self._first_half = text

    def end(self, text: str) -> None:  # noqa: D102
        self.close()
        self.print(_joined(self._first_half, text, self._console.width))
        self._first_half = ""

    def working(self, text: str) -> None:  # noqa: D102
        if self._working is None:
            self._working = Status("", console=self._console, spinner=self._spinner.name)
            self._working.start()
        row = Text(printable(self._first_half + text), no_wrap=True, overflow="ellipsis")
        self._working.update(row)

    def track(self, task: Task) -> None:  # noqa: D102
        self._task, self._started, self._status = task, time.monotonic(), WorkerStatus()

    def cool_down(self, seconds: float) -> None:  # noqa: D102
        self._cool_at = time.monotonic() + seconds
        self._show()

    def on_event(self, event: Notice) -> None:  # noqa: D102
        if self._cool_at is not None:
            self._cool_at, self._started = None, time.monotonic()
        self._status = self._status.after(event)
        # Not before the first event, because a download draws its own progress bar.
        self._show()

    def _show(self) -> None:
        with self._lock:
            if self._live is not None or self._task is None:
                return
            live = self._live = Live(
                console=self._console,
                get_renderable=self._frame,
                refresh_per_second=8,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
        live.start()  # may block, so not under the lock that `close` needs
        if self._live is not live:  # was closed in the meantime
            live.stop()

    def close(self) -> None:  # noqa: D102
        live = self._live
        if live is not None:
            live.stop()  # may block as well
        if self._working is not None:
            self._working.stop()
            self._working = None
        with self._lock:
            self._live = self._task = self._cool_at = None

    def _frame(self) -> RenderableType:
        task, status = self._task, self._status
        if task is None:
            return ""
        columns = self._console.width
        row = _squeezed(self._first_half + task.title, columns).removesuffix("... ")
        title = Text(printable(row).rstrip())
        full = min(status.active_bytes / task.budget_bytes, 1)
        bar = ProgressBar(
            total=1,
            completed=full,
            width=_BAR_COLUMNS,
            complete_style="red" if full > _NEARLY_FULL else "cyan",
        )
        # The terminal echoes ^C behind the bar, which must not start a new line.
        width = columns - len("^C")
        indent = _INDENT if columns >= _NARROW else _NARROW_INDENT
        left = (self._cool_at or 0.0) - time.monotonic()
        # The time of the trial begins after the pause.
        elapsed = -left if left > 0 else time.monotonic() - self._started
        now = datetime.now(UTC).astimezone()
        doing = [progress(task, status), figures(task, status, elapsed)]
        if left > 0:
            doing = [cooling(left)]
        parts = (*doing, outlook(task, status, elapsed, now))
        phase, *lines = (
            line for part in parts if part for line in wrap_parts(part, width - indent)
        )
        self._spinner.update(text=Text(phase))
        below = Padding(Group(*map(Text, lines), bar), (0, 0, 0, indent), expand=False)
        beside = Padding(self._spinner, (0, 0, 0, indent - _SPINNER_COLUMNS), expand=False)
        return Group(title, Constrain(beside, width), Constrain(below, width))


def _joined(first: str, second: str, columns: int) -> str:
    """Both halves of a line; if it is too long, the part in parentheses goes on the next line."""
    first = _squeezed(first, columns)
    if len(first) + len(second) <= columns:
        return first + second
    return first + second.replace(" (", f"\n{' ' * _INDENT}(", 1)


def _squeezed(text: str, columns: int) -> str:
    """The text without the spaces for alignment, unless the usual outcomes fit behind it."""
    if len(text) + _OUTCOME_COLUMNS <= columns:
        return text
    return re.sub(r"(?<=\S) +", " ", text).replace("( ", "(")
