"""Choose how to write to standard output."""

from __future__ import annotations

import os
import sys

from your_ai.terminal.screen import PlainScreen, Screen


def open_screen(*, quiet: bool) -> Screen:
    """The best screen that standard output supports."""
    if quiet:
        return Screen()
    if not sys.stdout.isatty() or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return PlainScreen()
    from your_ai.terminal.live import LiveScreen  # only here: rich takes a while to import

    return LiveScreen()
