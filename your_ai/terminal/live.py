"""A terminal that can be redrawn: what runs is shown below the lines, and becomes one of them."""

from __future__ import annotations

import re
import sys
import threading
import time
from typing import TextIO, cast

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.text import Text

from worker.protocol.messages import Event
from your_ai.terminal.output import LastingStream, printable, wrap
from your_ai.terminal.screen import Screen
from your_ai.terminal.status import Task, WorkerStatus, figures, progress

_INDENT = 8
_BAR_COLUMNS = 40
_NEARLY_FULL = 0.9
_STYLES = {
    r"✓ ?\w*": "green",
    r"✗ [^(]*": "red",
    r"– (Skipped|Interrupted)": "yellow",
    r"━+": "dim",
    r"(?m)^Note:": "yellow",
    r"(?m)^ +(log:|try:|\|)": "dim",
    r"(?m)^(Recommended|Optimal):": "bold",
}


class LiveScreen(Screen):
    """Shows phase, step, speed and memory of the trial under way until its line is complete."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=cast("TextIO", LastingStream(sys.stdout)))
        self.width = self._console.width
        self._spinner = Spinner("dots" if self._console.encoding.startswith("utf") else "line")
        self._begun = ""
        self._task: Task | None = None
        self._started = 0.0
        self._status = WorkerStatus()
        self._live: Live | None = None
        self._lock = threading.Lock()

    def print(self, *texts: str) -> None:  # noqa: D102 - as in Screen
        for text in texts:
            styled = Text(wrap(printable(text), self._console.width))
            for pattern, style in _STYLES.items():
                styled.highlight_regex(pattern, style)
            self._console.print(styled, soft_wrap=True)  # a path can be copied whole

    def begin(self, text: str) -> None:  # noqa: D102
        self._begun = text

    def end(self, text: str) -> None:  # noqa: D102
        self.close()
        self.print(_joined(self._begun, text, self._console.width))
        self._begun = ""

    def track(self, task: Task) -> None:  # noqa: D102
        self._task, self._started, self._status = task, time.monotonic(), WorkerStatus()

    def on_event(self, event: Event) -> None:  # noqa: D102
        self._status = self._status.after(event)
        with self._lock:
            if self._live is not None or self._task is None:
                return
            # Not earlier than the first event: a download shows its own progress.
            live = self._live = Live(
                console=self._console,
                get_renderable=self._frame,
                refresh_per_second=8,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
        live.start()  # may block: without the lock, which `close` needs
        if self._live is not live:  # closed meanwhile
            live.stop()

    def close(self) -> None:  # noqa: D102
        live = self._live
        if live is not None:
            live.stop()  # may block, too
        with self._lock:
            self._live = self._task = None

    def _frame(self) -> RenderableType:
        task, status = self._task, self._status
        if task is None:
            return ""
        begun = self._begun if task.title else self._begun.removesuffix("... ")
        begun = _squeezed(begun, self._console.width)
        self._spinner.update(text=Text(printable(begun + task.title).rstrip()))
        full = min(status.active_bytes / task.budget_bytes, 1)
        bar = ProgressBar(
            total=1,
            completed=full,
            width=_BAR_COLUMNS,
            complete_style="red" if full > _NEARLY_FULL else "cyan",
        )
        told = [progress(task, status), figures(task, status, time.monotonic() - self._started)]
        below = Padding(Group(*map(Text, told), bar), (0, 0, 0, _INDENT), expand=False)
        # The terminal echoes ^C behind the bar: beyond the last column that would begin a new line.
        return Group(self._spinner, Constrain(below, self._console.width - len("^C")))


def _joined(begun: str, ended: str, columns: int) -> str:
    """Both halves of a line; where it would be too long, what is in brackets goes below."""
    if len(begun) + len(ended) <= columns:
        return begun + ended
    return _squeezed(begun, columns) + ended.replace(" (", f"\n{' ' * _INDENT}(", 1)


def _squeezed(begun: str, columns: int) -> str:
    """Without the padding that lines up names and numbers, where that is too much."""
    if len(begun) + len("✗ Over budget") <= columns:
        return begun
    return re.sub(r"(?<=\S) +", " ", begun).replace("( ", "(")
