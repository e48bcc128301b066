"""A terminal that can be redrawn: what runs is shown below the lines, and becomes one of them."""

from __future__ import annotations

import re
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.text import Text

from worker.protocol.messages import Event
from your_ai.terminal.output import folded, printable
from your_ai.terminal.screen import Screen
from your_ai.terminal.status import Glimpse, View, flow

_INDENT = 8
_BAR_COLUMNS = 40
_NEARLY_FULL = 0.9
_STYLES = {
    r"✓ ?\w*": "green",
    r"✗ [^(]*": "red",
    r"– (Skipped|Interrupted)": "yellow",
    r"━+": "dim",
    r"^Note:": "yellow",
    r"^ +(log:|try:|\|)": "dim",
    r"^(Recommended|Optimal):": "bold",
}


class LiveScreen(Screen):
    """Shows phase, step, speed and memory of the trial under way until its line is complete."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._begun = ""
        self._view: View | None = None
        self._began = 0.0
        self._seen = Glimpse()
        self._live: Live | None = None
        self.width = self._console.width

    def print(self, text: str) -> None:  # noqa: D102 - as in Screen
        for line in printable(text).split("\n"):
            self._print(folded(line, self._console.width))

    def begin(self, text: str) -> None:  # noqa: D102
        self._begun = printable(text)

    def running(self, view: View) -> None:  # noqa: D102
        self._view, self._began = view, time.monotonic()
        self._seen = Glimpse()

    def hear(self, event: Event) -> None:  # noqa: D102
        self._seen = self._seen.heard(event)
        if self._live is None:  # not earlier: a download shows its own progress
            spinner = Spinner("dots" if self._console.encoding.startswith("utf") else "line")
            self._live = Live(
                console=self._console,
                get_renderable=lambda: self._frame(spinner),
                refresh_per_second=8,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def end(self, text: str) -> None:  # noqa: D102
        self.close()
        self._print(_joined(self._begun, printable(text), self._console.width))
        self._begun = ""

    def close(self) -> None:  # noqa: D102
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _print(self, text: str) -> None:
        styled = Text(text)
        for pattern, style in _STYLES.items():
            styled.highlight_regex(re.compile(pattern, re.MULTILINE), style)
        self._console.print(styled, soft_wrap=True)  # a path can be copied whole

    def _frame(self, spinner: Spinner) -> RenderableType:
        view, seen = self._view, self._seen
        columns = self._console.width
        begun = _squeezed(self._begun.removesuffix("... ").rstrip(), columns)
        spinner.update(text=Text(begun or printable(view.title if view else "")))
        if view is None:
            return spinner
        # The terminal echoes ^C behind the bar: beyond the last column that would begin a new line.
        room = columns - _INDENT - len("^C")
        bar = ProgressBar(
            total=view.budget_bytes,
            completed=min(seen.active_bytes, view.budget_bytes),
            width=min(_BAR_COLUMNS, room),
            complete_style="red"
            if seen.active_bytes > _NEARLY_FULL * view.budget_bytes
            else "cyan",
        )
        told = view.figures(seen, time.monotonic() - self._began)
        parts = [printable(part) for part in view.doing(seen)]
        below = [*flow(parts, room), *flow(told, room)]
        shown = [Text(line, no_wrap=True, overflow="ellipsis") for line in below]
        return Group(spinner, Padding(Group(*shown, bar), (0, 0, 0, _INDENT), expand=False))


def _joined(begun: str, ended: str, columns: int) -> str:
    """Both halves of a line; where it would be too long, what is in brackets goes below."""
    line = begun + ended
    if len(line) <= columns:
        return line
    mark, _, details = ended.partition(" (")
    below = f"{' ' * _INDENT}({details}" if details else ""
    head = _squeezed(begun, columns) + mark
    return "\n".join(folded(part, columns) for part in (head, below) if part)


def _squeezed(begun: str, columns: int) -> str:
    """Without the padding that lines up names and numbers, where that is too much."""
    if len(begun) + len("✗ Over budget") <= columns:
        return begun
    indent = begun[: len(begun) - len(begun.lstrip())]
    return indent + re.sub(r" +", " ", begun[len(indent) :]).replace("( ", "(")
