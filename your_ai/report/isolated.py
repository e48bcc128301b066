"""Makes a report in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_MOST_SECONDS = 120.0


def write_apart(results: Path, html: Path) -> str | None:
    """Write the report of a results file; what went wrong in one line, or ``None``."""
    command = [sys.executable, "-P", "-m", "your_ai", "report", str(results), "--html", str(html)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_MOST_SECONDS,
            start_new_session=True,  # a second Ctrl-C is the run's
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"Cannot write {html}: {error}."
    if done.returncode == 0:
        return None
    last = done.stderr.strip().rpartition("\n")[2]
    return last.removeprefix("Error: ") or f"Cannot write {html}."
